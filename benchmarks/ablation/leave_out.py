r"""Ablate nano's training data: short trainings, each without one source.

    python benchmarks/ablation/leave_out.py --data ../shared/data --run runs/nano \
        --write docs/benchmarks/data.md  # needs data that are not included

Stage 1 is trained for some steps on all data, then without rendered faces, without teacher scores on real
faces (their landmarks stay), without frames of clips, and without augmentation. Stage 2 is trained on the
finished stage 1 of `--run`, without real clips and without rendered clips; the stage 2 of the run had both.

Inputs: the data folder, and caches and finished stages of a run (recipes/nano/train/run.py).
Returns: two tables.
See also: run.py (parts of the network), recipes/nano/train/face_stage.py (variants of nano).
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for recipes and benchmarks
from auscan.core.config import NetworkConfig
from auscan.faces.align import SIDE, crop_face
from auscan.model.network import AuscanNetwork
from benchmarks.accuracy.corruptions import corrupt
from benchmarks.accuracy.metric_tables import markdown, page
from recipes.nano.data.real_clips import (
    DEVELOPMENT,
    Frames,
    development_tracks,
    load_clips,
    single_frames,
    training_tracks,
)
from recipes.nano.data.real_faces import Faces
from recipes.nano.data.teacher_labels import NANO_AUS, RULES
from recipes.nano.render.rendered_clips import load_rendered_clips
from recipes.nano.render.rendered_faces import TEST, RenderedArrays, load_rendered
from recipes.nano.train import face_batches
from recipes.nano.train.clip_stage import MOUTH_AUS, development_scores, mean_auc, train_clips
from recipes.nano.train.clip_windows import ClipSettings, encode_tracks
from recipes.nano.train.face_stage import FaceSettings, FaceTraining, predict_crops, train_faces
from recipes.nano.train.run import network_config, read_training_faces

TITLE = "Training data: what each source contributes"
LEAD = "Accuracy of nano after short trainings on all data, and on all data except one source."
STEPS = 860
"""Steps of stage 1: two passes over the real faces, which make up a third of a batch."""
SHORT = FaceSettings(rate=2e-3, average=0.99)
"""Settings of stage 1 for few steps: shorter warm-up and weight average."""
HARD = ("mouth covered", "eyes covered", "blur", "darkness", "compression")
"""Corruptions of real faces."""
LEVEL = 2
"""Level of corruption."""
TURNED_DEG = 30
"""Yaw above which a rendered head counts as turned, degrees."""
AUDIO_NAMES = {"own": "own audio", "none": "no audio", "other": "other audio"}
DIRECT = [j for j, name in enumerate(NANO_AUS) if name in RULES]
"""Columns of the AUs with a teacher score."""


@dataclass(frozen=True)
class TrainingData:
    """Data of one short training of stage 1."""

    faces: Faces
    rendered: RenderedArrays | None
    frames: Frames | None
    corruption: AbstractContextManager[object] = field(default_factory=nullcontext)
    """Context of the training; replaces the augmentation."""


def main() -> None:
    """Run missing trainings and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="data folder, as for recipes/nano/train/run.py"
    )
    parser.add_argument("--run", type=Path, required=True, help="a finished run of recipes/nano/train/run.py")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of stage 1")
    parser.add_argument("--only", choices=["faces", "clips"], help="make only one of the two tables")
    parser.add_argument("--write", type=Path, help="also write the tables into this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    if args.only != "clips":
        lines += ["## Faces", "", *faces_table(args.data, args.run, args.steps), ""]
    if args.only != "faces":
        lines += ["## Clips", "", *clips_table(args.data, args.run), ""]
    print(*lines, sep="\n")
    if args.write:
        args.write.write_text(page(TITLE, LEAD, lines, __doc__ or ""), encoding="utf-8")


def faces_table(data: Path, run: Path, steps: int) -> list[str]:
    """Return the table of stage 1 with everything and without each source, as Markdown lines."""
    faces = read_training_faces(data, run)
    rendered = load_rendered(data / "ict_facekit.npz", run / "rendered.npz")
    people = load_rendered(data / "ict_facekit.npz", run / "rendered_test.npz", TEST[:150])
    frames = single_frames(training_tracks(load_clips(data, run / "clips")))
    rows = {}
    for name, training_data in training_sets(faces, rendered, frames).items():
        own = run / "leave_out" / name.replace(" ", "-")
        own.mkdir(parents=True, exist_ok=True)
        settings = replace(
            SHORT,
            rendered=SHORT.rendered if training_data.rendered else 0,
            frames=SHORT.frames if training_data.frames else 0,
        )
        settings = replace(settings, epochs=epochs_for(steps, faces, settings))
        with training_data.corruption:
            weights = train_faces(
                training_data.faces,
                training_data.rendered,
                training_data.frames,
                network_config(),
                settings,
                own,
            )
        rows[name] = face_scores(weights, faces, people)
        print(name, rows[name], flush=True)
    note = (
        f"{steps} steps each. Real faces: agreement with the teacher on the development faces, ROC-AUC of "
        f"ten AUs, clean and corrupted (mean over {', '.join(HARD)}, level {LEVEL} of corruptions.py). "
        "Rendered: exact labels of rendered people of the benchmark, ROC-AUC of twelve AUs."
    )
    return [*measured_table(rows, "trained on"), "", note]


def epochs_for(steps: int, faces: Faces, settings: FaceSettings) -> int:
    """Return the number of epochs that take about this many steps."""
    real = settings.batch - sum(round(settings.batch * s) for s in (settings.rendered, settings.frames))
    return max(1, round(steps / (int((~faces.development).sum()) // real)))


def measured_table(rows: dict[str, dict[str, float]], first: str) -> list[str]:
    """Return a table of rows by name, as Markdown lines."""
    table = pd.DataFrame.from_dict(rows, orient="index")
    return markdown(table, first, dict.fromkeys(map(str, table.columns), ".3f"))


def training_sets(faces: Faces, rendered: RenderedArrays, frames: Frames) -> dict[str, TrainingData]:
    """Return the data of each training, by its name."""
    unscored = replace(
        faces, labels=np.full_like(faces.labels, -1), blendshapes=np.full_like(faces.blendshapes, np.nan)
    )
    return {
        "everything": TrainingData(faces, rendered, frames),
        "no rendered faces": TrainingData(faces, None, frames),
        "no scores on real faces": TrainingData(unscored, rendered, frames),
        "no frames of clips": TrainingData(faces, rendered, None),
        "no augmentation": TrainingData(
            faces, rendered, frames, patch.object(face_batches, "augment_crop", unchanged_crop)
        ),
    }


def unchanged_crop(
    crop: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the crop without augmentation, in place of `augment.augment_crop`."""
    return crop, np.zeros(crop.shape, np.bool_)


def face_scores(
    weights: Path, faces: Faces, people: RenderedArrays, config: NetworkConfig | None = None
) -> dict[str, float]:
    """Compute the mean AUC of a trained stage 1 by kind of picture. config: None for nano's."""
    model = FaceTraining(config or network_config(), faces.blendshapes.shape[1])
    model.network.load_state_dict(torch.load(weights, weights_only=True))
    kept = np.flatnonzero(faces.development)
    labels = faces.labels[kept]

    def score(kind: str) -> float:
        crops = np.stack(list(corrupted_crops(faces, kept, kind)))
        return mean_auc(labels, predict_crops(model, crops), DIRECT)

    crops = np.stack(
        [crop_face(i, p, SIDE) for i, p in zip(people.images, people.detector_points, strict=True)]
    )
    logits, all_aus = predict_crops(model, crops), list(range(len(NANO_AUS)))
    turned = np.abs(people.pose[:, 0]) > TURNED_DEG
    return {
        "real faces": score("clean"),
        "real faces, corrupted": float(np.mean([score(kind) for kind in HARD])),
        f"rendered, up to {TURNED_DEG} degrees": mean_auc(people.labels[~turned], logits[~turned], all_aus),
        "rendered, turned further": mean_auc(people.labels[turned], logits[turned], all_aus),
    }


def corrupted_crops(faces: Faces, rows: NDArray[np.intp], kind: str) -> Iterator[NDArray[np.uint8]]:
    """Yield grey crops of corrupted pictures of faces."""
    for row in rows:
        image, points = faces.images[row], faces.detector_points[row]
        if kind != "clean":
            image = corrupt(np.repeat(image[..., None], 3, axis=2), points, kind, LEVEL, int(row))[..., 1]
        yield crop_face(np.ascontiguousarray(image), points)


def clips_table(data: Path, run: Path) -> list[str]:
    """Return the table of stage 2 with both kinds of clips and without each, as Markdown lines."""
    faces = read_training_faces(data, run)
    rendered = load_rendered(data / "ict_facekit.npz", run / "rendered.npz")
    tracks = load_clips(data, run / "clips")
    all_rendered_clips = [
        found.track for found in load_rendered_clips(data / "ict_facekit.npz", run / "rendered_clips")
    ]
    whole = stage_one(run)
    whole.load_state_dict(torch.load(run / "clips_averaged.pt", weights_only=True))
    kept = development_tracks(tracks)
    encoded = encode_tracks(whole, kept, 1, ClipSettings(sounds=0), run / "development_tracks.pt")
    rows = {"everything": development_scores(whole, encoded)}
    for name, real, rendered_clips in (
        ("no real clips", kept, all_rendered_clips),
        ("no rendered clips", tracks, []),
    ):
        own = run / "leave_out" / name.replace(" ", "-")
        own.mkdir(parents=True, exist_ok=True)
        rows[name] = train_clips(stage_one(run), real, rendered_clips, faces, rendered, ClipSettings(), own)[
            1
        ]
        print(name, rows[name], flush=True)
    names = {"clip_auc": "AUC", "within": "r within a clip"}
    names |= {
        f"{au}_{whose}": f"{au}, mouth covered, {name}"
        for au in MOUTH_AUS
        for whose, name in AUDIO_NAMES.items()
    }
    named = {name: {names[key]: value for key, value in row.items()} for name, row in rows.items()}
    note = (
        f"Agreement with the teacher on the development clips ({', '.join(DEVELOPMENT)}), which were used to "
        "choose settings: AUC pooled over ten AUs; correlation of probability and score within a clip; AUC "
        "of AU25 and AU26 with the mouth covered, with the clip's own audio, without audio, and with "
        "another's."
    )
    return [*measured_table(named, "trained on"), "", note]


def stage_one(run: Path) -> AuscanNetwork:
    """Load the network of a run after stage 1."""
    network = AuscanNetwork(network_config())
    network.load_state_dict(torch.load(run / "faces_averaged.pt", weights_only=True))
    return network.eval()


if __name__ == "__main__":
    main()
