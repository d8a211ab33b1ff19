"""Calibrate a checkpoint and choose its thresholds on the development identities.

    python recipes/nano/calibrate/calibrate.py --data ../shared/data --checkpoint src/auscan/checkpoints/nano

Real faces have teacher labels. AUs that were trained but have no teacher label are calibrated on rendered
people that were not used in training. The shipped graphs are scored through the inference engine of
`auscan detect`, so the effect of int8 is included. Writes config.json and a section of the model card
(model_card.py); weights and graphs do not change. `train/run.py` calls this as its last step. Takes two
minutes.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[3]))  # the repository, for recipes and benchmarks
from auscan.core.checkpoint_folder import CARD_FILE, CONFIG_FILE, read_config, write_checksums
from auscan.core.config import Calibration, CheckpointConfig, OperatingPoints
from auscan.core.environment import atomic_path
from auscan.inference.engine import InferenceEngine
from auscan.inference.load import load_engine
from auscan.training.operating_points import CalibratedThresholds, fit_calibrated_thresholds
from recipes.nano.calibrate.array_inference import crop_pictures, score_pictures
from recipes.nano.calibrate.model_card import Development, card_text, write_section
from recipes.nano.data.real_faces import is_development
from recipes.nano.data.teacher_labels import NANO_AUS, lip_gap, teacher_targets

BEGIN = "<!-- written by recipes/nano/calibrate/calibrate.py -->"
RENDERED = range(500_000, 500_200)
"""Rendered people to calibrate on; not used in training or benchmarks."""
DIGITS = 4
"""Decimal places of every stored number."""


def main() -> None:
    """Parse arguments, calibrate, and print the text for the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with faces_train.parquet, ict_facekit.npz"
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="folder of the checkpoint, which is changed"
    )
    args = parser.parse_args()
    print(calibrate_checkpoint(args.checkpoint, args.data))


def calibrate_checkpoint(folder: Path, data: Path) -> str:
    """Write calibration, thresholds and operating points into a checkpoint. Return the text for its card."""
    engine = load_engine(folder)
    development = score_development(engine, data / "faces_train.parquet")
    trained = np.array([name not in engine.config.untrained_aus for name in engine.config.au_names])
    rendered_only = trained & ~(development.labels >= 0).any(axis=0)
    if rendered_only.any():
        development = concatenate(
            development, score_rendered(engine, data / "ict_facekit.npz", rendered_only)
        )
    calibrated = round_calibrated(fit_calibrated_thresholds(development.labels, development.logits))
    text = card_text(development, calibrated)
    write_config(folder, calibrated)
    write_section(folder / CARD_FILE, BEGIN, text)
    return text


def score_development(engine: InferenceEngine, parquet: Path) -> Development:
    """Score the pictures of the development identities; labels are the teacher's."""
    table = pd.read_parquet(parquet)
    table = table[is_development(table)]
    landmarks = np.stack([np.asarray(v, np.float32).reshape(478, 2) for v in table["landmarks"]])
    images = (cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB) for jpeg in table["jpeg"])
    crops = crop_pictures(images, engine.config.network.visual.crop_size)
    return Development(
        engine.config.au_names,
        teacher_targets(table, lip_gap(landmarks), engine.config.au_names).labels,
        score_pictures(engine, crops),
        pd.factorize(table["identity"])[0],
    )


def score_rendered(engine: InferenceEngine, ict: Path, aus: NDArray[np.bool_]) -> Development:
    """Score rendered people; labels of the AUs in `aus` [A] only."""
    from recipes.nano.render.rendered_faces import rendered_faces

    faces = list(rendered_faces(ict, 0, RENDERED))
    crops = crop_pictures((face.image for face in faces), engine.config.network.visual.crop_size)
    columns = [NANO_AUS.index(name) for name in engine.config.au_names]
    labels = np.where(aus, np.stack([face.labels[columns] for face in faces]), -1).astype(np.int8)
    person = np.array([face.person for face in faces]) - RENDERED[0]
    logits = score_pictures(engine, crops)
    return Development(engine.config.au_names, labels, logits, person, len(faces))


def concatenate(real: Development, rendered: Development) -> Development:
    """Concatenate two sets of faces of different people."""
    return Development(
        real.au_names,
        np.concatenate([real.labels, rendered.labels]),
        np.concatenate([real.logits, rendered.logits]),
        np.concatenate([real.person, rendered.person + real.person.max() + 1]),
        rendered.rendered,
    )


def round_calibrated(calibrated: CalibratedThresholds) -> CalibratedThresholds:
    """Round to the stored number of digits."""

    def rounded(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(round(value, DIGITS) for value in values)

    calibration = Calibration(
        scale=rounded(calibrated.calibration.scale), shift=rounded(calibrated.calibration.shift)
    )
    points = OperatingPoints(**{k: rounded(v) for k, v in calibrated.operating_points.model_dump().items()})
    return CalibratedThresholds(calibration, rounded(calibrated.thresholds), points)


def write_config(folder: Path, calibrated: CalibratedThresholds) -> None:
    """Write calibration and thresholds into config.json and update the checksums."""
    changed = read_config(folder).model_copy(update=dict(vars(calibrated)))
    CheckpointConfig.model_validate(changed.model_dump())
    with atomic_path(folder / CONFIG_FILE) as file:
        file.write_text(changed.to_json(), encoding="utf-8")
    write_checksums(folder)


if __name__ == "__main__":
    main()
