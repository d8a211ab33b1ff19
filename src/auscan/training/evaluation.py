"""Evaluate scores against labels: F1 of each AU, its mean, confidence intervals and more.

Two sets of frames are kept apart, because the literature mixes them up:

    f1_all    every labelled frame; scores of frames without a detected face are filled in, as a submission
              requires. The headline figure.
    f1_faces  only labelled frames with a detected face

Inputs: labels and scores as tables (scores.py), and a `Decision`. Returns: an `Evaluation`, also as plain
JSON types.
See also: metrics.py (definitions), evaluation_figure.py, cli/evaluate.py (output on the command line).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import au_columns
from auscan.core.errors import InputError
from auscan.inference.score_track import to_logits
from auscan.training.intensity_metrics import IntensityMetrics, evaluate_intensities
from auscan.training.metrics import (
    Counts,
    Interval,
    Ranking,
    Rule,
    calibration_error,
    count_by,
    interval,
    label_mask,
    ranking,
)
from auscan.training.operating_points import (
    CalibratedThresholds,
    cross_fit_thresholds,
    fit_calibrated_thresholds,
)
from auscan.training.ranking_draws import count_levels, ranking_ends
from auscan.training.scores import shared_aus
from auscan.training.smoothing import NO_SMOOTHING, Smoothing, final_scores
from auscan.training.thresholds import (
    DEFAULT,
    Decision,
    SmoothingSearch,
    cross_fit_predictions,
    predict_active,
    search_smoothing,
    smoothing_json,
    tune_thresholds,
)


@dataclass(frozen=True, eq=False)
class F1Metrics:
    """F1 on one set of frames with one set of thresholds."""

    counts: Counts
    """[A], pooled over all videos."""
    interval: Interval
    kappa: tuple[float, ...]
    """[A] Cohen's kappa."""


@dataclass(frozen=True, eq=False)
class ThresholdMetrics:
    """Metrics with one set of thresholds."""

    thresholds: tuple[float, ...]
    f1_all: F1Metrics
    f1_faces: F1Metrics


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of a set of scores."""

    au_names: tuple[str, ...]
    """[A] AUs with labels and scores, in the order of all other fields."""
    not_scored: tuple[str, ...]
    """Labelled AUs without a column of scores. They are in no figure."""
    not_labelled: tuple[str, ...]
    """AUs with scores but without a column of labels. They are in no figure."""
    rule: Rule
    windows: tuple[Smoothing, ...]
    """[A] smoothing of each AU, applied first."""
    smoothing_searched: bool
    """Whether the smoothing was chosen on these frames."""
    tracks: int
    sources: int
    """Number of source videos; the bootstrap resamples these."""
    rows: int
    """Number of label rows, counted or not."""
    frames: int
    """Label rows that count: rows with all labels, or with the rule `element` rows with any label."""
    frames_without_face: int
    """Counted frames without a detected face; their scores were filled in."""
    frames_without_score: int
    """Counted frames of a track that has no score of some AU at all; they are predicted inactive."""
    tuned_here: bool
    """Whether the tuned thresholds were chosen on these frames, which makes their F1 optimistic."""
    at_default: ThresholdMetrics
    """Metrics at 0.5."""
    at_tuned: ThresholdMetrics
    cross_fitted: F1Metrics | None
    """f1_all with thresholds, and the smoothing if it was searched, that were chosen for each video on other
    videos: an unbiased estimate of the value of tuning. None if thresholds were given, or with a single
    video."""
    ranking: tuple[Ranking, ...]
    """[A] on all counted frames."""
    auc_interval: NDArray[np.float64]
    """[2, A]."""
    precision_interval: NDArray[np.float64]
    """[2, A] of the average precision."""
    calibration_error: tuple[float, ...]
    """[A] expected calibration error of the given scores, on counted frames with a face."""
    calibrated_error: tuple[float, ...] | None
    """[A] the same after a calibration fitted on other videos; None as for cross_fitted."""
    intensity: IntensityMetrics | None
    """Measures of the intensities; None if labels or scores have none."""
    calibrated_thresholds: CalibratedThresholds | None
    """Calibration and operating points fitted on the counted frames with a face; None if thresholds were
    given."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; an undefined figure is None."""
        names = self.au_names
        return {
            "au_names": list(names),
            "not_scored": list(self.not_scored),
            "not_labelled": list(self.not_labelled),
            "rule": self.rule,
            "smooth": dict(zip(names, map(smoothing_json, self.windows), strict=True)),
            "smoothing_searched": self.smoothing_searched,
            "tracks": self.tracks,
            "sources": self.sources,
            "rows": self.rows,
            "frames": self.frames,
            "frames_without_face": self.frames_without_face,
            "frames_without_score": self.frames_without_score,
            "tuned_here": self.tuned_here,
            "at_default": _threshold_json(names, self.at_default),
            "at_tuned": _threshold_json(names, self.at_tuned),
            "by_others": None if self.cross_fitted is None else _f1_json(names, self.cross_fitted),
            "labels": _label_json(names, self.at_default.f1_all.counts),
            "auc": _by_au(names, [one.auc for one in self.ranking]),
            "auc_interval": _ends_json(names, self.auc_interval),
            "average_precision": _by_au(names, [one.average_precision for one in self.ranking]),
            "average_precision_interval": _ends_json(names, self.precision_interval),
            "calibration_error": _calibration_json(names, self.calibration_error),
            "calibrated_error": None
            if self.calibrated_error is None
            else _calibration_json(names, self.calibrated_error),
            "intensity": None if self.intensity is None else _intensity_json(self.intensity),
        }


def evaluate(
    labels: pd.DataFrame,
    scores: pd.DataFrame,
    decision: Decision | None = None,
    windows: tuple[Smoothing, ...] | Literal["search"] = (),
    rule: Rule = "frame",
) -> Evaluation:
    """Evaluate scores against labels at 0.5 and at the thresholds of `decision`, for the AUs that both have.

    Without a decision, thresholds are tuned on these frames after smoothing over `windows`, or after the best
    smoothing for these frames (`search`). With a decision, its own windows are used.
    windows: of each AU of `shared_aus`; (): no smoothing
    Raises InputError if no AU has labels and scores, a labelled track has no scores, no label counts, or the
    decision lacks an AU; AuscanError without scikit-learn.
    """
    names = shared_aus(labels, scores)
    labelled, scored = au_columns(labels.columns), au_columns(scores.columns)
    not_scored = [name for name in labelled if name not in names and (labels[name] >= 0).any()]
    not_labelled = [name for name in scored if name not in names]
    scores = scores.drop(columns=not_labelled)
    if decision is not None:
        decision = decision.for_aus(names)
        windows = decision.windows
    kept = count_labels(labels, names, rule)
    truth, counted, source = kept.labels, kept.counted, kept.source
    search = None
    if windows == "search":
        search = search_smoothing(scores, labels, truth, counted, source)
        windows = search.windows
    windows = windows or (NO_SMOOTHING,) * len(names)
    final = final_scores(scores, labels, windows)
    probabilities, has_face = final.probabilities[counted], final.has_face[counted]
    # The rule has been applied: labels that do not count are -1 now.
    thresholds = decision.thresholds if decision else tune_thresholds(truth, probabilities, "element")
    frames = _ScoredFrames(truth, probabilities, has_face, source, kept.sources)
    auc_ends, precision_ends = frames.ranking_ends()
    faces = frames.with_face()
    return Evaluation(
        au_names=names,
        not_scored=tuple(not_scored),
        not_labelled=tuple(not_labelled),
        rule=rule,
        windows=windows,
        smoothing_searched=search is not None,
        tracks=int(labels["track"].nunique()),
        sources=kept.sources,
        rows=len(labels),
        frames=int(counted.sum()),
        frames_without_face=int((~has_face).sum()),
        frames_without_score=int((np.isnan(probabilities) & (truth >= 0)).any(axis=1).sum()),
        tuned_here=decision is None,
        at_default=frames.metrics_at((DEFAULT,) * len(names)),
        at_tuned=frames.metrics_at(thresholds),
        cross_fitted=frames.cross_fitted(search) if decision is None and kept.sources > 1 else None,
        ranking=tuple(ranking(truth[:, j], probabilities[:, j]) for j in range(len(names))),
        auc_interval=auc_ends,
        precision_interval=precision_ends,
        calibration_error=faces.calibration_error(faces.probabilities),
        calibrated_error=faces.calibrated_error() if decision is None and faces.sources > 1 else None,
        intensity=evaluate_intensities(labels, scores, names),
        calibrated_thresholds=(
            fit_calibrated_thresholds(faces.labels, to_logits(faces.probabilities))
            if decision is None
            else None
        ),
    )


@dataclass(frozen=True, eq=False)
class CountedLabels:
    """The R label rows that count; labels that do not count are -1."""

    labels: NDArray[np.int8]
    """[R, A]."""
    counted: NDArray[np.bool_]
    """Mask of these rows in the table of labels."""
    source: NDArray[np.int64]
    """[R] number of each row's source video."""
    sources: int


def count_labels(labels: pd.DataFrame, au_names: Sequence[str], rule: Rule) -> CountedLabels:
    """Select the labels of some AUs that count. Raises InputError if there is none."""
    truth = labels[list(au_names)].to_numpy(np.int8)
    coded: NDArray[np.bool_] = np.any(truth >= 0, axis=0)
    mask = label_mask(truth, rule, coded)
    counted: NDArray[np.bool_] = np.any(mask, axis=1)
    if not counted.any():
        raise InputError(
            "No frame has a label for every AU that is labelled in these tracks, as the official score "
            "requires. Count label by label instead: --rule element."
        )
    source, sources = pd.factorize(labels["source_video"].to_numpy()[counted])
    return CountedLabels(np.where(mask, truth, -1)[counted], counted, source, len(sources))


@dataclass(frozen=True, eq=False)
class _ScoredFrames:
    """The R counted frames; labels that do not count are -1."""

    labels: NDArray[np.int8]
    probabilities: NDArray[np.float32]
    has_face: NDArray[np.bool_]
    source: NDArray[np.int64]
    sources: int

    def metrics_at(self, thresholds: tuple[float, ...]) -> ThresholdMetrics:
        predictions = predict_active(self.probabilities, thresholds)
        return ThresholdMetrics(
            thresholds, self._f1_metrics(predictions), self._f1_metrics(predictions, self.has_face)
        )

    def cross_fitted(self, search: SmoothingSearch | None) -> F1Metrics:
        if search is not None and search.cross_fitted is not None:
            return self._f1_metrics(search.cross_fitted)
        return self._f1_metrics(
            cross_fit_predictions(self.labels, self.probabilities, self.source, "element")
        )

    def ranking_ends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the ends [2, A] of the intervals of AUC and average precision."""
        pairs = [
            ranking_ends(count_levels(truth, scores, self.source, self.sources))
            for truth, scores in zip(self.labels.T, self.probabilities.T, strict=True)
        ]
        return np.stack([auc for auc, _ in pairs], axis=1), np.stack([each for _, each in pairs], axis=1)

    def with_face(self) -> "_ScoredFrames":
        """Return only the frames with a detected face."""
        kept = self.has_face
        source, names = pd.factorize(self.source[kept])
        return _ScoredFrames(self.labels[kept], self.probabilities[kept], kept[kept], source, len(names))

    def calibration_error(self, probabilities: NDArray[np.floating]) -> tuple[float, ...]:
        columns = range(self.labels.shape[1])
        return tuple(calibration_error(self.labels[:, j], probabilities[:, j]) for j in columns)

    def calibrated_error(self) -> tuple[float, ...]:
        predictions = cross_fit_thresholds(self.labels, to_logits(self.probabilities), self.source)
        return self.calibration_error(predictions.probabilities)

    def _f1_metrics(self, predictions: NDArray[np.bool_], kept: NDArray[np.bool_] | None = None) -> F1Metrics:
        if kept is None:
            kept = np.ones(len(self.labels), dtype=bool)
        by_source = count_by(self.source[kept], self.sources, self.labels[kept], predictions[kept], "element")
        counts = by_source.pooled()
        return F1Metrics(counts, interval(by_source), tuple(counts.kappa().tolist()))


def _threshold_json(names: Sequence[str], metrics: ThresholdMetrics) -> dict[str, Any]:
    return {
        "thresholds": _by_au(names, metrics.thresholds),
        "f1_all": _f1_json(names, metrics.f1_all),
        "f1_faces": _f1_json(names, metrics.f1_faces),
    }


def _f1_json(names: Sequence[str], metrics: F1Metrics) -> dict[str, Any]:
    f1, ends, counts = metrics.counts.f1(), metrics.interval, metrics.counts
    return {
        "mean": _finite_or_none(metrics.counts.score()),
        "interval": [_finite_or_none(end) for end in ends.score],
        "f1": _by_au(names, f1),
        "f1_interval": _ends_json(names, ends.f1),
        "kappa": _by_au(names, metrics.kappa),
        "kappa_interval": _ends_json(names, ends.kappa),
        "counts": {
            name: {kind: int(getattr(counts, kind)[j]) for kind in ("tp", "fp", "fn", "tn")}
            for j, name in enumerate(names)
        },
    }


def _label_json(names: Sequence[str], counts: Counts) -> dict[str, Any]:
    """Return numbers of labels and of positives, and the F1 of a predictor that always predicts active."""
    positives, labelled = counts.positives(), counts.labelled()
    rate = positives / np.where(labelled > 0, labelled, np.nan)
    always = 2 * rate / (1 + rate)
    return {
        "labelled": dict(zip(names, labelled.tolist(), strict=True)),
        "positives": dict(zip(names, positives.tolist(), strict=True)),
        "base_rate": _by_au(names, rate),
        "f1_of_always_yes": _by_au(names, always),
        "mean_f1_of_always_yes": _finite_or_none(float(np.nanmean(always))),
    }


def _intensity_json(metrics: IntensityMetrics) -> dict[str, Any]:
    """Return the figures of each measure by AU, and those of the mean over the AUs."""
    names = metrics.au_names
    report: dict[str, Any] = {"frames": dict(zip(names, metrics.frames, strict=True))}
    for measure, values in metrics.values.items():
        ends = metrics.ends[measure]
        report[measure] = {
            "mean": _finite_or_none(values[-1]),
            "interval": [_finite_or_none(end) for end in ends[:, -1]],
            "by_au": _by_au(names, values[:-1]),
            "by_au_interval": _ends_json(names, ends[:, :-1]),
        }
    return report


def _calibration_json(names: Sequence[str], errors: tuple[float, ...]) -> dict[str, Any]:
    known = [error for error in errors if not math.isnan(error)]
    return {"mean": float(np.mean(known)) if known else None, "by_au": _by_au(names, errors)}


def _by_au(names: Sequence[str], values: Any) -> dict[str, float | None]:
    return {name: _finite_or_none(float(value)) for name, value in zip(names, values, strict=True)}


def _ends_json(names: Sequence[str], ends: NDArray[np.float64]) -> dict[str, list[float | None]]:
    return {name: [_finite_or_none(end) for end in ends[:, j]] for j, name in enumerate(names)}


def _finite_or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
