"""Scores of the ablation: F1 and AUC by condition, with intervals over source videos.

A condition is a mask over frames and AUs, taken from the hidden truth of `auscan synth`. Only frames with a
picture count: this is about reading faces, not about filling gaps. F1 pools frames of all videos; an AU with
fewer than LEAST positives under a condition is left out of its means, for every network alike.

In: tables of scores and of truth.  Out: counts by source video, means, intervals.
Not here: training (ablation.py), tables and figures (ablation_report.py).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from auscan.core.aus import AU_COUNT, AU_NAMES
from auscan.datasets.names import source_video

LEAST: Final = 30
"""Positives that an AU needs under a condition."""
DRAWS: Final = 1000
"""Draws of the bootstrap over source videos."""
AMBIGUOUS_REST: Final = 0.3
"""A resting face that shows this much of an AU looks like a weak one."""

CONDITIONS: Final = (
    "all frames",
    "unoccluded",
    "mouth covered while speaking, AU25",
    "large yaw",
    "dark",
    "ambiguous resting face",
)


@dataclass(frozen=True, eq=False)
class Held:
    """The frames that a network is held against: R rows of some held-out tracks."""

    rows: pd.DataFrame
    """[R] part, track and frame; two parts (data sets) may have tracks of one name."""
    labels: NDArray[np.bool_]
    """[R, A] the truth."""
    video: NDArray[np.int64]
    """[R] which of the V source videos."""
    masks: dict[str, NDArray[np.bool_]]
    """[R, A] a condition: what counts."""

    @property
    def videos(self) -> int:
        """V."""
        return int(self.video.max()) + 1


def read_held(tables: dict[str, tuple[pd.DataFrame, pd.DataFrame]], splits: dict[str, list[str]]) -> Held:
    """The truth of some splits. tables: truth/frames.parquet and truth/tracks.parquet of each part."""
    found = []
    for part, wanted in splits.items():
        frames, tracks = tables[part]
        chosen = tracks[tracks["split"].isin(wanted)].drop(columns=["video", "split"])
        joined = frames[frames["has_image"]].merge(chosen, on="track", validate="many_to_one")
        found.append(joined.assign(part=part, frame=joined["number"]))
    rows = pd.concat(found, ignore_index=True)
    labels = rows[[f"{name}_label" for name in AU_NAMES]].to_numpy() == 1
    video = pd.factorize(rows["part"] + " " + rows["track"].map(source_video), sort=True)[0]
    masks = {}
    for name, mask in conditions(rows).items():
        masks[name] = mask & ((labels & mask).sum(0) >= LEAST)
    return Held(rows[["part", "track", "frame"]], labels, video.astype(np.int64), masks)


def conditions(rows: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """[R, A] for each of CONDITIONS: which AUs of which frames it is about."""
    speech = rows["covered_while_speaking"] & (rows["sound"] != "none")
    odd = rows["mouth_covered"] | rows["eyes_covered"] | rows["large_yaw"] | rows["dark"]
    every = np.ones((len(rows), AU_COUNT), bool)
    au25 = np.array([name == "AU25" for name in AU_NAMES])
    rest = rows[[f"{name}_rest" for name in AU_NAMES]].to_numpy()
    masks = (
        every,
        every & ~odd.to_numpy()[:, None],
        every & speech.to_numpy()[:, None] & au25,
        every & rows["large_yaw"].to_numpy()[:, None],
        every & rows["dark"].to_numpy()[:, None],
        rest >= AMBIGUOUS_REST,
    )
    return dict(zip(CONDITIONS, masks, strict=True))


def at_rows(scores: pd.DataFrame, held: Held) -> NDArray[np.float32]:
    """Probabilities [R, A] of a table of scores (with `part`) at the rows that count."""
    keys = ["part", "track", "frame"]
    joined = held.rows.merge(scores, on=keys, how="left", validate="one_to_one")
    values = joined[list(AU_NAMES)].to_numpy(np.float32)
    assert not np.isnan(values).any(), "a frame with a picture has no score"
    return values


def counts(said: NDArray[np.bool_], held: Held, condition: str) -> NDArray[np.float64]:
    """2 TP and 2 TP + FP + FN of each source video and AU under a condition: [V, A, 2]."""
    mask = held.masks[condition]
    out = np.zeros((held.videos, AU_COUNT, 2))
    np.add.at(out[..., 0], held.video, 2.0 * (said & held.labels & mask))
    np.add.at(out[..., 1], held.video, (said & mask).astype(float) + (held.labels & mask))
    return out


def f1_draws(by_video: NDArray[np.float64], draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean F1 of every draw, meaned over seeds: counts [S, V, A, 2], draws [D, V] of videos -> [D]."""
    weights = np.stack([np.bincount(draw, minlength=by_video.shape[1]) for draw in draws])  # [D, V]
    pooled = np.einsum("dv,svak->dsak", weights, by_video)  # [D, S, A, 2]
    with np.errstate(invalid="ignore"):
        f1 = pooled[..., 0] / pooled[..., 1]  # NaN for an AU that does not count, or is not in the draw
    return np.nanmean(f1, axis=2).mean(axis=1)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of draws [D]."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def draw_videos(videos: int) -> NDArray[np.int64]:
    """[1 + D, V]: first every video once, then drawn with replacement; the same for all networks."""
    drawn = np.random.default_rng(0).integers(0, videos, (DRAWS, videos))
    return np.concatenate([np.arange(videos)[None], drawn])


def mean_auc(probabilities: NDArray[np.float32], held: Held, condition: str) -> float:
    """Mean AUC over the AUs that count under a condition."""
    mask, found = held.masks[condition], []
    for j in np.flatnonzero(mask.any(0)):
        kept = mask[:, j]
        found.append(roc_auc_score(held.labels[kept, j], probabilities[kept, j]))
    return float(np.mean(found))
