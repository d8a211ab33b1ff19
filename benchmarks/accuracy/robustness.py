r"""Measure accuracy under head rotation, occlusion and other corruptions, and the benefit of audio.

    python benchmarks/accuracy/robustness.py --data ../shared/data \
        --work runs/robustness  # needs data that are not included
    python benchmarks/accuracy/robustness.py --data ../shared/data --work runs/robustness --model nano \
        --model whole-face-only=PATH --model no-audio=PATH \
        --write docs/benchmarks/robustness.md  # needs data that are not included

Held-out faces, rendered people, clips and rendered people who speak (held_out_data.py) are corrupted in one
way at a time (corruptions.py), before face detection. They are scored by the inference engine of
`auscan detect` and compared with the labels of the clean picture: the teacher's, or exact labels of rendered
people. AUC, F1 at the checkpoint's thresholds and ECE (expected calibration error) are means over AUs, on the
faces that were found. Clips are scored with their own audio, without audio, and with the next clip's audio.
All checkpoints score the same crops.

Measurements are kept in --work, one file for each condition, and are not repeated: use another folder for
other checkpoints. Needs `pip install '.[train]'`, and matplotlib for --write.
"""

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for recipes and benchmarks
from auscan.inference.engine import AudioTokens, InferenceEngine, encode_audio_stream
from auscan.inference.load import load_engine
from auscan.inference.score_track import probabilities
from auscan.media.audio import Waveform
from auscan.media.video import Frame
from benchmarks.accuracy.corruptions import CORRUPTIONS, LEVELS, corrupt, eye_distance
from benchmarks.accuracy.held_out_data import (
    LabelledClip,
    LabelledPictures,
    Truth,
    held_out_clips,
    real_faces,
    rendered_faces,
    talking_clips,
)
from benchmarks.accuracy.metric_tables import au_metrics, page
from benchmarks.accuracy.robustness_report import AUDIO_CONDITIONS, report
from recipes.nano.calibrate.array_inference import (
    EncodedTrack,
    crop_clip,
    crop_pictures,
    encode_clip,
    score_pictures,
)

LEAD = (
    "AUC, F1 and ECE of nano and of two ablated networks on corrupted pictures: whole-face-only uses no "
    "local patches, no-audio no audio. `found` is the share of pictures or frames with the face found."
)
LONGEST_SIDE = 1000
"""Longest side of a frame in px; larger frames are halved to save time. Faces stay larger than a crop."""
YAW_EDGES_DEG = (0, 15, 30, 45, 90)
"""Edges of the yaw groups, degrees."""
SOURCES = ("faces", "rendered", "clips", "talking")
"""Sources of pictures; talking are clips of rendered people who speak."""
PERSONS, TALKING_PEOPLE = 120, 16
"""Number of rendered people with four pictures each, and of rendered people who speak."""
SAME_FACE = 0.5
"""Maximum mean point error over eye distance at which a face is the known face."""
Models = dict[str, InferenceEngine]


@dataclass(frozen=True)
class Condition:
    """A corruption of one source of pictures."""

    source: str
    """One of SOURCES."""
    kind: str
    """One of CORRUPTIONS, or clean."""
    level: int
    """One of LEVELS; 0 for clean."""

    @property
    def file(self) -> str:
        """Return the name of the file with the measurements."""
        return f"{self.source}-{self.kind.replace(' ', '-')}-{self.level}.parquet"


def main() -> None:
    """Measure missing conditions, then print and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with faces_val.parquet, clips/, ict_facekit.npz"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the measurements")
    parser.add_argument(
        "--model",
        action="append",
        metavar="NAME[=PATH]",
        help="checkpoint to score, with its name; may be given several times",
    )
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=SOURCES, help="data to score")
    parser.add_argument("--every", type=int, default=1, help="use every n-th face, for a quick run")
    parser.add_argument("--seconds", type=float, default=np.inf, help="length of each clip, for a quick run")
    parser.add_argument(
        "--write", type=Path, help="also write the tables into this file, and the curves beside it"
    )
    args = parser.parse_args()
    models = load_models(args.model or ["nano"])
    cv2.setNumThreads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    results = []
    for name in args.sources:
        source = None
        for condition in conditions(name):
            file = args.work / condition.file
            if not file.exists():
                if source is None:
                    source = load_source(name, args.data, args.work, args.every)
                measure_condition(condition, source, models, args.seconds).to_parquet(file)
                print(condition, flush=True)
            results.append(pd.read_parquet(file))
            if set(results[-1]["model"]) != set(models):
                raise SystemExit(f"{file} was measured with other checkpoints. Give another --work folder.")
    lines = report(pd.concat(results, ignore_index=True), list(models), args.write)
    print(*lines, sep="\n")
    if args.write:
        note = f"Measured with `--every {args.every}`." if args.every > 1 else ""
        args.write.write_text(page("Robustness", LEAD, lines, __doc__ or "", note), encoding="utf-8")


def load_models(words: list[str]) -> Models:
    """Load the checkpoints by name. Raise SystemExit if their crop sizes differ."""
    pairs = [word.split("=", 1) for word in words]
    models = {Path(pair[0]).name: load_engine(pair[-1]) for pair in pairs}
    if len({engine.config.network.visual.crop_size for engine in models.values()}) > 1:
        raise SystemExit(
            "The checkpoints use crops of different sizes. Compare checkpoints with the same crop size."
        )
    return models


def conditions(source: str) -> list[Condition]:
    """Return all conditions of a source. Rendered people who speak are only occluded, to measure audio."""
    done = itertools.product(CORRUPTIONS, LEVELS)
    if source == "talking":
        done = ((kind, LEVELS[-1]) for kind in CORRUPTIONS if kind.endswith("covered"))
    return [Condition(source, "clean", 0), *(Condition(source, kind, level) for kind, level in done)]


def measure_condition(
    condition: Condition, source: LabelledPictures | list[LabelledClip], models: Models, seconds: float
) -> pd.DataFrame:
    """Measure a condition: rows (model, group, AU) with auc, f1, ece, found."""
    if isinstance(source, LabelledPictures):
        return measure_pictures(condition, source, models)
    return measure_clips(condition, source, models, seconds)


def load_source(name: str, data: Path, work: Path, every: int) -> LabelledPictures | list[LabelledClip]:
    """Load a source of pictures or clips; rendered people have no occluders."""
    if name == "faces":
        return real_faces(data, every)
    if name == "rendered":
        return rendered_faces(data, PERSONS // every, occluded=0.0)
    if name == "talking":
        return talking_clips(data, work / "talking", TALKING_PEOPLE // every)
    return held_out_clips(data)


def measure_pictures(condition: Condition, pictures: LabelledPictures, models: Models) -> pd.DataFrame:
    """Measure pictures: rows (model, group, AU) with auc, f1, ece; clean pictures also by yaw."""
    truth = pictures.truth
    corrupted = (
        corrupt(image, truth.points[row], condition.kind, condition.level, seed=row)
        for row, image in enumerate(pictures.images())
    )
    crops = crop_pictures(corrupted, crop_side(models))
    groups = {"all": np.ones(len(truth.labels), bool)}
    if condition.level == 0:
        yaw = pictures.about["yaw"].abs().to_numpy()
        groups |= {f"{a} to {b}": (yaw >= a) & (yaw < b) for a, b in itertools.pairwise(YAW_EDGES_DEG)}
    rows = []
    for name, engine in models.items():
        logits = score_pictures(engine, crops)
        for group, inside in groups.items():
            if inside.any():
                labels = truth.of(engine.config.au_names).labels
                metrics = metrics_of_logits(engine, logits[inside], labels[inside])
                rows.append(metrics.assign(model=name, group=group))
    return with_condition(rows, condition)


def measure_clips(
    condition: Condition, clips: list[LabelledClip], models: Models, seconds: float
) -> pd.DataFrame:
    """Measure clips: rows (model, audio, AU) with auc, f1, ece, pooled over the clips."""
    audios = [clip.sound for clip in clips]
    logits_by_model: dict[tuple[str, str], list[NDArray[np.float32]]] = {}
    labels: dict[str, list[NDArray[np.int8]]] = {name: [] for name in models}
    for number, clip in enumerate(clips):
        frames = itertools.takewhile(lambda frame: frame.time_s < seconds, clip.frames())
        shrunk, truth = halve_large_frames(frames, clip.truth)
        crops = crop_clip(corrupted_frames(shrunk, truth, condition, number), crop_side(models))
        own, other = audios[number], loop_audio(audios[(number + 1) % len(audios)], audios[number])
        for name, engine in models.items():
            labels[name].append(truth.of(engine.config.au_names).labels[: len(crops)])
            tracks = encode_clip(engine, crops).values()
            for audio, wave in zip(AUDIO_CONDITIONS, (own, None, other), strict=True):
                tokens = None if wave is None else encode_audio_stream(engine, [wave])
                logits = match_known_face(engine, tracks, truth, tokens, len(crops))
                logits_by_model.setdefault((name, audio), []).append(logits)
    rows = [
        metrics_of_logits(models[name], np.concatenate(logits), np.concatenate(labels[name])).assign(
            model=name, group=audio
        )
        for (name, audio), logits in logits_by_model.items()
    ]
    return with_condition(rows, condition)


def metrics_of_logits(
    engine: InferenceEngine, logits: NDArray[np.float32], labels: NDArray[np.int8]
) -> pd.DataFrame:
    """Compute auc, f1, ece of each AU (NaN where undefined) and the share of rows with a face."""
    share = probabilities(logits, engine.config)
    active = np.where(np.isnan(share), np.nan, share >= np.asarray(engine.config.thresholds, np.float32))
    found = ~np.isnan(logits).all(axis=1)
    names = engine.config.au_names
    table = au_metrics(labels, share, active, names).drop(columns="positives").reindex(list(names))
    return table.rename_axis("AU").reset_index().assign(found=found.mean(), rows=len(logits))


def with_condition(rows: list[pd.DataFrame], condition: Condition) -> pd.DataFrame:
    """Concatenate the rows of one condition and name it in columns."""
    table = pd.concat(rows, ignore_index=True)
    return table.assign(source=condition.source, kind=condition.kind, level=condition.level)


def crop_side(models: Models) -> int:
    """Return the crop size of all checkpoints, px."""
    return int(next(iter(models.values())).config.network.visual.crop_size)


def halve_large_frames(frames: Iterable[Frame], truth: Truth) -> tuple[Iterator[Frame], Truth]:
    """Halve frames and points if the frames are large."""
    frames = iter(frames)
    first = next(frames)
    all_frames = itertools.chain([first], frames)
    if max(first.image.shape) <= LONGEST_SIDE:
        return all_frames, truth
    halved = (
        replace(f, image=cv2.resize(f.image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        for f in all_frames
    )
    return halved, replace(truth, points=truth.points / 2)


def corrupted_frames(
    frames: Iterable[Frame], truth: Truth, condition: Condition, seed: int
) -> Iterator[Frame]:
    """Corrupt frames at the known face, or at its last known position."""
    points = truth.points[0]
    for frame in frames:
        if frame.index < len(truth.points) and np.isfinite(truth.points[frame.index]).all():
            points = truth.points[frame.index]
        moving = condition.kind in ("noise", "darkness")  # noise differs between frames, a cover does not
        number = seed + 1000 * frame.index if moving else seed
        yield replace(frame, image=corrupt(frame.image, points, condition.kind, condition.level, number))


def match_known_face(
    engine: InferenceEngine,
    tracks: Iterable[EncodedTrack],
    truth: Truth,
    audio: AudioTokens | None,
    frames: int,
) -> NDArray[np.float32]:
    """Return logits [T, A] of the tracked face nearest to the known one; NaN if none is near enough."""
    out = np.full((frames, len(engine.config.au_names)), np.nan, np.float32)
    nearest = np.full(frames, SAME_FACE)
    for track in tracks:
        logits = track.score(engine, audio)
        for frame, points, values in zip(track.frames, track.points, logits, strict=True):
            if frame >= len(truth.points):
                continue
            wanted = truth.points[frame]
            off = np.linalg.norm(points - wanted, axis=1).mean() / eye_distance(wanted)
            if off < nearest[frame]:
                out[frame], nearest[frame] = values, off
    return out


def loop_audio(other: Waveform, own: Waveform) -> Waveform:
    """Repeat another clip's audio to the length of a clip's own."""
    return Waveform(np.resize(other.samples, len(own.samples)), own.start_s)


if __name__ == "__main__":
    main()
