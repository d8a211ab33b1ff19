r"""Measure the accuracy of `auscan detect` on faces, clips and rendered people not used in training.

    python benchmarks/accuracy/accuracy.py --data ../shared/data  # needs data that are not included
    python benchmarks/accuracy/accuracy.py --data ../shared/data --model src/auscan/checkpoints/nano --card \
        --write docs/benchmarks/accuracy.md  # needs data that are not included

1. Pictures of `faces_val.parquet`: agreement with the teacher, also by head pose and picture quality.
2. Held-out clips: agreement with the teacher, pooled, and correlation with it within a clip.
3. Rendered people, a quarter of the pictures with an occluder: exact labels; also by head pose, occlusion,
   glasses and skin lightness.

The script writes the pictures into a folder, runs `auscan detect --keep-all` and reads its tables. The
teacher is a model, MediaPipe Face Landmarker: 1 and 2 measure agreement with it, not accuracy against human
coders. AUC, F1 at the checkpoint's thresholds and ECE (expected calibration error) are over all faces that
were found, including low quality. f1_scored is over the faces that are scored without --keep-all.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for recipes and benchmarks
from auscan.core.checkpoint_folder import CARD_FILE, find_checkpoint, read_config
from auscan.core.environment import versions
from auscan.results.table import BOX_COLUMNS, active_columns, read_result_table
from benchmarks.accuracy.held_out_data import (
    LabelledPictures,
    Truth,
    held_out_clips,
    real_faces,
    rendered_faces,
)
from benchmarks.accuracy.metric_tables import au_metrics, markdown, page, within_clips
from recipes.nano.calibrate.model_card import write_section

FIRST_EIGHT = ("AU01", "AU02", "AU04", "AU07", "AU10", "AU12", "AU25", "AU26")
ALL_TEN = (*FIRST_EIGHT, "AU15", "AU24")
FORMS = {"positives": ".1%", "found": ".1%", "scored": ".1%", "clips": ".0f", "pictures": ".0f", "AUs": ".0f"}
FORMS |= dict.fromkeys(("auc", "f1", "f1_scored", "ece", "r", "rank", "r_logit"), ".3f")
LEAD = (
    "Agreement of `auscan detect` with a teacher model on faces and clips, and accuracy on rendered people "
    "with exact labels. None of them were used in training."
)
CARD_BEGIN = "<!-- written by benchmarks/accuracy/accuracy.py -->"
PERSONS, OCCLUDED = 250, 0.25
"""Number of rendered people, four pictures each, and share of pictures with an occluder."""


def main() -> None:
    """Run the selected parts and print their tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with faces_val.parquet, clips/, ict_facekit.npz"
    )
    parser.add_argument("--model", default="nano", help="name or folder of a checkpoint")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    parser.add_argument("--every", type=int, default=1, help="use every n-th face, for a quick run")
    parser.add_argument("--write", type=Path, help="also write the tables into this file")
    parser.add_argument(
        "--card", action="store_true", help="also write the tables into the card of --model, a folder"
    )
    args = parser.parse_args()
    lines = [line for part in args.only for line in PARTS[part](args.data, args.model, args.every)]
    print(*lines, sep="\n")
    if args.write:
        used = ", ".join(f"{name} {number}" for name, number in versions().items())
        note = f"Model: {args.model}. {used}."
        args.write.write_text(page("Accuracy", LEAD, lines, __doc__ or "", note), encoding="utf-8")
    if args.card:
        text = "\n".join("#" + line if line.startswith("#") else line for line in lines)
        write_section(Path(args.model) / CARD_FILE, CARD_BEGIN, text.strip())


def faces_part(data: Path, model: str, every: int) -> list[str]:
    """Return the tables of the held-out faces, as Markdown lines."""
    faces, names = real_faces(data, every), au_names_of(model)
    found, labels = detect_pictures(faces, model), faces.truth.of(names).labels
    scores = agreement(found, labels, names)
    lines = ["## Faces of `faces_val.parquet`", "", *with_mean(scores), ""]
    for title, of_mean in (("eight", FIRST_EIGHT), ("ten", ALL_TEN)):
        mean = scores.reindex(list(of_mean))["auc"].mean()
        lines.append(f"Mean AUC over {title} ({', '.join(of_mean)}): {mean:.4f}.  ")
    groups = {**pose_groups(faces.about, (10, 20)), **quality_groups(found)}
    return [*lines, found_line(found), "", *by_group(groups, found, labels, names), ""]


def clips_part(data: Path, model: str, every: int) -> list[str]:
    """Return the tables of the held-out clips, as Markdown lines; `every` has no effect."""
    clips, au_names = held_out_clips(data), au_names_of(model)
    truths = [clip.truth.of(au_names) for clip in clips]
    tables = detect_files([clip.path for clip in clips], model)
    matched = [match(table, clip.truth) for table, clip in zip(tables, clips, strict=True)]
    scores = agreement(pd.concat(matched), np.concatenate([truth.labels for truth in truths]), au_names)
    pairs = zip(matched, truths, strict=True)
    within = within_clips(
        ((table[list(au_names)].to_numpy(np.float64), t.scores, t.soft) for table, t in pairs), au_names
    )
    names = ", ".join(clip.path.stem for clip in clips)
    note = (
        f"{sum(map(len, matched))} frames; the teacher's face was found in "
        f"{pd.concat(matched)['success'].mean():.2%}. Correlations are within a clip, averaged over the "
        "`clips` in which the teacher varies: r of probability and teacher score, rank of their ranks, "
        "r_logit of their logits."
    )
    lines = [f"## Held-out clips ({names})", "", *with_mean(scores.join(within)), ""]
    return [*lines, *textwrap.wrap(note, 110), ""]


def rendered_part(data: Path, model: str, every: int) -> list[str]:
    """Return the tables of the rendered people, as Markdown lines."""
    faces = rendered_faces(data, PERSONS // every, OCCLUDED)
    found = detect_pictures(faces, model)
    names = au_names_of(model)
    labels, about = faces.truth.of(names).labels, faces.about
    lightness = about["lightness"].to_numpy()
    dark, light = np.quantile(lightness, [1 / 3, 2 / 3])
    groups = {
        **pose_groups(about, (15, 30, 45)),
        "no occluder": (about["covered"] == 0).to_numpy(),
        "up to a quarter covered": about["covered"].between(0, 0.25, inclusive="neither").to_numpy(),
        "a quarter and more covered": (about["covered"] >= 0.25).to_numpy(),
        **{f"{kind} glasses": (about["glasses"] == kind).to_numpy() for kind in ("clear", "dark")},
        "no glasses": (about["glasses"] == "none").to_numpy(),
        f"skin darker than L* {dark:.0f} (third)": lightness < dark,
        f"skin of L* {dark:.0f} to {light:.0f} (third)": (lightness >= dark) & (lightness < light),
        f"skin lighter than L* {light:.0f} (third)": lightness >= light,
        **quality_groups(found),
    }
    lines = ["## Rendered people", "", *with_mean(agreement(found, labels, names)), "", found_line(found), ""]
    return [*lines, *by_group(groups, found, labels, names), ""]


PARTS = {"faces": faces_part, "clips": clips_part, "rendered": rendered_part}


def au_names_of(model: str) -> tuple[str, ...]:
    """Return the AUs of a checkpoint."""
    return read_config(find_checkpoint(model)).au_names


def detect_pictures(pictures: LabelledPictures, model: str) -> pd.DataFrame:
    """Run `auscan detect` on pictures. Return the most confident face of each; NaN if none was found."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for row, encoded in enumerate(pictures.encoded):
            suffix = "jpg" if encoded.startswith(b"\xff\xd8") else "png"
            files.append(Path(folder) / f"{row:05d}.{suffix}")
            files[-1].write_bytes(encoded)
        tables = detect_files(files, model, Path(folder))
    return pd.concat([table.nlargest(1, "confidence") for table in tables], ignore_index=True)


def detect_files(files: Sequence[Path], model: str, whole: Path | None = None) -> list[pd.DataFrame]:
    """Run `auscan detect` on files. Return their tables. whole: a folder that holds exactly these files."""
    inputs = [str(file) for file in files] if whole is None else [str(whole)]
    with tempfile.TemporaryDirectory() as out:
        command = ["auscan", "detect", *inputs, "--out", out, "--model", model, "--keep-all"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return [read_result_table(Path(out) / file.stem / "aus.parquet") for file in files]


def match(table: pd.DataFrame, truth: Truth) -> pd.DataFrame:
    """Match our faces with the teacher's: the row of its face in each frame [T], NaN if there is none.

    A face matches if the mean of the teacher's five points lies in its box; if several do, the box with the
    nearest centre.
    """
    middle = truth.points.mean(axis=1)  # [T, 2]
    box = table[list(BOX_COLUMNS)].to_numpy(np.float64)
    frame = table["frame"].to_numpy()
    inside = frame < len(middle)
    off = np.full(box[:, :2].shape, np.inf)
    off[inside] = np.abs(box[inside, :2] + box[inside, 2:] / 2 - middle[frame[inside]]) / box[inside, 2:]
    near = table.assign(off=off.max(axis=1))
    near = near[near["off"] < 0.5].sort_values("off").drop_duplicates("frame").set_index("frame")
    matched = near.reindex(np.arange(len(middle)))
    return matched.assign(success=matched["success"].fillna(0))


def agreement(found: pd.DataFrame, labels: NDArray[np.integer], au_names: Sequence[str]) -> pd.DataFrame:
    """Compute positives, auc, f1, f1_scored and ece of each AU with labels, over the rows with a face."""
    probabilities, active = (
        found[list(columns)].to_numpy(np.float64) for columns in (au_names, active_columns(au_names))
    )
    scores = au_metrics(labels, probabilities, active, au_names)
    active[found["reason"] != ""] = np.nan
    scores.insert(3, "f1_scored", au_metrics(labels, probabilities, active, au_names)["f1"])
    return scores


def pose_groups(about: pd.DataFrame, cuts: Sequence[int]) -> dict[str, NDArray[np.bool_]]:
    """Return masks [n] of pictures by head pose."""
    yaw, pitch = about["yaw"].abs().to_numpy(), about["pitch"].abs().to_numpy()
    ends = [0, *cuts, 180]
    groups = {
        f"head turned {low} to {high} degrees" if high < 180 else f"head turned more than {low} degrees": (
            (yaw >= low) & (yaw < high)
        )
        for low, high in itertools.pairwise(ends)
    }
    return {**groups, f"head up or down more than {cuts[0]} degrees": pitch >= cuts[0]}


def quality_groups(found: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Return masks [n] of pictures by the quality in the table of `auscan detect`."""
    quality = found["quality"].to_numpy(np.float64)
    return {
        "quality below 0.5 (not scored)": quality < 0.5,
        "quality 0.5 to 0.9": (quality >= 0.5) & (quality < 0.9),
        "quality 0.9 and more": quality >= 0.9,
    }


def found_line(found: pd.DataFrame) -> str:
    """Return a sentence with the share of pictures in which a face was found."""
    share = (found["success"] == 1).mean()
    return f"Faces found in {share:.2%} of {len(found)} pictures. By group, mean over its AUs:"


def by_group(
    groups: dict[str, NDArray[np.bool_]],
    found: pd.DataFrame,
    labels: NDArray[np.integer],
    au_names: Sequence[str],
) -> list[str]:
    """Return a table of groups: pictures, shares found and scored, mean AUC, F1 and ECE over its AUs."""
    rows = {}
    for name, inside in groups.items():
        if not inside.any():
            continue
        scores, part = agreement(found[inside], labels[inside], au_names), found[inside]
        scored = (part["reason"] == "").mean()
        means = scores[["auc", "f1", "f1_scored", "ece"]].mean()
        rows[name] = (inside.sum(), (part["success"] == 1).mean(), scored, len(scores), *means)
    columns = ["pictures", "found", "scored", "AUs", "auc", "f1", "f1_scored", "ece"]
    return markdown(pd.DataFrame.from_dict(rows, orient="index", columns=columns), "group", FORMS)


def with_mean(scores: pd.DataFrame) -> list[str]:
    """Return the table with a row of means, as Markdown lines."""
    mean = scores.mean().to_frame("mean").T
    return markdown(pd.concat([scores, mean]), "AU", FORMS)


if __name__ == "__main__":
    main()
