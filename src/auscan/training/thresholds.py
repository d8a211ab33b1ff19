"""Tune thresholds per AU for the best F1, search their smoothing, and store both.

A threshold is valid only for the smoothing it was tuned after, so both are kept in one file and used
together, in evaluation and in submissions. Tune on out-of-fold scores: thresholds tuned on training data, or
reported on the frames they were tuned on, are optimistic.

Inputs: labels and final scores. Returns: a `Decision`, in JSON.
See also: smoothing.py (final scores), metrics.py (F1).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from auscan.core.aus import check_au_names
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

    au_names: tuple[str, ...]
    """[A] AUs, in the order of all other fields."""
    thresholds: tuple[float, ...] = ()
    """[A] an AU is active if its score is at least this; `DEFAULT` each if not given."""
    windows: tuple[Smoothing, ...] = ()
    """[A] smoothing of each AU; `NO_SMOOTHING` each if not given."""
    calibration: Calibration | None = None
    """Calibration of the scores; used only by `auscan pack`, for a checkpoint."""
    operating_points: OperatingPoints | None = None
    """Further thresholds, on calibrated probabilities; used only by `auscan pack`."""

    def __post_init__(self) -> None:
        count = len(self.au_names)
        if not self.thresholds:
            object.__setattr__(self, "thresholds", (DEFAULT,) * count)
        if not self.windows:
            object.__setattr__(self, "windows", (NO_SMOOTHING,) * count)
        if len(self.thresholds) != count or not all(0 <= t <= 1 for t in self.thresholds):
            raise InputError(f"Thresholds should be {count} numbers from 0 to 1, got {self.thresholds}.")
        if len(self.windows) != count:
            raise InputError(f"Smoothing should have {count} windows, got {len(self.windows)}.")

    @property
    def smooths(self) -> bool:
        """Whether the scores of an AU are smoothed."""
        return any(window != NO_SMOOTHING for window in self.windows)

    def for_aus(self, au_names: Sequence[str]) -> "Decision":
        """Return the decision of these AUs, in their order. Raises InputError if it lacks one of them."""
        missing = [name for name in au_names if name not in self.au_names]
        if missing:
            raise InputError(
                f"The thresholds lack {', '.join(missing)}. They have {', '.join(self.au_names)}. Tune them "
                "on scores of the same AUs: auscan evaluate --save-thresholds."
            )
        order = [self.au_names.index(name) for name in au_names]

        def pick(groups: dict[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
            return {key: tuple(values[j] for j in order) for key, values in groups.items()}

        calibration, points = self.calibration, self.operating_points
        return Decision(
            tuple(au_names),
            tuple(self.thresholds[j] for j in order),
            tuple(self.windows[j] for j in order),
            None if calibration is None else Calibration(**pick(calibration.model_dump())),
            None if points is None else OperatingPoints(**pick(points.model_dump())),
        )

    def predict(self, probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Final scores [R, A] -> bool [R, A]; NaN is inactive. The scores must be smoothed already."""
        return predict_active(probabilities, self.thresholds)

    def save(self, path: Path) -> None:
        """Write the decision to `path` as JSON."""

        def by_au(values: Iterable[Any]) -> dict[str, Any]:
            return dict(zip(self.au_names, values, strict=True))

        content: dict[str, Any] = {
            "thresholds": by_au(self.thresholds),
            "smooth": by_au(map(smoothing_json, self.windows)),
        }
        if self.operating_points is not None:
            points = self.operating_points.model_dump()
            content["operating_points"] = {name: by_au(values) for name, values in points.items()}
        if self.calibration is not None:
            scale, shift = self.calibration.scale, self.calibration.shift
            content["calibration"] = {"scale": by_au(scale), "shift": by_au(shift)}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def predict_active(probabilities: NDArray[np.float32], thresholds: Sequence[float]) -> NDArray[np.bool_]:
    """Compare final scores [R, A] with thresholds [A]: bool [R, A]; NaN is inactive."""
    # Compare in the precision of the scores, so that a score of 0.7 reaches a threshold of 0.7.
    return np.asarray(probabilities >= np.asarray(thresholds, dtype=np.float32))


def read_decision(path: Path) -> Decision:
    """Read a file written by `Decision.save`; all keys but "thresholds" are optional.

    Its AUs are the keys of "thresholds". Raises InputError for any other content.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        unknown = set(content) - {"thresholds", "smooth", "calibration", "operating_points"}
        if unknown:
            raise ValueError(f"unknown key {', '.join(sorted(unknown))}")
        au_names = check_au_names(content["thresholds"])
        thresholds = _numbers(content["thresholds"], au_names)
        windows: tuple[Smoothing, ...] = ()
        if "smooth" in content:
            windows = tuple(Smoothing.parse(str(each)) for each in _by_name(content["smooth"], au_names))
        calibration, points = None, None
        if "calibration" in content:
            calibration = Calibration(**_groups(content["calibration"], au_names))
        if "operating_points" in content:
            points = OperatingPoints(**_groups(content["operating_points"], au_names))
        return Decision(au_names, thresholds, windows, calibration, points)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not a thresholds file: {_describe_error(error)}. It should be JSON with `thresholds` "
            "and `smooth`, each with a number for the same AUs, as written by "
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
        predictions[held_out] = predict_active(probabilities[held_out], thresholds)
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
    au_count = labels.shape[1]
    f1 = np.zeros((len(used), len(CANDIDATES), au_count))
    predictions = np.zeros((len(CANDIDATES), *labels.shape), dtype=bool)
    for c, candidate in enumerate(CANDIDATES):
        probabilities = final_scores(scores, rows, (candidate,) * au_count).probabilities[counted]
        for j in range(au_count):
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
        for j in range(au_count):
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


def smoothing_json(window: Smoothing) -> int | str:
    """Return a smoothing as JSON: a number of frames for a moving average over frames, else text."""
    in_frames = (window.unit, window.kind) == (NO_SMOOTHING.unit, NO_SMOOTHING.kind)
    return int(window.length) if in_frames else str(window)


def _describe_error(error: Exception) -> str:
    """Return the message of an error; for a pydantic error, its first field and message."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


def _groups(groups: dict[str, dict[str, float]], au_names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    return {name: _numbers(numbers, au_names) for name, numbers in groups.items()}


def _by_name(values: dict[str, Any], au_names: Sequence[str]) -> list[Any]:
    if set(values) != set(au_names):
        raise ValueError(f"the keys should be {', '.join(au_names)}")
    return [values[name] for name in au_names]


def _numbers(values: dict[str, float], au_names: Sequence[str]) -> tuple[float, ...]:
    for name, value in zip(au_names, _by_name(values, au_names), strict=True):
        if float(value) != value:
            raise ValueError(f"{name} is {value!r}")
    return tuple(float(values[name]) for name in au_names)
