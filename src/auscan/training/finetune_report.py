"""Compare decisions before and after fine-tuning, and write the model card.

Inputs: labels, and decisions before and after, of people that were not trained on.
Returns: a `FineTuning`, the text of a model card.
See also: finetune.py (which trains), metrics.py (counts and draws).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.datasets.index import Index
from auscan.training.metrics import LEVEL, Counts, bootstrap, count_by, percentile_ends

People = Literal["held-out", "k-fold"]
"""How people are tested: one fifth of them, or all in turn."""

FEW_PEOPLE: Final = 8
"""Number of tested people below which the interval is stated to be rough."""


@dataclass(frozen=True, eq=False)
class FineTuning:
    """Result of fine-tuning: F1 on the frames with a face of people that were not trained on."""

    au_names: tuple[str, ...]
    """[A] labelled AUs."""
    before: NDArray[np.float64]
    """[A] F1 of the checkpoint with its own thresholds; NaN for AUs that it does not have."""
    after: NDArray[np.float64]
    """[A] F1 of the fine-tuned network."""
    interval: NDArray[np.float64]
    """[2, A] ends of the difference after - before; NaN without `before`."""
    mean_before: float
    """Mean F1 of the AUs that both have."""
    mean_after: float
    mean_interval: tuple[float, float]
    """Ends of the difference of the means."""
    people: int
    """Number of tested people."""
    frames: int
    """Number of tested frames."""
    kept: dict[str, float]
    """F1 of the decisions after against those before, of AUs without labels."""
    thresholds_kept: tuple[str, ...]
    """AUs with the calibration and thresholds of the checkpoint: the validation people do not show them."""

    def verdict(self, j: int) -> str:
        """Return whether AU j is better, worse, neither or new."""
        return "new" if np.isnan(self.before[j]) else _verdict(*self.interval[:, j])

    @property
    def sentence(self) -> str:
        """Sentence that states whether fine-tuning was a gain."""
        low, high = self.mean_interval
        change = f"Mean F1 went from {self.mean_before:.3f} to {self.mean_after:.3f}"
        ends = f"(difference {low:+.3f} to {high:+.3f} with {LEVEL:.0%} confidence)"
        if np.isnan(low):
            return "The checkpoint has none of the labelled AUs, so there is nothing to compare with."
        if low > 0:
            return f"{change}: a gain {ends}."
        if high < 0:
            return f"{change}: a loss {ends}. Keep the checkpoint."
        return f"{change}, which is no gain: the difference may be chance {ends}."

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON types."""

        def known(value: float) -> float | None:
            return None if np.isnan(value) else float(value)

        return {
            "aus": {
                au: {
                    "before": known(self.before[j]),
                    "after": known(self.after[j]),
                    "interval": [known(end) for end in self.interval[:, j]],
                    "verdict": self.verdict(j),
                }
                for j, au in enumerate(self.au_names)
            },
            "mean": {
                "before": known(self.mean_before),
                "after": known(self.mean_after),
                "interval": [known(end) for end in self.mean_interval],
            },
            "people": self.people,
            "frames": self.frames,
            "kept": self.kept,
            "thresholds_kept": list(self.thresholds_kept),
            "sentence": self.sentence,
        }


def compare(index: Index, before: pd.DataFrame, after: pd.DataFrame, labelled: tuple[str, ...]) -> FineTuning:
    """Compare decisions on the tested frames with a face."""
    truth = index.frames[["track", "frame", "source_video", *labelled]].astype({"track": str})
    after = after[after["has_face"]]
    rows = after[["track", "frame"]].merge(truth, on=["track", "frame"], validate="one_to_one")
    old = after[["track", "frame"]].merge(before, on=["track", "frame"], validate="one_to_one")
    source, people = pd.factorize(rows["source_video"].astype(str))
    both = [au for au in labelled if au in before]

    def counts(decisions: pd.DataFrame, aus: Sequence[str], labels: pd.DataFrame = rows) -> Counts:
        columns = list(aus)
        active = decisions[columns].to_numpy() == 1
        return count_by(source, len(people), labels[columns].to_numpy(np.int8), active, "element")

    f1 = {au: float(value) for au, value in zip(both, counts(old, both).pooled().f1(), strict=True)}
    ends, mean_ends = _difference_ends(counts(old, both), counts(after, both))
    interval = dict(zip(both, ends.T.tolist(), strict=True))
    rest = [
        au for au in before.columns if au in after and au not in (*labelled, "track", "frame", "has_face")
    ]
    kept = counts(after, rest, old).pooled().f1() if rest else ()
    compared = counts(after, both).pooled().score() if both else float("nan")
    return FineTuning(
        au_names=labelled,
        before=np.array([f1.get(au, np.nan) for au in labelled]),
        after=counts(after, labelled).pooled().f1(),
        interval=np.array([interval.get(au, [np.nan, np.nan]) for au in labelled]).T,
        mean_before=counts(old, both).pooled().score() if both else float("nan"),
        mean_after=compared,
        mean_interval=mean_ends,
        people=len(people),
        frames=len(rows),
        kept=dict(zip(rest, map(float, kept), strict=True)),
        thresholds_kept=(),
    )


def _difference_ends(before: Counts, after: Counts) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return the ends [2, A] of the differences of F1, and of their mean, by the same draws of people."""
    aus = before.tp.shape[1]
    if not aus or len(before.tp) < 2:
        return np.full((2, aus), np.nan), (float("nan"), float("nan"))
    drawn_before, drawn_after = (np.column_stack(bootstrap(each)) for each in (before, after))  # [D, A + 1]
    ends = percentile_ends(drawn_after - drawn_before)
    return ends[:, :-1], (float(ends[0, -1]), float(ends[1, -1]))


def _verdict(low: float, high: float) -> str:
    if np.isnan(low):
        return "not known"
    return "gain" if low > 0 else "loss" if high < 0 else "no gain"


def model_card(name: str, base: str, model: str, result: FineTuning, people: People, count: int) -> str:
    """Return the model card."""
    rows = [
        f"| {au} | {'' if np.isnan(result.before[j]) else f'{result.before[j]:.3f}'} | "
        f"{result.after[j]:.3f} | {_ends_text(result.interval[:, j])} | {result.verdict(j)} |"
        for j, au in enumerate(result.au_names)
    ]
    kept = ", ".join(f"{au} {f1:.3f}" for au, f1 in result.kept.items())
    lines = [
        f"# {name}",
        "",
        f"Fine-tuned by `auscan finetune` from {base} ({model}) on labels of {count} people. The encoders "
        "are those of the checkpoint; alignment, fusion, temporal model and head were trained.",
        "",
        result.sentence,
        *([_few_people(result.people)] if result.people < FEW_PEOPLE else []),
        "",
        f"F1 on {result.frames:,} frames with a face of {result.people} people that were not trained on "
        f"(`--people {people}`); before: the checkpoint with its own thresholds.",
        "",
        f"| AU | before | after | difference, {LEVEL:.0%} interval | |",
        "| --- | ---: | ---: | ---: | --- |",
        *rows,
        "",
        "- Calibration and thresholds were fitted on people that neither trained nor tested the network.",
        f"- AUs without labels kept the decisions of {base} as labels; F1 of the decisions after against "
        f"those before: {kept or 'none'}.",
        f"- Calibration and thresholds taken from {base}: {', '.join(result.thresholds_kept) or 'none'}.",
        "- The figures hold for people, cameras and coders like those of the labels.",
    ]
    if people == "k-fold":
        lines.append(
            "- The figures are those of the folds; the network written here was trained on more people."
        )
    return "\n".join(lines) + "\n"


def _ends_text(ends: NDArray[np.float64]) -> str:
    return "" if np.isnan(ends[0]) else f"{ends[0]:+.3f} to {ends[1]:+.3f}"


def _few_people(count: int) -> str:
    return f"The interval is rough: it is of {count} people only."
