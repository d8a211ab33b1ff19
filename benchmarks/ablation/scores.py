"""Compute F1 and AUC of the ablation by condition, with bootstrap intervals over source videos.

A condition is a mask over frames and AUs, from the ground truth of `auscan synth`. Only frames with a face
crop count. F1 pools the frames of all videos. An AU with fewer than MIN_POSITIVES positives under a condition
is left out of its means for all networks.

Inputs: tables of scores and of ground truth. Returns: counts by source video, means, intervals.
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
"""Minimum number of positives of an AU under a condition."""
DRAWS: Final = 1000
"""Number of bootstrap draws over source videos."""
AMBIGUOUS_REST: Final = 0.3
"""Minimum intensity of an AU in a resting face for the face to be ambiguous in it."""
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
    """[R] part, track and frame. Parts are data sets; two may have tracks with the same name."""
    labels: NDArray[np.bool_]
    """[R, A] labels."""
    video: NDArray[np.int64]
    """[R] index of the source video, below V."""
    masks: dict[str, NDArray[np.bool_]]
    """[R, A] masks by condition."""

    @property
    def videos(self) -> int:
        """Return the number V of source videos."""
        return int(self.video.max()) + 1


def evaluation_rows(parts: dict[str, pd.DataFrame]) -> EvaluationRows:
    """Select the ground truth from the columns of truth/frames.parquet and tracks.parquet of data sets."""
    rows = pd.concat([rows.assign(part=part) for part, rows in parts.items()], ignore_index=True)
    labels = rows[[f"{name}_label" for name in AU_NAMES]].to_numpy() == 1
    video = pd.factorize(rows["part"] + " " + rows["track"].map(source_video), sort=True)[0]
    masks = {}
    for name, mask in conditions(rows).items():
        masks[name] = mask & ((labels & mask).sum(0) >= MIN_POSITIVES)
    return EvaluationRows(rows[["part", "track", "frame"]], labels, video.astype(np.int64), masks)


def conditions(rows: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Return the mask [R, A] of each of CONDITIONS."""
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
    """Select the probabilities [R, A] of the evaluated rows from a table of scores with a column `part`."""
    keys = ["part", "track", "frame"]
    joined = evaluation.rows.merge(scores, on=keys, how="left", validate="one_to_one")
    values = joined[list(AU_NAMES)].to_numpy(np.float32)
    assert not np.isnan(values).any(), "a frame with a face crop has no score"
    return values


def counts(predicted: NDArray[np.bool_], evaluation: EvaluationRows, condition: str) -> NDArray[np.float64]:
    """Count 2 TP and 2 TP + FP + FN of each source video and AU under a condition: [V, A, 2]."""
    mask = evaluation.masks[condition]
    out = np.zeros((evaluation.videos, AU_COUNT, 2))
    np.add.at(out[..., 0], evaluation.video, 2.0 * (predicted & evaluation.labels & mask))
    np.add.at(out[..., 1], evaluation.video, (predicted & mask).astype(float) + (evaluation.labels & mask))
    return out


def f1_draws(by_video: NDArray[np.float64], draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the mean F1 over AUs and seeds of each draw: counts [S, V, A, 2], draws [D, V] -> [D]."""
    weights = np.stack([np.bincount(draw, minlength=by_video.shape[1]) for draw in draws])  # [D, V]
    pooled = np.einsum("dv,svak->dsak", weights, by_video)  # [D, S, A, 2]
    there = pooled[..., 1] > 0  # the AU has enough positives and occurs in the draw
    f1 = np.divide(pooled[..., 0], pooled[..., 1], out=np.zeros_like(pooled[..., 0]), where=there)
    count = there.sum(axis=2)  # [D, S]; NaN below for a draw without videos of the condition
    mean = np.divide(f1.sum(axis=2), count, out=np.full(count.shape, np.nan), where=count > 0)
    return np.asarray(mean.mean(axis=1))


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the middle 95 % of draws [D]."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def draw_videos(videos: int) -> NDArray[np.int64]:
    """Draw videos [1 + D, V]: first every video once, then bootstrap draws, the same for all networks."""
    drawn = np.random.default_rng(0).integers(0, videos, (DRAWS, videos))
    return np.concatenate([np.arange(videos)[None], drawn])


def mean_auc(probabilities: NDArray[np.float32], evaluation: EvaluationRows, condition: str) -> float:
    """Compute the mean AUC over the AUs with enough positives under a condition."""
    mask, results = evaluation.masks[condition], []
    for j in np.flatnonzero(mask.any(0)):
        kept = mask[:, j]
        results.append(roc_auc_score(evaluation.labels[kept, j], probabilities[kept, j]))
    return float(np.mean(results))
