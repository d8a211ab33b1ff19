"""Calibrate a checkpoint and choose its thresholds on the development identities.

    python recipes/nano/calibrate.py --data ../shared/data --checkpoint src/auscan/checkpoints/nano

Real faces with the teacher's labels decide. AUs that the checkpoint was taught though no real face is
labelled for them are left to rendered people (rendered_faces.py) that no training step sees either.

`train.py` does the same at its end. The graphs that ship are asked, through the product's own stages, so
that what int8 changes is in. Writes config.json and the part of the model card that begins with `BEGIN`;
weights and graphs stay as they are. Takes two minutes.
"""

import argparse
import textwrap
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from auscan.core.aus import AU_NAMES
from auscan.core.config import UNCALIBRATED, Calibration, CheckpointConfig, OperatingPoints
from auscan.core.folder import CARD_FILE, CONFIG_FILE, read_config
from auscan.core.sums import write_sums
from auscan.inference.probabilities import calibrate
from auscan.inference.stages import Stages, load
from auscan.results.atomic import atomic_path
from auscan.training.metrics import calibration_error
from auscan.training.operating import POINTS, Readout, Said, fit_readout, read_by_others
from card import write_part
from face_data import is_development
from labels import lip_gap, teacher_targets
from reading import cut_pictures, read_pictures

BEGIN = "<!-- written by recipes/nano/calibrate.py -->"
RENDERED = range(500_000, 500_200)
"""Rendered people to choose by: far from those of training, and none of those of the benchmarks."""
DIGITS = 4
"""Of every number that is stored."""


@dataclass(frozen=True)
class Development:
    """Faces of people that no training step saw."""

    labels: NDArray[np.int8]
    """[n, 12]."""
    logits: NDArray[np.float32]
    """[n, 12]; NaN where no face was found."""
    person: NDArray[np.int64]
    """[n] from 0."""
    rendered: int = 0
    """The last so many faces are rendered."""


def main() -> None:
    """Read the command line, calibrate, print what went into the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with faces_train.parquet, ict_facekit.npz"
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="its folder, which is written to")
    args = parser.parse_args()
    print(calibrate_checkpoint(args.checkpoint, args.data))


def calibrate_checkpoint(folder: Path, data: Path) -> str:
    """Write calibration, thresholds and operating points into a checkpoint; returns the text for its card."""
    stages = load(folder)
    development = read_development(stages, data / "faces_train.parquet")
    taught = np.array([name not in stages.config.untaught for name in AU_NAMES])
    alone = taught & ~(development.labels >= 0).any(axis=0)
    if alone.any():
        development = joined(development, read_rendered(stages, data / "ict_facekit.npz", alone))
    readout = rounded(fit_readout(development.labels, development.logits))
    text = card_text(development, readout)
    write_config(folder, readout)
    write_part(folder / CARD_FILE, BEGIN, text)
    return text


def read_development(stages: Stages, parquet: Path) -> Development:
    """What the product says of the pictures of the development identities, and what the teacher does."""
    table = pd.read_parquet(parquet)
    table = table[is_development(table)]
    landmarks = np.stack([np.asarray(v, np.float32).reshape(478, 2) for v in table["landmarks"]])
    images = (cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB) for jpeg in table["jpeg"])
    cut = cut_pictures(images, stages.config.network.visual.crop_size)
    return Development(
        teacher_targets(table, lip_gap(landmarks)).labels,
        read_pictures(stages, cut),
        pd.factorize(table["identity"])[0],
    )


def read_rendered(stages: Stages, ict: Path, aus: NDArray[np.bool_]) -> Development:
    """What the product says of rendered people, with labels of some AUs only. aus: [12] which."""
    from rendered_faces import rendered_faces

    faces = list(rendered_faces(ict, 0, RENDERED))
    cut = cut_pictures((face.image for face in faces), stages.config.network.visual.crop_size)
    labels = np.where(aus, np.stack([face.labels for face in faces]), -1).astype(np.int8)
    person = np.array([face.person for face in faces]) - RENDERED[0]
    return Development(labels, read_pictures(stages, cut), person, len(faces))


def joined(real: Development, rendered: Development) -> Development:
    """Both, as different people."""
    return Development(
        np.concatenate([real.labels, rendered.labels]),
        np.concatenate([real.logits, rendered.logits]),
        np.concatenate([real.person, rendered.person + real.person.max() + 1]),
        rendered.rendered,
    )


def rounded(readout: Readout) -> Readout:
    """To as many digits as are stored."""

    def short(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(round(value, DIGITS) for value in values)

    calibration = Calibration(scale=short(readout.calibration.scale), shift=short(readout.calibration.shift))
    points = OperatingPoints(**{k: short(v) for k, v in readout.operating_points.model_dump().items()})
    return Readout(calibration, short(readout.thresholds), points)


def write_config(folder: Path, readout: Readout) -> None:
    """Put the readout into config.json, and its new sum on record."""
    changed = read_config(folder).model_copy(update=dict(vars(readout)))
    CheckpointConfig.model_validate(changed.model_dump())
    with atomic_path(folder / CONFIG_FILE) as file:
        file.write_text(changed.model_dump_json(indent=2) + "\n", encoding="utf-8")
    write_sums(folder)


def card_text(development: Development, readout: Readout) -> str:
    """What the card says: agreement, calibration error before and after, thresholds, worth of each point.

    All but AUC and the thresholds is by cross-fitting: each fifth of the people is judged by what the other
    four fifths chose.
    """
    said = read_by_others(development.labels, development.logits, development.person)
    real = slice(0, len(development.labels) - development.rendered)
    found = ~np.isnan(development.logits[real]).all(axis=1)
    table = agreement_table(development, said)
    mean = table.mean()
    people = development.person[real].max() + 1
    about = (
        f"On {found.sum()} faces of {people} people kept aside from training, found in {found.mean():.1%} of "
        "their pictures. ECE is the expected calibration error (15 bins), before and after Platt scaling. "
        "ECE, F1 and the second table are by cross-fitting over people: each fifth is judged by the "
        "calibration and thresholds that the other four fifths chose. The last columns are thresholds on "
        "calibrated probabilities."
    )
    if development.rendered:
        only = ~(development.labels[real] >= 0).any(axis=0) & (development.labels >= 0).any(axis=0)
        names = ", ".join(np.asarray(AU_NAMES)[only])
        about += f" {names}: on {development.rendered} rendered faces of other people, by exact labels."
    last = (f"{mean[column]:.3f}" for column in ("auc", "before", "after", "f1"))
    return "\n".join(
        [
            *textwrap.wrap(about, 110),
            "",
            *agreement_lines(table, readout),
            f"| mean | | {' | '.join(last)} | | | | |",
            "",
            *point_lines(development, said),
        ]
    )


def agreement_table(development: Development, said: Said) -> pd.DataFrame:
    """A row an AU with labels: base rate, AUC, calibration error before and after, F1."""
    rows = {}
    plain = calibrate(development.logits, UNCALIBRATED)
    for j, name in enumerate(AU_NAMES):
        known = (development.labels[:, j] >= 0) & ~np.isnan(development.logits[:, j])
        if known.any():
            truth = development.labels[known, j]
            rows[name] = {
                "positives": truth.mean(),
                "auc": roc_auc_score(truth, development.logits[known, j]),
                "before": calibration_error(truth, plain[known, j]),
                "after": calibration_error(truth, said.probabilities[known, j]),
                "f1": f1_score(truth, said.active["default"][known, j]),
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def agreement_lines(table: pd.DataFrame, readout: Readout) -> list[str]:
    """The first table, as Markdown lines."""
    titles = ("AU", "positives", "AUC", "ECE before", "after", "F1", *POINTS)
    lines = ["| " + " | ".join(titles) + " |", "| --- " * len(titles) + "|"]
    for j, name in enumerate(AU_NAMES):
        if name not in table.index:
            lines.append(f"| {name} | - | not taught" + " | -" * (len(titles) - 3) + " |")
            continue
        row = table.loc[name]
        cuts = " | ".join(f"{readout.at(point)[j]:.2f}" for point in POINTS)
        lines.append(
            f"| {name} | {row['positives']:.1%} | {row['auc']:.3f} | {row['before']:.3f} | "
            f"{row['after']:.3f} | {row['f1']:.3f} | {cuts} |"
        )
    return lines


def point_lines(development: Development, said: Said) -> list[str]:
    """What each operating point is worth: precision, recall and specificity, means over AUs."""
    lines = [
        "| operating point | precision | recall (sensitivity) | specificity | marked active |",
        "| --- | --- | --- | --- | --- |",
    ]
    for point in POINTS:
        rows = []
        for j in range(len(AU_NAMES)):
            known = (development.labels[:, j] >= 0) & ~np.isnan(development.logits[:, j])
            if known.any():
                truth, active = development.labels[known, j], said.active[point][known, j]
                rows.append(
                    (
                        precision_score(truth, active),
                        recall_score(truth, active),
                        recall_score(truth, active, pos_label=0),
                        active.mean(),
                    )
                )
        precision, recall, specificity, share = np.mean(rows, axis=0)
        lines.append(f"| {point} | {precision:.2f} | {recall:.2f} | {specificity:.2f} | {share:.1%} |")
    return lines


if __name__ == "__main__":
    main()
