"""Metrics of the ablation: F1 and AUC by condition, with bootstrap intervals over source videos.

A condition is a mask over frames and AUs, from the truth of `auscan synth`. Only frames with a face crop
count. F1 pools frames of all videos; an AU with fewer than LEAST positives under a condition is left out of
its means, for every network alike.

Inputs: tables of scores and of truth. Returns: counts by source video, means, intervals.
See also: run.py (training), report.py (tables and figures).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from auscan.core.aus import AU_COUNT, AU_NAMES
from auscan.datasets.track_lists import source_video

MIN_POSITIVES: Final = 30
"""Positives that an AU needs under a condition."""
DRAWS: Final = 1000
"""Draws of the bootstrap over source videos."""
AMBIGUOUS_REST: Final = 0.3
"""Intensity of an AU in a resting face from which the face is ambiguous."""
CONDITIONS: Final = (
    "all frames",
    "unoccluded",
    "mouth covered while speaking, AU25",
    "large yaw",
    "dark",
    "ambiguous resting face",
)


@dataclass(frozen=True, eq=False)
class EvaluationRows:
    """Ground truth of R frames of held-out tracks."""

    rows: pd.DataFrame
    """[R] part, track and frame; two parts (data sets) may have tracks of one name."""
    labels: NDArray[np.bool_]
    """[R, A] labels."""
    video: NDArray[np.int64]
    """[R] index of the source video, below V."""
    masks: dict[str, NDArray[np.bool_]]
    """[R, A] masks by condition."""

    @property
    def videos(self) -> int:
        """Number V of source videos."""
        return int(self.video.max()) + 1


def evaluation_rows(parts: dict[str, pd.DataFrame]) -> EvaluationRows:
    """Ground truth from columns of truth/frames.parquet and tracks.parquet of some data sets."""
    rows = pd.concat([rows.assign(part=part) for part, rows in parts.items()], ignore_index=True)
    labels = rows[[f"{name}_label" for name in AU_NAMES]].to_numpy() == 1
    video = pd.factorize(rows["part"] + " " + rows["track"].map(source_video), sort=True)[0]
    masks = {}
    for name, mask in conditions(rows).items():
        masks[name] = mask & ((labels & mask).sum(0) >= MIN_POSITIVES)
    return EvaluationRows(rows[["part", "track", "frame"]], labels, video.astype(np.int64), masks)


def conditions(rows: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Mask [R, A] of each of CONDITIONS."""
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


def probabilities_at(scores: pd.DataFrame, evaluation: EvaluationRows) -> NDArray[np.float32]:
    """Probabilities [R, A] of a table of scores (with `part`) at the rows that count."""
    keys = ["part", "track", "frame"]
    joined = evaluation.rows.merge(scores, on=keys, how="left", validate="one_to_one")
    values = joined[list(AU_NAMES)].to_numpy(np.float32)
    assert not np.isnan(values).any(), "a frame with a picture has no score"
    return values


def counts(predicted: NDArray[np.bool_], evaluation: EvaluationRows, condition: str) -> NDArray[np.float64]:
    """2 TP and 2 TP + FP + FN of each source video and AU under a condition: [V, A, 2]."""
    mask = evaluation.masks[condition]
    out = np.zeros((evaluation.videos, AU_COUNT, 2))
    np.add.at(out[..., 0], evaluation.video, 2.0 * (predicted & evaluation.labels & mask))
    np.add.at(out[..., 1], evaluation.video, (predicted & mask).astype(float) + (evaluation.labels & mask))
    return out


def f1_draws(by_video: NDArray[np.float64], draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean F1 of every draw, meaned over seeds: counts [S, V, A, 2], draws [D, V] of videos -> [D]."""
    weights = np.stack([np.bincount(draw, minlength=by_video.shape[1]) for draw in draws])  # [D, V]
    pooled = np.einsum("dv,svak->dsak", weights, by_video)  # [D, S, A, 2]
    there = pooled[..., 1] > 0  # an AU counts, and is in the draw
    f1 = np.divide(pooled[..., 0], pooled[..., 1], out=np.zeros_like(pooled[..., 0]), where=there)
    count = there.sum(axis=2)  # [D, S]; a draw without any video of the condition says nothing
    mean = np.divide(f1.sum(axis=2), count, out=np.full(count.shape, np.nan), where=count > 0)
    return np.asarray(mean.mean(axis=1))


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of draws [D]."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def draw_videos(videos: int) -> NDArray[np.int64]:
    """[1 + D, V]: every video once, then bootstrap draws; the same for all networks."""
    drawn = np.random.default_rng(0).integers(0, videos, (DRAWS, videos))
    return np.concatenate([np.arange(videos)[None], drawn])


def mean_auc(probabilities: NDArray[np.float32], evaluation: EvaluationRows, condition: str) -> float:
    """Mean AUC over the AUs that count under a condition."""
    mask, results = evaluation.masks[condition], []
    for j in np.flatnonzero(mask.any(0)):
        kept = mask[:, j]
        results.append(roc_auc_score(evaluation.labels[kept, j], probabilities[kept, j]))
    return float(np.mean(results))
