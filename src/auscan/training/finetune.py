"""Fine-tune a checkpoint on one's own labels, and test it on people that it was not trained on.

The visual and audio encoders stay as they are; alignment, fusion, temporal model and head start from the
checkpoint's weights. New AUs get new outputs, which change nothing of the others before training. AUs of the
checkpoint without labels keep its own decisions as labels, so that they are not forgotten.

People are split, never frames: some are trained on, some choose the epoch, the calibration and the
thresholds, and the rest are tested. `held-out` tests one fifth. `k-fold` tests everybody, in as many runs as
there are folds, and then trains the network that is written with one fold to choose the epoch. Intervals come
from resampling the tested people, with the same draws before and after.

Inputs: an index with features (batch/extract.py), a checkpoint.
Returns: a `FineTuning`; writes a checkpoint with its model card.
See also: finetune_report.py (comparison, model card), loop.py (training), pack.py (checkpoint),
operating_points.py (calibration and thresholds).
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.checkpoint_folder import CARD_FILE
from auscan.core.config import Calibration, CheckpointConfig, OperatingPoints
from auscan.core.environment import atomic_path
from auscan.core.errors import InputError
from auscan.datasets.index import Index, write_index
from auscan.inference.score_track import calibrate, to_logits
from auscan.model.checkpoint import load_checkpoint
from auscan.results.readers.annotations import NOT_ANNOTATED
from auscan.training.config import (
    DataConfig,
    LoopConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)
from auscan.training.finetune_report import FineTuning, People, compare, model_card
from auscan.training.loop import EXTRA_AUDIO_S, train
from auscan.training.operating_points import CalibratedThresholds, fit_calibrated_thresholds
from auscan.training.pack import pack
from auscan.training.predict import score_tracks
from auscan.training.run import save_trained
from auscan.training.scores import read_scores
from auscan.training.start import as_trained, with_aus
from auscan.training.thresholds import Decision
from auscan.training.tracks import load_tracks

FOLDS: Final = 5
"""Folds of the people; fewer if there are fewer people."""
MIN_PEOPLE: Final = 4
"""Least number of people: to train on, to choose the epoch, and two to test."""
MIN_HELD_OUT: Final = 10
"""Least number of people for held-out: with fewer, one fifth is a single person, who has no interval."""
OPTIMIZER: Final = OptimizerConfig(rate=6e-4, weight_decay=0.01, average=0.98)
"""Optimiser: a smaller rate than for a new network, and an average over about 50 steps."""
LOOP: Final = LoopConfig(epochs=12, batch=4, patience=3, rule="element", stop_at="tuned")
"""Training loop; early stopping on the people of the validation split."""
LOSS: Final = LossConfig(alignment=0.0, covers=0.0)
"""Losses of labels only."""
LENGTH: Final = 150
"""Frames of a window."""

Reporter = Callable[[str], None]
"""Function that receives progress lines for people."""


def finetune(
    index: Index,
    cache: Path,
    out: Path,
    work: Path,
    model: str = "nano",
    aus: Sequence[str] | None = None,
    people: People | None = None,
    report: Reporter = lambda line: None,
) -> FineTuning:
    """Fine-tune `model` on the labels of an index; write the new checkpoint into `out`.

    cache: features of the index by the encoders of `model`.  aus: AUs to train; None: all of the index.
    work: folder for the runs, which are deleted before, and for the decisions before (of all people) and
    after (of those tested).  people: None: held-out if they suffice, else k-fold.
    Raises InputError for too few people, an AU that the index does not have, or labels of one value only.
    """
    checkpoint, config = load_checkpoint(model)
    labelled, constant = _labelled_aus(index, aus)
    if constant:
        report(f"warning: {', '.join(constant)}: the labels have only one value, so these are not trained")
    if config.network.intensity:
        report(f"warning: {config.name} has intensities; the new checkpoint has none, as labels are 1 or 0")
    new = tuple(au for au in labelled if au not in config.au_names)
    au_names = (*config.au_names, *new)
    tracks = load_tracks(index, cache, sorted(set(index.tracks["split"])), None, labelled)
    people = people or ("held-out" if _count_people(index) >= MIN_HELD_OUT else "k-fold")
    folds = _assign_people(index, people)
    report(f"{len(folds)} people, {len(tracks)} tracks; tested: {people}; new: {', '.join(new) or 'no AU'}")
    base, base_config = as_trained(checkpoint, config, tracks[0].features.header)
    margin_s = config.network.fusion.reach_s + EXTRA_AUDIO_S
    before = decide(score_tracks(base, tracks, None, margin_s), config)
    frames = _training_frames(index, before, au_names, labelled)
    shutil.rmtree(work / "runs", ignore_errors=True)
    grown = with_aus(base, base_config, au_names)
    save_trained(work / "runs" / "start", *grown)
    runs = _Runs(index, frames, au_names, cache, work / "runs", config, report)
    count = max(folds.values()) + 1
    tested: list[pd.DataFrame] = []
    kept: tuple[str, ...] = ()
    for fold in range(count if people == "k-fold" else 1):
        scored, decision, kept = runs.run(folds, test=fold, validation=(fold + 1) % count)
        tested.append(scored)
    if people == "k-fold":
        _, decision, kept = runs.run(folds, test=None, validation=0)
    pack(runs.last, out, decision, model=model)
    after = pd.concat(tested, ignore_index=True)
    for name, decisions in (("before", before), ("after", after)):
        with atomic_path(work / f"decisions_{name}.parquet") as path:
            decisions.to_parquet(path, index=False)
    result = replace(compare(index, before, after, labelled), thresholds_kept=kept)
    card = model_card(out.resolve().name, config.name, model, result, people, len(folds))
    with atomic_path(out / CARD_FILE) as path:
        path.write_text(card, encoding="utf-8")
    return result


def decide(scores: pd.DataFrame, config: CheckpointConfig) -> pd.DataFrame:
    """Return uncalibrated scores as decisions, 1 or 0, of the AUs that the checkpoint was trained on."""
    probabilities = scores[list(config.au_names)].to_numpy(np.float64)
    decisions = _decide(scores, config.au_names, probabilities, config.calibration, config.thresholds)
    return decisions.drop(columns=list(config.untrained_aus))


def _labelled_aus(index: Index, aus: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the AUs to train, and those left out because their labels have only one value.

    Raises InputError for an AU of `aus` that the labels lack or that would be left out, and if none remains.
    """
    unknown = [au for au in aus or () if au not in index.au_names]
    if unknown:
        raise InputError(f"The labels lack {', '.join(unknown)}. They have {', '.join(index.au_names)}.")
    chosen = tuple(au for au in index.au_names if aus is None or au in aus)
    values = {au: set(index.frames[au].unique().tolist()) - {NOT_ANNOTATED} for au in chosen}
    constant = [au for au in chosen if len(values[au]) < 2]
    if aus is not None and constant:
        raise InputError(
            f"{', '.join(constant)}: the labels have only one value, so nothing can be learned. Leave these "
            "out of --aus."
        )
    if len(constant) == len(chosen):
        raise InputError(f"No AU has active and inactive frames. The labels have {', '.join(chosen)}.")
    return tuple(au for au in chosen if au not in constant), tuple(constant)


def _count_people(index: Index) -> int:
    return int(index.tracks["source_video"].nunique())


def _assign_people(index: Index, people: People) -> dict[str, int]:
    """Return the fold of each person. Raises InputError for too few people."""
    names = sorted(set(index.tracks["source_video"].astype(str)))
    least = MIN_HELD_OUT if people == "held-out" else MIN_PEOPLE
    if len(names) < least:
        advice = "Test all in turn: --people k-fold" if len(names) >= MIN_PEOPLE else "Label more people"
        raise InputError(
            f"The labels are of {len(names)} people ({', '.join(names[:5])}), too few for --people {people}, "
            f"which needs {least}. {advice}; a column person in the labels names them."
        )
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return {name: number % min(FOLDS, len(names)) for number, name in enumerate(order)}


def _training_frames(
    index: Index,
    before: pd.DataFrame,
    au_names: Sequence[str],
    labelled: Sequence[str],
) -> pd.DataFrame:
    """Return the frames of the index with the labels of all AUs: its own, or the checkpoint's decisions."""
    frames = index.frames[
        ["track", "split", "source_video", "frame", "image", "has_image", "timestamp"]
    ].copy()
    known = before.set_index(["track", "frame"])
    rows = pd.MultiIndex.from_arrays([frames["track"].astype(str), frames["frame"]])
    found = known.reindex(rows)
    for au in au_names:
        if au in labelled:
            frames[au] = index.frames[au].to_numpy(np.int8)
        elif au not in before:
            frames[au] = np.int8(NOT_ANNOTATED)
        else:
            frames[au] = np.where(found["has_face"] == True, found[au], NOT_ANNOTATED).astype(np.int8)  # noqa: E712
    return frames


@dataclass(eq=False)
class _Runs:
    """Training runs on one index with different splits of the people."""

    index: Index
    frames: pd.DataFrame
    au_names: tuple[str, ...]
    cache: Path
    folder: Path
    config: CheckpointConfig
    report: Reporter
    last: Path = Path()
    """Folder of the last run."""

    def run(
        self, folds: dict[str, int], test: int | None, validation: int
    ) -> tuple[pd.DataFrame, Decision, tuple[str, ...]]:
        """Train without the folds `test` and `validation`.

        Returns the decisions of the test people, the decision rule, and the AUs whose thresholds are kept.
        """
        name = "all" if test is None else f"fold{test}"
        split_of = {
            person: "test" if fold == test else "val" if fold == validation else "train"
            for person, fold in folds.items()
        }
        self.last = self.folder / name
        self._write_index(self.folder / f"{name}_index", split_of)
        self.report(f"{name}: {', '.join(f'{n} {s}' for s, n in _counts(split_of.values()).items())}")
        trained = train(self._settings(name, has_test=test is not None), self.report)
        decision, kept = self._fit(read_scores(trained.scores["val"]))
        if test is None:
            return pd.DataFrame(), decision, kept
        return self._apply(read_scores(trained.scores["test"]), decision), decision, kept

    def _write_index(self, folder: Path, split_of: dict[str, str]) -> None:
        splits = self.index.tracks["source_video"].astype(str).map(split_of)
        tracks = self.index.tracks.assign(split=splits)
        frames = self.frames.assign(
            split=self.frames["source_video"].astype(str).map(split_of).astype("category")
        )
        metadata = {**self.index.metadata, "au_names": list(self.au_names)}
        write_index(folder, Index(self.index.root, frames, tracks, metadata))

    def _settings(self, name: str, has_test: bool) -> TrainConfig:
        network = self.config.network
        return TrainConfig(
            out=self.folder / name,
            data=DataConfig(
                index=self.folder / f"{name}_index",
                cache=self.cache,
                score=("test",) if has_test else (),
                length=LENGTH,
                stride=LENGTH,
            ),
            model=ModelConfig(
                size="nano",
                alignment=network.alignment,
                fusion=network.fusion,
                temporal=network.temporal,
                start_from=self.folder / "start",
            ),
            loss=LOSS,
            optimizer=OPTIMIZER,
            loop=LOOP,
        )

    def _fit(self, scores: pd.DataFrame) -> tuple[Decision, tuple[str, ...]]:
        """Return calibration and thresholds for the validation people, and the AUs that keep their own."""
        columns = list(self.au_names)
        rows = scores.merge(
            self.frames[["track", "frame", *columns]], on=["track", "frame"], suffixes=("", "_y")
        )
        labels = rows[[f"{au}_y" for au in columns]].to_numpy(np.int8)
        fitted = fit_calibrated_thresholds(labels, to_logits(rows[columns].to_numpy(np.float64)))
        kept = tuple(
            au
            for j, au in enumerate(self.au_names)
            if au in self.config.au_names and not {0, 1} <= set(labels[:, j].tolist())
        )
        fitted = _with_kept(fitted, self.au_names, kept, self.config)
        return _as_decision(fitted, self.au_names), kept

    def _apply(self, scores: pd.DataFrame, decision: Decision) -> pd.DataFrame:
        probabilities = scores[list(self.au_names)].to_numpy(np.float64)
        return _decide(scores, self.au_names, probabilities, None, decision.thresholds)


def _counts(values: Any) -> dict[str, int]:
    found = list(values)
    return {f"people to {name}": found.count(name) for name in ("train", "val", "test") if name in found}


def _with_kept(
    fitted: CalibratedThresholds, au_names: Sequence[str], kept: Sequence[str], config: CheckpointConfig
) -> CalibratedThresholds:
    """Return the thresholds with those of the checkpoint for the AUs that keep them."""

    def pick(new: Sequence[float], old: Sequence[float] | None, default: float) -> tuple[float, ...]:
        return tuple(
            (default if old is None else old[config.au_names.index(au)]) if au in kept else value
            for au, value in zip(au_names, new, strict=True)
        )

    calibration, points = config.calibration, config.operating_points
    return CalibratedThresholds(
        Calibration(
            scale=pick(fitted.calibration.scale, None if calibration is None else calibration.scale, 1.0),
            shift=pick(fitted.calibration.shift, None if calibration is None else calibration.shift, 0.0),
        ),
        pick(fitted.thresholds, config.thresholds, 0.5),
        OperatingPoints(
            **{
                name: pick(values, None if points is None else getattr(points, name), 0.5)
                for name, values in fitted.operating_points.model_dump().items()
            }
        ),
    )


def _as_decision(fitted: CalibratedThresholds, au_names: tuple[str, ...]) -> Decision:
    """Return a `Decision`, whose thresholds apply to probabilities before the calibration."""
    scale, shift = np.asarray(fitted.calibration.scale), np.asarray(fitted.calibration.shift)
    logits = (to_logits(np.asarray(fitted.thresholds, np.float64)) - shift) / scale
    thresholds = tuple((1 / (1 + np.exp(-logits))).tolist())
    return Decision(au_names, thresholds, (), fitted.calibration, fitted.operating_points)


def _decide(
    scores: pd.DataFrame,
    au_names: Sequence[str],
    probabilities: NDArray[np.float64],
    calibration: Calibration | None,
    thresholds: Sequence[float],
) -> pd.DataFrame:
    """Return the tracks, frames, faces and decisions, 1 or 0, of scores."""
    if calibration is not None:
        probabilities = calibrate(to_logits(probabilities), calibration)
    active = probabilities >= np.asarray(thresholds)  # NaN is inactive
    table = pd.DataFrame(active.astype(np.int8), columns=list(au_names))
    return pd.concat([scores[["track", "frame", "has_face"]].reset_index(drop=True), table], axis=1)
