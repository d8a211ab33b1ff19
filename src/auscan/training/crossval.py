"""Train one network a fold, so that every labelled track is scored by a network that never saw its video.

Why: thresholds that are tuned on such scores are not tuned on what the network knows by heart, and the
networks of all folds together are an ensemble.

In: a `TrainConfig`.  Out: a run a fold, their out-of-fold scores in one Parquet, and for each further split
the mean of the folds' scores.
Not here: one run (loop.py), means (ensemble.py), thresholds (thresholds.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd

from auscan.training.config import FoldConfig, TrainConfig
from auscan.training.ensemble import mean_scores
from auscan.training.loop import train
from auscan.training.scores import read_scores, write_scores

OUT_OF_FOLD: Final = "oof"
"""Name of the scores of all labelled tracks."""


@dataclass(frozen=True)
class CrossOutcome:
    """What the folds came to."""

    best: tuple[float, ...]
    """Mean F1 at 0.5 of each fold's best network on the tracks held out; NaN without labels."""
    scores: dict[str, Path] = field(default_factory=dict)
    """Parquets of scores: `oof`, and the means over the folds."""


def cross_validate(
    config: TrainConfig, count: int, seed: int = 0, say: Callable[[str], None] | None = None
) -> CrossOutcome:
    """Train `count` folds one after the other in folders fold0, fold1, ... of the run's folder.

    Folds that are finished are not done again, one that was stopped goes on.  Each fold chooses its best
    epoch by the tracks it holds out, so their score flatters a little.
    """
    outcomes = [train(fold_config(config, number, count, seed), say) for number in range(count)]
    result = CrossOutcome(tuple(outcome.best for outcome in outcomes))
    if all(outcome.scores for outcome in outcomes):  # of several processes one writes
        held = [read_scores(outcome.scores["val"]) for outcome in outcomes]
        result.scores[OUT_OF_FOLD] = config.out / "scores" / f"{OUT_OF_FOLD}.parquet"
        write_scores(result.scores[OUT_OF_FOLD], pd.concat(held, ignore_index=True))
        for split in config.data.score:
            paths = [outcome.scores[split] for outcome in outcomes]
            result.scores[split] = config.out / "scores" / f"{split}.parquet"
            write_scores(
                result.scores[split], mean_scores([read_scores(p) for p in paths], list(map(str, paths)))
            )
    return result


def fold_config(config: TrainConfig, number: int, count: int, seed: int) -> TrainConfig:
    """The settings of one fold: its own folder, and its part of the tracks held out."""
    fold = FoldConfig(count=count, held_out=number, seed=seed)
    data = config.data.model_copy(update={"folds": fold})
    return config.model_copy(update={"out": config.out / f"fold{number}", "data": data})
