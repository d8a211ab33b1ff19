r"""What is left when faces are turned, hidden, blurred, dark, noisy, small, compressed, and what sound buys.

    python benchmarks/robustness.py --data ../shared/data \
        --work runs/robustness  # needs data that are not included
    python benchmarks/robustness.py --data ../shared/data --work runs/robustness --model nano \
        --model whole-face-only=PATH --model no-audio=PATH \
        --write docs/benchmarks/robustness.md  # needs data that are not included

Faces of `faces_val.parquet`, rendered people, clips, and films of rendered people who talk, none of which a
training step saw (sources.py, films.py), are spoilt in one way at a time (spoiling.py) before the face
detector sees them, then read by the product's own stages, and held against the labels of the clean picture:
the teacher's, or exact ones where it was rendered. AUC, F1 at the checkpoint's thresholds and ECE, the
expected calibration error, are means over AUs, on the faces that were found; the share found stands beside
them. Clips and films are heard with their own sound, with none, and with the next one's. Several checkpoints
see the very same crops.

What was measured is kept in --work, one file a condition, and not measured again: take another folder for
other checkpoints. Needs `pip install '.[train]'`, and matplotlib for --write.
"""

import argparse
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from films import talking_films
from measures import measures
from numpy.typing import NDArray
from robustness_report import SOUNDS, report
from sources import Footage, Pictures, Truth, held_out_clips, real_faces, rendered_faces
from spoiling import LEVELS, SPOILINGS, eye_distance, spoil

from auscan.core.aus import AU_NAMES
from auscan.inference.probabilities import probabilities
from auscan.inference.stages import AudioTokens, Stages, listen, load
from auscan.media.audio import Waveform
from auscan.media.video import Frame
from reading import SeenTrack, cut_clip, cut_pictures, look_at_clip, read_pictures

LONGEST_SIDE = 1000
"""Frames of clips that are larger are halved, to save time; faces stay larger than a crop."""
TURNED = (0, 15, 30, 45, 90)
"""Ends of the groups of yaw, degrees."""
SOURCES = ("faces", "rendered", "clips", "films")
PERSONS, FILMS = 120, 16
"""Rendered people with four pictures each, and those who talk."""
SAME_FACE = 0.5
"""A face further from the known one (mean point error over eye distance) is another one."""

Models = dict[str, Stages]


@dataclass(frozen=True)
class Condition:
    """What is done to the pictures of one source."""

    source: str
    """One of SOURCES."""
    kind: str
    level: int

    @property
    def file(self) -> str:
        return f"{self.source}-{self.kind.replace(' ', '-')}-{self.level}.parquet"


def main() -> None:
    """Measure what is not yet measured, then print and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with faces_val.parquet, clips/, ict_facekit.npz"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for what was measured")
    parser.add_argument("--model", action="append", metavar="NAME[=PATH]", help="several side by side")
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=SOURCES)
    parser.add_argument("--every", type=int, default=1, help="only every n-th face, for a quick look")
    parser.add_argument("--seconds", type=float, default=np.inf, help="of each clip, for a quick look")
    parser.add_argument("--write", type=Path, help="also write tables and curves beside and into this file")
    args = parser.parse_args()
    models = load_models(args.model or ["nano"])
    cv2.setNumThreads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    measured = []
    for name in args.sources:
        source = None
        for condition in conditions(name):
            file = args.work / condition.file
            if not file.exists():
                if source is None:
                    source = load_source(name, args.data, args.work, args.every)
                measure(condition, source, models, args.seconds).to_parquet(file)
                print(condition, flush=True)
            measured.append(pd.read_parquet(file))
            if set(measured[-1]["model"]) != set(models):
                raise SystemExit(f"{file} was measured with other models. Give another --work folder.")
    lines = report(pd.concat(measured, ignore_index=True), list(models), args.write)
    print(*lines, sep="\n")
    if args.write:
        head = ["# Robustness", "", (__doc__ or "").strip(), ""]
        if args.every > 1:
            head += [f"Measured with `--every {args.every}`.", ""]
        args.write.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")


def load_models(words: list[str]) -> Models:
    """The checkpoints by their names in tables. Raises SystemExit where their crops differ in size."""
    pairs = [word.split("=", 1) for word in words]
    models = {Path(pair[0]).name: load(pair[-1]) for pair in pairs}
    if len({stages.config.network.visual.crop_size for stages in models.values()}) > 1:
        raise SystemExit("The checkpoints take crops of different sizes; compare those of one size.")
    return models


def conditions(source: str) -> list[Condition]:
    """Everything that is done to a source. Films are there for what sound says of a face that is covered."""
    done = itertools.product(SPOILINGS, LEVELS)
    if source == "films":
        done = ((kind, LEVELS[-1]) for kind in SPOILINGS if kind.endswith("covered"))
    return [Condition(source, "clean", 0), *(Condition(source, kind, level) for kind, level in done)]


def measure(
    condition: Condition, source: Pictures | list[Footage], models: Models, seconds: float
) -> pd.DataFrame:
    """Rows (model, group, AU) with auc, f1, ece, found."""
    if isinstance(source, Pictures):
        return measure_pictures(condition, source, models)
    return measure_footage(condition, source, models, seconds)


def load_source(name: str, data: Path, work: Path, every: int) -> Pictures | list[Footage]:
    """What is spoilt; rendered people have nothing else before their faces."""
    if name == "faces":
        return real_faces(data, every)
    if name == "rendered":
        return rendered_faces(data, PERSONS // every, occluded=0.0)
    if name == "films":
        return talking_films(data, work / "films", FILMS // every)
    return held_out_clips(data)


def measure_pictures(condition: Condition, pictures: Pictures, models: Models) -> pd.DataFrame:
    """Rows (model, group, AU) with auc, f1, ece; clean pictures also by how far the head is turned."""
    truth = pictures.truth
    spoilt = (
        spoil(image, truth.points[row], condition.kind, condition.level, seed=row)
        for row, image in enumerate(pictures.images())
    )
    cut = cut_pictures(spoilt, crop_side(models))
    groups = {"all": np.ones(len(truth.labels), bool)}
    if condition.level == 0:
        yaw = pictures.about["yaw"].abs().to_numpy()
        groups |= {f"{a} to {b}": (yaw >= a) & (yaw < b) for a, b in itertools.pairwise(TURNED)}
    rows = []
    for name, stages in models.items():
        logits = read_pictures(stages, cut)
        for group, inside in groups.items():
            if inside.any():
                judgement = judged(stages, logits[inside], truth.labels[inside])
                rows.append(judgement.assign(model=name, group=group))
    return described(rows, condition)


def measure_footage(
    condition: Condition, clips: list[Footage], models: Models, seconds: float
) -> pd.DataFrame:
    """Rows (model, sound, AU) with auc, f1, ece, pooled over the clips."""
    sounds = [clip.sound for clip in clips]
    said: dict[tuple[str, str], list[NDArray[np.float32]]] = {}
    labels = []
    for number, clip in enumerate(clips):
        frames = itertools.takewhile(lambda frame: frame.time_s < seconds, clip.frames())
        shrunk, truth = shrink(frames, clip.truth)
        cut = cut_clip(spoilt_frames(shrunk, truth, condition, number), crop_side(models))
        own, other = sounds[number], borrowed(sounds[(number + 1) % len(sounds)], sounds[number])
        labels.append(truth.labels[: len(cut)])
        for name, stages in models.items():
            tracks = look_at_clip(stages, cut).values()
            for sound, wave in zip(SOUNDS, (own, None, other), strict=True):
                tokens = None if wave is None else listen(stages, [wave])
                logits = matched(stages, tracks, truth, tokens, len(cut))
                said.setdefault((name, sound), []).append(logits)
    rows = [
        judged(models[name], np.concatenate(logits), np.concatenate(labels)).assign(model=name, group=sound)
        for (name, sound), logits in said.items()
    ]
    return described(rows, condition)


def judged(stages: Stages, logits: NDArray[np.float32], labels: NDArray[np.int8]) -> pd.DataFrame:
    """A row for each of all AUs: auc, f1, ece, NaN where it cannot be judged, and the share with a face."""
    share = probabilities(logits, stages.config)
    active = np.where(np.isnan(share), np.nan, share >= np.asarray(stages.config.thresholds, np.float32))
    found = ~np.isnan(logits).all(axis=1)
    table = measures(labels, share, active).drop(columns="positives").reindex(list(AU_NAMES))
    return table.rename_axis("AU").reset_index().assign(found=found.mean(), rows=len(logits))


def described(rows: list[pd.DataFrame], condition: Condition) -> pd.DataFrame:
    """All rows of one condition."""
    table = pd.concat(rows, ignore_index=True)
    return table.assign(source=condition.source, kind=condition.kind, level=condition.level)


def crop_side(models: Models) -> int:
    """Of all of them, px."""
    return int(next(iter(models.values())).config.network.visual.crop_size)


def shrink(frames: Iterable[Frame], truth: Truth) -> tuple[Iterator[Frame], Truth]:
    """Frames and points at half the size where the frames are large."""
    frames = iter(frames)
    first = next(frames)
    together = itertools.chain([first], frames)
    if max(first.image.shape) <= LONGEST_SIDE:
        return together, truth
    halved = (
        replace(f, image=cv2.resize(f.image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        for f in together
    )
    return halved, replace(truth, points=truth.points / 2)


def spoilt_frames(frames: Iterable[Frame], truth: Truth, condition: Condition, seed: int) -> Iterator[Frame]:
    """What is spoilt follows the known face; where there is none, its last place stays."""
    points = truth.points[0]
    for frame in frames:
        if frame.index < len(truth.points) and np.isfinite(truth.points[frame.index]).all():
            points = truth.points[frame.index]
        moving = condition.kind in ("noise", "darkness")  # grain is new in every frame, a cloth is not
        number = seed + 1000 * frame.index if moving else seed
        yield replace(frame, image=spoil(frame.image, points, condition.kind, condition.level, number))


def matched(
    stages: Stages, tracks: Iterable[SeenTrack], truth: Truth, sound: AudioTokens | None, frames: int
) -> NDArray[np.float32]:
    """Logits [T, A] of whichever face is the known one in each frame; NaN where none is."""
    out = np.full((frames, len(AU_NAMES)), np.nan, np.float32)
    nearest = np.full(frames, SAME_FACE)
    for track in tracks:
        logits = track.read(stages, sound)
        for frame, points, values in zip(track.frames, track.points, logits, strict=True):
            if frame >= len(truth.points):
                continue
            wanted = truth.points[frame]
            off = np.linalg.norm(points - wanted, axis=1).mean() / eye_distance(wanted)
            if off < nearest[frame]:
                out[frame], nearest[frame] = values, off
    return out


def borrowed(other: Waveform, own: Waveform) -> Waveform:
    """Another clip's sound in place of one's own, over and over until it is as long."""
    return Waveform(np.resize(other.samples, len(own.samples)), own.start_s)


if __name__ == "__main__":
    main()
