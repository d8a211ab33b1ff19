"""How well auscan does on faces, clips and rendered people that it never saw, through `auscan detect`.

    python benchmarks/accuracy.py --data ../shared/data
    python benchmarks/accuracy.py --data ../shared/data --model PATH --write docs/benchmarks/accuracy.md

1. Pictures of `faces_val.parquet`: agreement with the teacher, also by head pose and picture quality.
2. The clips that no training step saw: agreement with the teacher, pooled, and its correlation within a clip.

Files are written into a folder, `auscan detect` is run on them as a user would, and its tables are read. The
teacher is MediaPipe Face Landmarker, a model; this is agreement with it, not accuracy against human coders.
ECE is the expected calibration error of the probabilities; F1 is at the thresholds of the checkpoint.
"""

import argparse
import subprocess
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from measures import markdown, measures, within_clips
from numpy.typing import NDArray
from sources import Teacher, judged_clips, judged_faces

from auscan.core.aus import AU_NAMES
from auscan.core.version import versions
from auscan.results.table import ACTIVE_COLUMNS, BOX_COLUMNS, read_result_table

FIRST_EIGHT = ("AU01", "AU02", "AU04", "AU07", "AU10", "AU12", "AU25", "AU26")
ALL_TEN = (*FIRST_EIGHT, "AU15", "AU24")
FORMS = {"positives": ".1%", "auc": ".3f", "f1": ".3f", "ece": ".3f", "r": ".3f", "rank": ".3f"}
FORMS |= {"r_logit": ".3f", "clips": ".0f", "pictures": ".0f", "found": ".1%"}


def main() -> None:
    """Run the parts that were asked for and print their tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with faces_val.parquet and clips/")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--only", choices=("faces", "clips"), help="one part alone")
    parser.add_argument("--every", type=int, default=1, help="only every n-th picture, for a quick look")
    parser.add_argument("--write", type=Path, help="also write the tables into this file")
    args = parser.parse_args()
    lines = []
    if args.only in (None, "faces"):
        lines += faces_part(args.data, args.model, args.every)
    if args.only in (None, "clips"):
        lines += clips_part(args.data, args.model)
    print(*lines, sep="\n")
    if args.write:
        used = ", ".join(f"{name} {number}" for name, number in versions().items())
        head = ["# Accuracy", "", (__doc__ or "").strip(), "", f"Model: {args.model}. {used}.", ""]
        args.write.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")


def faces_part(data: Path, model: str, every: int) -> list[str]:
    """The tables of part 1, as Markdown lines."""
    faces, teacher = judged_faces(data, every)
    with tempfile.TemporaryDirectory() as folder:
        found = detect_pictures(faces["jpeg"].tolist(), Path(folder), model)
    scores = agreement(found, teacher.labels)
    lines = ["## Faces of `faces_val.parquet`", "", *with_mean(scores), ""]
    for title, names in (("eight", FIRST_EIGHT), ("ten", ALL_TEN)):
        mean = scores.reindex(list(names))["auc"].mean()
        lines.append(f"Mean AUC over {title} ({', '.join(names)}): {mean:.4f}.  ")
    share = (found["success"] == 1).mean()
    lines += [f"Faces found in {share:.2%} of {len(found)} pictures.", "", "By group, means over AUs:", ""]
    return [*lines, *by_group(face_groups(faces, found), found, teacher.labels), ""]


def clips_part(data: Path, model: str) -> list[str]:
    """The tables of part 2, as Markdown lines."""
    clips = judged_clips(data)
    with tempfile.TemporaryDirectory() as folder:
        tables = detect_files(list(clips), Path(folder), model)
    matched = [match(table, teacher) for table, teacher in zip(tables, clips.values(), strict=True)]
    labels = np.concatenate([teacher.labels for teacher in clips.values()])
    scores = agreement(pd.concat(matched), labels)
    within = within_clips(
        (table[list(AU_NAMES)].to_numpy(np.float64), teacher.scores, teacher.soft)
        for table, teacher in zip(matched, clips.values(), strict=True)
    )
    names = ", ".join(path.stem for path in clips)
    seen = pd.concat(matched)["success"].mean()
    return [
        f"## Held-out clips ({names})",
        "",
        *with_mean(scores.join(within)),
        "",
        *textwrap.wrap(
            f"{len(labels)} frames, the teacher's face found in {seen:.2%}. Correlation within a clip, mean "
            "over the `clips` in which the teacher varies: r of probability and the teacher's score, rank of "
            "their ranks, r_logit of their logits.",
            110,
        ),
        "",
    ]


def detect_pictures(jpegs: Sequence[bytes], folder: Path, model: str) -> pd.DataFrame:
    """The surest face of each picture, a row a picture in order; NaN where none was found."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for row, jpeg in enumerate(jpegs):
        (pictures / f"{row:05d}.jpg").write_bytes(jpeg)
    command = ["auscan", "detect", str(pictures), "--out", str(folder / "out"), "--model", model]
    command.append("--keep-all")  # F1 counts all faces, the hard ones too
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tables = [read_result_table(folder / "out" / f"{row:05d}" / "aus.parquet") for row in range(len(faces))]
    return pd.concat([table.nlargest(1, "confidence") for table in tables], ignore_index=True)


def detect_files(files: Sequence[Path], folder: Path, model: str) -> list[pd.DataFrame]:
    """What `auscan detect` writes about each file; all lie in one folder."""
    inputs = [str(files[0].parent)] if len(files) > 100 else [str(file) for file in files]
    command = ["auscan", "detect", *inputs, "--out", str(folder / "out"), "--model", model]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return [read_result_table(folder / "out" / file.stem / "aus.parquet") for file in files]


def match(table: pd.DataFrame, teacher: Teacher) -> pd.DataFrame:
    """For each of the teacher's frames the row of the same face, NaN where there is none: [T] rows.

    The same: the middle of the teacher's five points lies in the box, nearest to the box's middle.
    """
    middle = teacher.points.mean(axis=1)  # [T, 2]
    box = table[list(BOX_COLUMNS)].to_numpy(np.float64)
    frame = table["frame"].to_numpy()
    inside = frame < len(middle)
    off = np.full(box[:, :2].shape, np.inf)
    off[inside] = np.abs(box[inside, :2] + box[inside, 2:] / 2 - middle[frame[inside]]) / box[inside, 2:]
    near = table.assign(off=off.max(axis=1))
    near = near[near["off"] < 0.5].sort_values("off").drop_duplicates("frame").set_index("frame")
    matched = near.reindex(np.arange(len(middle)))
    return matched.assign(success=matched["success"].fillna(0))


def agreement(found: pd.DataFrame, labels: NDArray[np.integer]) -> pd.DataFrame:
    """A row for each AU with labels, over the rows with a face: positives, auc, f1, ece."""
    return measures(
        labels,
        found[list(AU_NAMES)].to_numpy(np.float64),
        found[list(ACTIVE_COLUMNS)].to_numpy(np.float64),
    )


def face_groups(faces: pd.DataFrame, found: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Which pictures are of each group: [n] bool by name."""
    yaw, pitch = faces["yaw"].abs().to_numpy(), faces["pitch"].abs().to_numpy()
    groups = {
        "head turned less than 10 degrees": yaw < 10,
        "10 to 20": (yaw >= 10) & (yaw < 20),
        "more than 20": yaw >= 20,
        "head up or down more than 10 degrees": pitch >= 10,
    }
    if "quality" in found:
        quality = found["quality"].to_numpy(np.float64)
        low, high = np.nanquantile(quality, [1 / 3, 2 / 3])
        groups |= {
            f"quality below {low:.2f} (lowest third)": quality < low,
            f"quality above {high:.2f} (highest third)": quality > high,
        }
    return groups


def by_group(
    groups: dict[str, NDArray[np.bool_]], found: pd.DataFrame, labels: NDArray[np.integer]
) -> list[str]:
    """A row for each group: pictures, share found, mean AUC, F1 and ECE over the AUs that it can judge."""
    rows = {}
    for name, inside in groups.items():
        scores = agreement(found[inside], labels[inside])
        share = (found.loc[inside, "success"] == 1).mean()
        rows[name] = (inside.sum(), share, len(scores), *scores[["auc", "f1", "ece"]].mean())
    columns = ["pictures", "found", "AUs", "auc", "f1", "ece"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return markdown(table, "group", {**FORMS, "AUs": ".0f"})


def with_mean(scores: pd.DataFrame) -> list[str]:
    """The table with its means below, as Markdown lines."""
    table = scores.reindex([name for name in AU_NAMES if name in scores.index])
    mean = table.mean().to_frame("mean").T
    return markdown(pd.concat([table, mean]), "AU", FORMS)


if __name__ == "__main__":
    main()
