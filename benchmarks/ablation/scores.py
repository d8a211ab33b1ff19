"""Compute AUCs of the ablation by condition, with bootstrap intervals over test videos and seeds.

A measure is the mean AUC over some AUs on the frames of a condition, from the ground truth of the rendered
videos. An AU with fewer than MIN_COUNT positives or negatives under a condition is left out for all networks.

An AUC over several videos is a share of pairs of a positive and a negative frame, so it follows for any
weights of the videos from the pairs that are ranked right between each two videos. `PairCounts` holds
these, so a bootstrap draw does not rank again.

Inputs: tables of hearing.py, truth of the data. Returns: AUCs of bootstrap draws, intervals.
See also: run.py (training), report.py (tables).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS
from auscan.datasets.covers import COVERS_NAME
from auscan.datasets.index import cover_columns

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MIN_COUNT: Final = 30
"""Minimum number of positives and of negatives of an AU under a condition."""
DRAWS: Final = 1000
"""Number of bootstrap draws over videos and seeds."""
AMBIGUOUS_REST: Final = 0.3
"""Minimum intensity of an AU in a resting face for the face to be ambiguous in it."""
LARGE_YAW_DEG: Final = 30.0
"""Yaw from which a head counts as turned."""
DETECTABLE: Final = 2.8
"""Smallest difference detected with 80 % power at the 5 % level, in standard errors."""


@dataclass(frozen=True, eq=False)
class Measure:
    """Mean AUC over AUs on the frames of a condition, with one kind of sound."""

    sound: str
    """own, none or other."""
    mask: Mask
    """[R, A] frames and AUs that count."""


@dataclass(frozen=True, eq=False)
class HeldOutFrames:
    """Ground truth of R test frames."""

    rows: pd.DataFrame
    """[R] truth of the frames and of their tracks, sorted by track and frame."""
    labels: Mask
    """[R, A]."""
    covers: NDArray[np.int8]
    """[R, A] 1 covered, 0 visible, -1 neither."""
    video: NDArray[np.int64]
    """[R] number of the video, below V."""

    @property
    def videos(self) -> int:
        """Return the number V of videos."""
        return int(self.video.max()) + 1

    @property
    def speech(self) -> Mask:
        """Return the mask [R] of speech with the person's own voice and a covered mouth, without a blank."""
        return self.covered_speech & self.rows["own_voice"].to_numpy()

    @property
    def covered_speech(self) -> Mask:
        """Return the mask [R] of speech with a covered mouth, without a blank, with any voice."""
        covered = self.covers[:, AFFWILD2_AUS.index("AU25")] == 1
        return np.asarray(covered & (self.rows["speaking"] & ~self.rows["blank"]).to_numpy())

    @property
    def clean_speech(self) -> Mask:
        """Return the mask [R] of speech with the person's own voice and without background sound."""
        own = self.rows["speaking"] & self.rows["own_voice"]
        return np.asarray(own & (self.rows["disturbance"] == "none"))

    @property
    def free(self) -> Mask:
        """Return the mask [R] of frames with visible mouth and eyes."""
        return np.asarray((self.rows[["mouth_share", "eyes_share"]] <= 0.15).all(axis=1))

    def measures(self) -> dict[str, Measure]:
        """Return the measures by name."""
        every = np.ones((len(self.rows), len(AFFWILD2_AUS)), bool)
        rest = self.rows[[f"{name}_rest" for name in AFFWILD2_AUS]].to_numpy() >= AMBIGUOUS_REST
        yaw = (self.rows["yaw"].abs() > LARGE_YAW_DEG).to_numpy()
        other_voice = self.covered_speech & ~self.speech
        found = {}
        for name in ("AU25", "AU26"):
            only = every & (np.array(AFFWILD2_AUS) == name)
            for sound in ("own", "none", "other"):
                found[f"{name} covered, {sound} sound"] = Measure(sound, only & self.speech[:, None])
            for sound in ("own", "none"):
                key = f"{name} covered, another's voice, {'heard' if sound == 'own' else 'no sound'}"
                found[key] = Measure(sound, only & other_voice[:, None])
        found["free faces"] = Measure("own", every & self.free[:, None])
        found["free, ambiguous rest"] = Measure("own", rest & self.free[:, None])
        found["free, yaw above 30 degrees"] = Measure("own", every & (self.free & yaw)[:, None])
        return {name: Measure(each.sound, self._counted(each.mask)) for name, each in found.items()}

    def _counted(self, mask: Mask) -> Mask:
        positives, negatives = (mask & self.labels).sum(0), (mask & ~self.labels).sum(0)
        return np.asarray(mask & (positives >= MIN_COUNT) & (negatives >= MIN_COUNT))


def read_test_frames(work: Path) -> HeldOutFrames:
    """Read the ground truth of the test videos."""
    truth = work / "data" / "truth"
    tracks = pd.read_parquet(truth / "tracks.parquet")
    tracks = tracks[tracks["split"] == "test"]
    frames = pd.read_parquet(truth / "frames.parquet").rename(columns={"number": "frame"})
    covers = pd.read_parquet(work / "data" / COVERS_NAME)
    rows = frames.merge(tracks, on="track").merge(covers, on=["track", "frame"], validate="one_to_one")
    rows = rows[rows["has_image"]].sort_values(["track", "frame"], ignore_index=True)
    return HeldOutFrames(
        rows=rows,
        labels=rows[[f"{name}_label" for name in AFFWILD2_AUS]].to_numpy() == 1,
        covers=rows[cover_columns(AFFWILD2_AUS)].to_numpy(np.int8),
        video=pd.factorize(rows["video"], sort=True)[0].astype(np.int64),
    )


def values_at(table: pd.DataFrame, frames: HeldOutFrames, columns: tuple[str, ...]) -> Floats:
    """Select columns [R, C] of a table by track and frame for the test frames."""
    keys = ["track", "frame"]
    joined = frames.rows[keys].merge(table[[*keys, *columns]], on=keys, how="left", validate="one_to_one")
    values = joined[list(columns)].to_numpy(np.float64)
    assert not np.isnan(values).any(), "a frame with a picture has no score"
    return values


@dataclass(frozen=True, eq=False)
class PairCounts:
    """Pairs of a positive and a negative frame, by their videos."""

    right: Floats
    """[V, V] correctly ordered pairs of a positive of one and a negative of the other; ties are 0.5."""
    positives: Floats
    """[V]."""
    negatives: Floats
    """[V]."""

    def auc(self, weights: Floats) -> Floats:
        """Return the AUC [D] for weights [D, V] of the videos; NaN without positives or negatives."""
        right = np.einsum("du,uv,dv->d", weights, self.right, weights)
        pairs = (weights @ self.positives) * (weights @ self.negatives)
        return np.divide(right, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def pair_counts(scores: Floats, labels: Mask, video: NDArray[np.int64], videos: int) -> PairCounts:
    """Count the pairs of scores [n] with labels [n] of videos [n]."""
    positive = [scores[labels & (video == v)] for v in range(videos)]
    negative = [np.sort(scores[~labels & (video == v)]) for v in range(videos)]
    right = np.array(
        [
            [
                (np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")).sum() / 2
                for low in negative
            ]
            for high in positive
        ]
    )
    counts = (np.array([len(each) for each in group], float) for group in (positive, negative))
    return PairCounts(right, *counts)


def draw_weights(videos: int) -> Floats:
    """Draw weights of the videos [1 + D, V]: first 1 for each, then bootstrap draws."""
    drawn = np.random.default_rng(0).multinomial(videos, np.full(videos, 1 / videos), DRAWS)
    return np.concatenate([np.ones((1, videos)), drawn])


def draw_seeds(seeds: int) -> Floats:
    """Draw weights of the seeds [1 + D, S] that sum to 1: first all alike, then bootstrap draws."""
    drawn = np.random.default_rng(1).multinomial(seeds, np.full(seeds, 1 / seeds), DRAWS) / seeds
    return np.concatenate([np.full((1, seeds), 1 / seeds), drawn])


def mean_auc(scores: Floats, frames: HeldOutFrames, mask: Mask, weights: Floats) -> Floats:
    """Return the mean AUC [D] of scores [R, A] over the AUs of a mask [R, A]; NaN if it is empty."""
    aucs = []
    for au in np.flatnonzero(mask.any(0)):
        kept = mask[:, au]
        labels, video = frames.labels[kept, au], frames.video[kept]
        aucs.append(pair_counts(scores[kept, au], labels, video, frames.videos).auc(weights))
    return np.nanmean(aucs, axis=0) if aucs else np.full(len(weights), np.nan)


def interval(draws: Floats) -> tuple[float, float]:
    """Return the middle 95 % of draws [1 + D], without the first."""
    low, high = np.nanpercentile(draws[1:], [2.5, 97.5])
    return float(low), float(high)
