"""Write the tables and figures of the ablation.

Inputs: the work folder of run.py, the ground truth. Returns: ablation.md, and two pictures for each face
model.
See also: run.py (training), scores.py (metrics).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.training.scores import read_scores
from auscan.training.thresholds import Decision, tune_thresholds
from benchmarks.ablation.scores import (
    AMBIGUOUS_REST,
    CONDITIONS,
    MIN_POSITIVES,
    EvaluationRows,
    counts,
    draw_videos,
    f1_draws,
    interval,
    mean_auc,
    probabilities_at,
)

matplotlib.use("Agg")
COLOURS: Final = {"full": "#0072B2", "TCN": "#E69F00", "windowed Transformer": "#009E73"}
"""Okabe-Ito palette, safe for colour-blind readers."""


@dataclass(frozen=True, eq=False)
class NetworkResults:
    """Results of one network on one face model, over all seeds."""

    draws: dict[str, NDArray[np.float64]]
    """[1 + D] mean F1 by condition: of the original videos, then of every bootstrap draw."""
    auc: dict[str, NDArray[np.float64]]
    """[S] mean AUC by condition and seed."""


@dataclass(frozen=True, eq=False)
class FaceModelRuns:
    """Runs and ground truth of one face model."""

    folder: Path
    val: EvaluationRows
    evaluation: EvaluationRows
    seeds: int

    def network_results(self, name: str, context: str = "whole") -> NetworkResults:
        """Compute the results of all seeds of one network."""
        draws = draw_videos(self.evaluation.videos)
        by_seed: dict[str, list[NDArray[np.float64]]] = {condition: [] for condition in CONDITIONS}
        auc: dict[str, list[float]] = {condition: [] for condition in CONDITIONS}
        for seed in range(self.seeds):
            run = self.folder / "runs" / f"{name} {seed}"
            decision = Decision(tune_thresholds(self.val.labels.astype(int), self._val(run)))
            probabilities = probabilities_at(self._read(run / "held", context), self.evaluation)
            predicted = decision.predict(probabilities)
            for condition in CONDITIONS:
                by_seed[condition].append(counts(predicted, self.evaluation, condition))
                auc[condition].append(mean_auc(probabilities, self.evaluation, condition))
        return NetworkResults(
            {condition: f1_draws(np.stack(each), draws) for condition, each in by_seed.items()},
            {condition: np.array(each) for condition, each in auc.items()},
        )

    def f1_of_all_active(self) -> dict[str, float]:
        """Compute the mean F1 of predicting every AU as active, by condition."""
        every = np.ones_like(self.evaluation.labels)
        first = draw_videos(self.evaluation.videos)[:1]
        return {
            condition: float(f1_draws(counts(every, self.evaluation, condition)[None], first)[0])
            for condition in CONDITIONS
        }

    def _val(self, run: Path) -> NDArray[np.float32]:
        """Read the probabilities [R, A] of the validation rows."""
        return probabilities_at(read_scores(run / "scores" / "val.parquet").assign(part="tracks"), self.val)

    def _read(self, folder: Path, context: str) -> pd.DataFrame:
        """Read the scores of all evaluation data sets at one chunk length."""
        tables = (
            read_scores(path).assign(part=path.name.split("-")[0])
            for path in folder.glob(f"*-{context}.parquet")
        )
        return pd.concat(tables, ignore_index=True)


def write_report(
    work: Path,
    truth: dict[str, tuple[EvaluationRows, EvaluationRows]],
    networks: list[str],
    contexts: dict[str, tuple[str, ...]],
    seeds: int,
    out: Path,
) -> None:
    """Write ablation.md and its pictures into `out`. contexts: chunk lengths by network."""
    out.mkdir(parents=True, exist_ok=True)
    lines = [f"# {TITLE}", "", *SUMMARY]
    for face, (val, evaluation) in truth.items():
        runs = FaceModelRuns(work / face, val, evaluation, seeds)
        results = {name: runs.network_results(name) for name in networks}
        lines += ["", f"## {TITLES[face]}", "", *description(runs)]
        lines += [
            "",
            *f1_table(results, runs.f1_of_all_active()),
            "",
            *difference_table(results),
            "",
            *auc_table(results),
        ]
        lines += ["", f"![Mean F1 by condition](ablation-{face}-conditions.png)"]
        conditions_figure(results, out / f"ablation-{face}-conditions.png", TITLES[face])
        by_context = {
            name: {length: runs.network_results(name, length) for length in lengths}
            for name, lengths in contexts.items()
        }
        lines += ["", *context_table(by_context), "", f"![Mean F1 by context](ablation-{face}-context.png)"]
        context_figure(by_context, out / f"ablation-{face}-context.png", TITLES[face])
    lines += ["", *METHOD]
    (out / "ablation.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out / "ablation.md")


TITLES: Final = {"builtin": "Built-in face model", "ict": "ICT-FaceKit face model"}
TITLE: Final = "Ablation: contribution of each part"
SUMMARY: Final = (
    "Mean F1 of the full network, of networks without one part, and of networks with another part in its "
    "place, on rendered people. The figures show the contribution of a part on this task, not the accuracy "
    "on real faces.",
)
METHOD: Final = (
    "## How it was measured",
    "",
    "`python benchmarks/ablation/run.py WORK --ict ict_facekit.npz --write` renders people with exact labels "
    "([synth.md](../synth.md)), fine-tunes nano's visual encoder on some of them, trains small networks on "
    "its features of others, and scores people that were used for neither.",
    "",
    "F1 is pooled over frames with a face crop, at thresholds tuned on validation tracks. Means are over the "
    f"AUs with at least {MIN_POSITIVES} positives under the condition, then over seeds. Brackets are 95 % "
    "intervals over source videos (1,000 bootstrap draws). Differences are paired, so their intervals are "
    f"narrower. A resting face is ambiguous in an AU if it shows the AU by {AMBIGUOUS_REST:g} or more; the "
    "last column counts only such AUs.",
)


def description(runs: FaceModelRuns) -> list[str]:
    """Return a sentence about the size of the evaluation data."""
    shares = ", ".join(
        f"{condition} {runs.evaluation.masks[condition].any(1).mean():.1%}" for condition in CONDITIONS[1:]
    )
    return [
        f"Held out: {len(runs.evaluation.rows):,} frames of {runs.evaluation.videos} source videos; "
        f"{runs.seeds} seeds. Shares of frames: {shares}."
    ]


def f1_table(results: dict[str, NetworkResults], f1_of_all_active: dict[str, float]) -> list[str]:
    """Return the table of mean F1 with intervals."""
    rows = [
        [name, *(f"{each.draws[c][0]:.3f} ({_range(each.draws[c])})" for c in CONDITIONS)]
        for name, each in results.items()
    ]
    rows.append(["every AU active", *(f"{f1_of_all_active[condition]:.3f}" for condition in CONDITIONS)])
    return ["Mean F1:", "", *_table(["network", *CONDITIONS], rows)]


def difference_table(results: dict[str, NetworkResults]) -> list[str]:
    """Return the table of the full model's mean F1 minus that of each other network, paired."""
    full, rows = results["full"], []
    for name, each in results.items():
        if name != "full":
            gains = [full.draws[condition] - each.draws[condition] for condition in CONDITIONS]
            rows.append([name, *(f"{gain[0]:+.3f} ({_range(gain, '+.3f')})" for gain in gains)])
    return ["Mean F1 of the full network minus that of:", "", *_table(["network", *CONDITIONS], rows)]


def auc_table(results: dict[str, NetworkResults]) -> list[str]:
    """Return the table of mean AUC with the lowest and the highest seed."""
    rows = [
        [
            name,
            *(
                f"{each.auc[c].mean():.3f} ({each.auc[c].min():.3f} to {each.auc[c].max():.3f})"
                for c in CONDITIONS
            ),
        ]
        for name, each in results.items()
    ]
    return [
        "Mean AUC (lowest and highest seed):",
        "",
        *_table(["network", *CONDITIONS], rows),
    ]


def context_table(by_context: dict[str, dict[str, NetworkResults]]) -> list[str]:
    """Return the table of mean F1 by chunk length."""
    lengths = list(next(iter(by_context.values())))
    rows = [
        [f"{name}, {condition}", *(f"{each[length].draws[condition][0]:.3f}" for length in lengths)]
        for name, each in by_context.items()
        for condition in (CONDITIONS[0], CONDITIONS[-1])
    ]
    return [
        "Mean F1 by context: tracks are cut into chunks of this many frames (ten a second) and each chunk is "
        "scored alone. The networks were trained on windows of 600 frames.",
        "",
        *_table(["network", *lengths], rows),
    ]


def conditions_figure(results: dict[str, NetworkResults], path: Path, title: str) -> None:
    """Plot the difference to the full network: a panel for each condition, a row for each network."""
    others = [name for name in results if name != "full"]
    figure, panels = plt.subplots(1, len(CONDITIONS), figsize=(15, 4.4), sharey=True)
    for panel, condition in zip(panels, CONDITIONS, strict=True):
        for place, name in enumerate(others):
            gain = results["full"].draws[condition] - results[name].draws[condition]
            low, high = interval(gain[1:])
            colour = "#0072B2" if low > 0 else "#D55E00" if high < 0 else "#777777"
            panel.plot([low, high], [place, place], color=colour, linewidth=2)
            panel.plot(gain[0], place, "o", color=colour, markersize=5)
        panel.axvline(0, color="black", linewidth=0.8)
        panel.set_title(condition.replace(", ", ",\n"), fontsize=9)
        panel.set_xlabel("difference in mean F1", fontsize=8)
        panel.tick_params(labelsize=8)
    panels[0].set_yticks(range(len(others)), others)
    panels[0].invert_yaxis()
    figure.suptitle(
        f"{title}: mean F1 of the full network minus that of others, 95 % intervals over source videos"
    )
    _save(figure, path)


def context_figure(by_context: dict[str, dict[str, NetworkResults]], path: Path, title: str) -> None:
    """Plot mean F1 against chunk length."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharex=True)
    for panel, condition in zip(panels, (CONDITIONS[0], CONDITIONS[-1]), strict=True):
        for name, each in by_context.items():
            middle = [each[length].draws[condition][0] for length in each]
            low, high = zip(*(interval(each[length].draws[condition][1:]) for length in each), strict=True)
            panel.plot(
                range(len(each)),
                middle,
                "o-",
                color=COLOURS[name],
                label="state space" if name == "full" else name,
            )
            panel.fill_between(range(len(each)), low, high, color=COLOURS[name], alpha=0.12, linewidth=0)
            panel.set_xticks(range(len(each)), list(each))
        panel.set_title(condition)
        panel.set_xlabel("frames in a chunk, ten a second")
    panels[0].set_ylabel("mean F1")
    panels[0].legend(loc="lower right")
    figure.suptitle(title)
    _save(figure, path)


def _range(draws: NDArray[np.float64], form: str = ".3f") -> str:
    """Format the 95 % interval of draws [1 + D]."""
    low, high = interval(draws[1:])
    return f"{low:{form}} to {high:{form}}"


def _table(head: Iterable[str], rows: list[list[str]]) -> list[str]:
    """Return a Markdown table as lines."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _save(figure: plt.Figure, path: Path) -> None:
    """Save and close a figure."""
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
