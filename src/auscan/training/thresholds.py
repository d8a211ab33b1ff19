"""Tune thresholds per AU for the best F1, search their smoothing, and store both.

A threshold is valid only for the smoothing it was tuned after, so both are kept in one file and used
together, in evaluation and in submissions. Tune on out-of-fold scores: thresholds tuned on training data, or
reported on the frames they were tuned on, are optimistic.

Inputs: labels and final scores. Returns: a `Decision`, in JSON.
See also: smoothing.py (final scores), metrics.py (F1).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from auscan.core.aus import AFFWILD2_AUS, AU_COUNT
from auscan.core.config import Calibration, OperatingPoints
from auscan.core.environment import atomic_path
from auscan.core.errors import InputError
from auscan.training.metrics import Rule, label_mask
from auscan.training.smoothing import NO_SMOOTHING, Smoothing, final_scores

DEFAULT: Final[float] = 0.5
"""The threshold without tuning, and if tuning finds nothing better."""
MIN_THRESHOLD: Final[float] = 0.05
MAX_THRESHOLD: Final[float] = 0.95
"""Range of tuned thresholds, so that the threshold of a rare AU is not set by a few extreme frames."""

CANDIDATES: Final[tuple[Smoothing, ...]] = (
    Smoothing(),
    *(Smoothing(s, "s", kind) for s in (0.1, 0.25, 0.5, 1.0, 2.0, 4.0) for kind in ("mean", "median")),
)
"""Smoothing that the search compares, the weakest first."""
MIN_GAIN: Final[float] = 0.001
"""Gain of F1 from which the search prefers a longer window."""

FOLDS: Final[int] = 5
"""Folds of the source videos for cross-fitting: tune on four fifths, predict the rest."""


@dataclass(frozen=True)
class Decision:
    """Rule from scores to labels: smooth over `windows`, then compare with `thresholds`."""

    thresholds: tuple[float, ...] = (DEFAULT,) * AU_COUNT
    """[A] an AU is active if its score is at least this."""
    windows: tuple[Smoothing, ...] = NO_SMOOTHING
    """[A] smoothing of each AU."""
    calibration: Calibration | None = None
    """Calibration of the scores; used only by `auscan pack`, for a checkpoint."""
    operating_points: OperatingPoints | None = None
    """Further thresholds, on calibrated probabilities; used only by `auscan pack`."""

    def __post_init__(self) -> None:
        if len(self.thresholds) != AU_COUNT or not all(0 <= t <= 1 for t in self.thresholds):
            raise InputError(f"Thresholds should be {AU_COUNT} numbers from 0 to 1, got {self.thresholds}.")
        if len(self.windows) != AU_COUNT:
            raise InputError(f"Smoothing should have {AU_COUNT} windows, got {len(self.windows)}.")

    def predict(self, probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Final scores [R, A] -> bool [R, A]; NaN is inactive. The scores must be smoothed already."""
        # Compare in the precision of the scores, so that a score of 0.7 reaches a threshold of 0.7.
        return np.asarray(probabilities >= np.asarray(self.thresholds, dtype=np.float32))

    def save(self, path: Path) -> None:
        """Write the decision to `path` as JSON."""
        content: dict[str, Any] = {
            "thresholds": _by_au_name(self.thresholds),
            "smooth": smoothing_json(self.windows),
        }
        if self.operating_points is not None:
            points = self.operating_points.model_dump()
            content["operating_points"] = {name: _by_au_name(values) for name, values in points.items()}
        if self.calibration is not None:
            scale, shift = self.calibration.scale, self.calibration.shift
            content["calibration"] = {"scale": _by_au_name(scale), "shift": _by_au_name(shift)}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_decision(path: Path) -> Decision:
    """Read a file written by `Decision.save`; all keys but "thresholds" are optional.

    Raises InputError for any other content.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        unknown = set(content) - {"thresholds", "smooth", "calibration", "operating_points"}
        if unknown:
            raise ValueError(f"unknown key {', '.join(sorted(unknown))}")
        thresholds = _values_in_au_order(content["thresholds"], float)
        windows = NO_SMOOTHING
        if "smooth" in content:
            windows = tuple(Smoothing.parse(str(window)) for window in _in_au_order(content["smooth"]))
        calibration, points = None, None
        if "calibration" in content:
            calibration = Calibration(**_groups_in_au_order(content["calibration"]))
        if "operating_points" in content:
            points = OperatingPoints(**_groups_in_au_order(content["operating_points"]))
        return Decision(tuple(thresholds), windows, calibration, points)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not a thresholds file: {_describe_error(error)}. It should be JSON with `thresholds` "
            "and `smooth`, each with a number for all twelve AUs, as written by "
            "`auscan evaluate --save-thresholds`."
        ) from error


def tune_thresholds(
    labels: NDArray[np.integer], probabilities: NDArray[np.float32], rule: Rule = "frame"
) -> tuple[float, ...]:
    """Return the thresholds [A] of best F1 per AU on final scores [R, A] and labels [R, A]."""
    mask = label_mask(labels, rule)
    return tuple(
        best_threshold(labels[mask[:, j], j], probabilities[mask[:, j], j]) for j in range(labels.shape[1])
    )


def cross_fit_predictions(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.float32],
    source: NDArray[np.integer],
    rule: Rule = "frame",
    folds: int = FOLDS,
) -> NDArray[np.bool_]:
    """Predictions bool [R, A]; the thresholds of each row are tuned without its source video.

    This measures the value of tuning on unseen videos: F1 on the frames that thresholds were tuned on is
    optimistic. source: [R] from 0; needs two or more. Smoothing does not cross tracks, so no information
    leaks between folds.
    """
    predictions = np.zeros(labels.shape, dtype=bool)
    for held_out in held_out_rows(source, folds):
        thresholds = tune_thresholds(labels[~held_out], probabilities[~held_out], rule)
        predictions[held_out] = Decision(thresholds).predict(probabilities[held_out])
    return predictions


@dataclass(frozen=True, eq=False)
class SmoothingSearch:
    """Smoothing of each AU, chosen on R scored rows."""

    windows: tuple[Smoothing, ...]
    """[A] chosen on all rows."""
    cross_fitted: NDArray[np.bool_] | None
    """[R, A] predictions with the smoothing and threshold of each row chosen on other videos: an unbiased
    estimate of the value of the search. None for a single video."""


def search_smoothing(
    scores: pd.DataFrame,
    rows: pd.DataFrame,
    labels: NDArray[np.integer],
    counted: NDArray[np.bool_],
    source: NDArray[np.integer],
) -> SmoothingSearch:
    """Choose for each AU the smoothing with the best F1 at its own tuned threshold.

    scores, rows: as for `final_scores`; counted: mask of the R rows to use; labels [R, A] and source [R] of
    those rows. Of windows whose F1 is within `MIN_GAIN` of the best, the first of `CANDIDATES` is chosen.
    """
    folds = list(held_out_rows(source)) if source.max() > 0 else []
    used = [~held_out for held_out in folds] + [np.ones(len(labels), dtype=bool)]
    f1 = np.zeros((len(used), len(CANDIDATES), AU_COUNT))
    predictions = np.zeros((len(CANDIDATES), *labels.shape), dtype=bool)
    for c, candidate in enumerate(CANDIDATES):
        probabilities = final_scores(scores, rows, (candidate,) * AU_COUNT).probabilities[counted]
        for j in range(AU_COUNT):
            order = np.argsort(probabilities[:, j], kind="stable")  # so that each fold sorts in linear time
            known = order[labels[order, j] >= 0]
            for k, rows_used in enumerate(used):
                kept = known[rows_used[known]]
                threshold, f1[k, c, j] = best_f1(labels[kept, j], probabilities[kept, j])
                if k < len(folds):
                    predictions[c, folds[k], j] = probabilities[folds[k], j] >= np.float32(threshold)
    chosen = np.argmax(f1 >= f1.max(axis=1, keepdims=True) - MIN_GAIN, axis=1)  # [folds + 1, A], the first
    cross_fitted = np.zeros(labels.shape, dtype=bool)
    for k, held_out in enumerate(folds):
        for j in range(AU_COUNT):
            cross_fitted[held_out, j] = predictions[chosen[k, j], held_out, j]
    return SmoothingSearch(tuple(CANDIDATES[c] for c in chosen[-1]), cross_fitted if folds else None)


def held_out_rows(source: NDArray[np.integer], folds: int = FOLDS) -> Iterator[NDArray[np.bool_]]:
    """Yield a mask [R] of the held-out rows of each fold: every row once, all rows of a source together."""
    # Videos with adjacent names may be similar, so shuffle them.
    sources = np.random.default_rng(0).permutation(int(source.max()) + 1)
    for fold in range(min(folds, len(sources))):
        yield np.isin(source, sources[fold::folds])


def best_threshold(labels: NDArray[np.integer], scores: NDArray[np.float32]) -> float:
    """Return the threshold of `best_f1`."""
    return best_f1(labels, scores)[0]


def best_f1(labels: NDArray[np.integer], scores: NDArray[np.float32]) -> tuple[float, float]:
    """Threshold of best F1, `MIN_THRESHOLD` to `MAX_THRESHOLD`, for labels [R] of 0 and 1, scores [R]; and
    that F1.

    Exact: every threshold between two distinct scores is tried. Of equally good ones the nearest to 0.5 is
    chosen, so an AU without a positive keeps 0.5. NaN scores are inactive at every threshold.
    """
    known = ~np.isnan(scores)
    order = np.argsort(scores[known], kind="stable")
    ascending = scores[known][order].astype(np.float32)
    positive = labels[known][order].astype(np.int64)
    above = np.concatenate([np.cumsum(positive[::-1])[::-1], [0]])  # positives from each position on
    candidates = np.clip(
        np.append(candidate_thresholds(np.unique(ascending)), [DEFAULT]), MIN_THRESHOLD, MAX_THRESHOLD
    ).astype(np.float32)
    first = np.searchsorted(ascending, candidates, side="left")  # first score that reaches the candidate
    denominator = len(ascending) - first + int(labels.sum())  # predicted + positives = 2 TP + FP + FN
    f1 = np.divide(2 * above[first], denominator, out=np.zeros(len(candidates)), where=denominator > 0)
    best = candidates[f1 == f1.max()]
    return float(best[np.argmin(np.abs(best - DEFAULT))]), float(f1.max())


def candidate_thresholds(distinct: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a threshold below each of the ascending distinct scores: half-way to the next lower one, or to
    0.

    If float32 has no value in between, it is the score itself, because a score equal to the threshold is
    active.
    """
    lower = np.concatenate([[np.float32(0)], distinct[:-1]])[: len(distinct)]
    middle = ((lower.astype(np.float64) + distinct) / 2).astype(np.float32)
    return np.where(middle > lower, middle, distinct)


def smoothing_json(windows: Sequence[Smoothing]) -> dict[str, int | str]:
    """Return the smoothing of each AU: a number of frames for a moving average over frames, else text."""
    in_frames = Smoothing().unit, Smoothing().kind
    values = [int(w.length) if (w.unit, w.kind) == in_frames else str(w) for w in windows]
    return dict(zip(AFFWILD2_AUS, values, strict=True))


def _by_au_name(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(AFFWILD2_AUS, values, strict=True))


def _describe_error(error: Exception) -> str:
    """Return the message of an error; for a pydantic error, its first field and message."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


def _groups_in_au_order(groups: dict[str, dict[str, float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(_values_in_au_order(numbers, float)) for name, numbers in groups.items()}


def _in_au_order(values: dict[str, Any]) -> list[Any]:
    if set(values) != set(AFFWILD2_AUS):
        raise ValueError(f"the keys should be {', '.join(AFFWILD2_AUS)}")
    return [values[name] for name in AFFWILD2_AUS]


def _values_in_au_order(numbers: dict[str, float], kind: type) -> Sequence[float]:
    _in_au_order(numbers)
    wrong = [name for name in AFFWILD2_AUS if kind(numbers[name]) != numbers[name]]
    if wrong:
        raise ValueError(f"{wrong[0]} is {numbers[wrong[0]]!r}")
    return [kind(numbers[name]) for name in AFFWILD2_AUS]
