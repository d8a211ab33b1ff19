"""Write the tables of the ablation from the finished seeds.

Inputs: the work folder of run.py. Returns: ablation.md.
See also: run.py (training), hearing.py (scores of a network), scores.py (AUCs, intervals).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from auscan.core.aus import AFFWILD2_AUS
from benchmarks.ablation.hearing import GATES, MOUTH_AUS, patch_regions
from benchmarks.ablation.scores import (
    DETECTABLE,
    Floats,
    HeldOutFrames,
    draw_seeds,
    draw_weights,
    interval,
    mean_auc,
    read_test_frames,
    values_at,
)

ENOUGH_SEEDS = 5
"""Number of seeds from which networks are compared."""
GRID = 7
"""Patches along one side."""
OWN = ("AU25 covered, own sound", "AU26 covered, own sound")
COMPARED = (*OWN, "free faces", "free, ambiguous rest", "free, yaw above 30 degrees")
"""Measures by which the networks are compared."""
LEAD = """# Ablation: contribution of each part

AUC of the full network, of networks without one part, and of networks with another part in its place, on
rendered people under hard conditions: half of the covered speech has another person's voice, a card with a
moving mouth covers some mouths, faces are blanked, and labels are relative to a resting face. The figures
show the contribution of a part on this task, not the accuracy on real faces. The encoders are those of `nano`
as shipped, not fine-tuned.
"""
HOW = """## Method

`python benchmarks/ablation/run.py WORK --seeds 5 --write` renders 30 training, 6 validation and 10 test
people with 40 s each at 25 frames a second ([synth.md](../synth.md)), extracts nano's features on its full
7x7 grid, and trains small networks (width 64, two temporal blocks) for up to 6 epochs. The best epoch by mean
F1 at tuned thresholds on the validation people is scored, with the track's own sound, without sound and with
another track's. It takes hours on one core; an interrupted run resumes.

*Covered* are frames in which at least 60 % of the mouth is covered while the person speaks with the own
voice; *free* are frames with at most 15 % of the mouth, and of eyes with brows, covered. Intervals are the
middle 95 % of 1,000 bootstrap draws over test people and seeds; differences are paired. The smallest
detectable difference is 2.8 standard errors (80 % power at the 5 % level). Not part of the task: a face in
the background, and a resting face that was seen minutes before (videos last 40 s).
"""


@dataclass(frozen=True, eq=False)
class ArmResults:
    """Results of the finished seeds of one network."""

    auc: dict[str, Floats]
    """[1 + D] AUC by measure, averaged over drawn seeds."""
    measures: list[pd.DataFrame]
    """Table of measures of each seed."""
    curve: Floats
    """[S, E] validation F1 at tuned thresholds by epoch; NaN after the last one."""


def write_report(work: Path, arms: list[str], out: Path) -> None:
    """Write ablation.md into `out` from the seeds that all networks have finished."""
    runs = work / "runs"
    seeds = next(
        s for s in range(100) if not all((runs / f"{arm} {s}" / "test.parquet").exists() for arm in arms)
    )
    if seeds == 0:
        print("no seed of all networks is finished, so there is no report yet")
        return
    frames = read_test_frames(work)
    results = {arm: read_results(work, arm, seeds, frames) for arm in arms}
    lines = [
        LEAD,
        f"{len(frames.rows):,} test frames of {frames.videos} people; finished seeds: {seeds}.",
        few_seeds(seeds),
        *["## The full network\n", *full_table(results["full"], frames), ""],
        *[
            "## Gates and selection\n",
            *gate_table(results, frames),
            "",
            *selection_table(results["full"], frames),
            "",
        ],
        *["## Networks\n", "Mean AUC (95 % interval):\n", *arms_table(results), ""],
        "AUC of the full network minus that of another (95 % interval; smallest detectable difference):\n",
        *[*difference_table(results), ""],
        *["## Training curves\n", "Mean F1 of the validation people at tuned thresholds, by epoch:\n"],
        *[*curve_table(results), "", HOW],
    ]
    (out / "ablation.md").write_text("\n".join(lines), "utf-8")
    print(f"{out / 'ablation.md'}: {seeds} seeds")


def few_seeds(seeds: int) -> str:
    """Return a warning if the seeds are too few to compare networks, else an empty text."""
    if seeds >= ENOUGH_SEEDS:
        return ""
    return (
        f"Fewer than {ENOUGH_SEEDS} seeds: the intervals hardly contain the variation between trainings, so\n"
        "small differences between networks mean nothing yet.\n"
    )


def read_results(work: Path, arm: str, seeds: int, frames: HeldOutFrames) -> ArmResults:
    """Compute the AUCs of some seeds of one network."""
    weights, by_seed = draw_weights(frames.videos), draw_seeds(seeds)
    aucs: dict[str, list[Floats]] = {name: [] for name in frames.measures()}
    tables, curves = [], np.full((seeds, 100), np.nan)
    for seed in range(seeds):
        run = work / "runs" / f"{arm} {seed}"
        scores, tables = (
            pd.read_parquet(run / "test.parquet"),
            [*tables, pd.read_parquet(run / "measures.parquet")],
        )
        by_sound = {s: values_at(table, frames, AFFWILD2_AUS) for s, table in scores.groupby("sound")}
        for name, measure in frames.measures().items():
            aucs[name].append(mean_auc(by_sound[measure.sound], frames, measure.mask, weights))
        log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        for entry in log:
            if entry.get("kind") == "validation":
                curves[seed, entry["epoch"]] = entry["mean_f1_tuned"]
    auc = {name: (by_seed * np.stack(each, axis=1)).sum(1) for name, each in aucs.items()}
    return ArmResults(auc, tables, curves[:, np.isfinite(curves).any(0)])


def full_table(full: ArmResults, frames: HeldOutFrames) -> list[str]:
    """Return the table of the full network with its own, no and another's sound, and the ceiling."""
    measures, weights = frames.measures(), draw_weights(frames.videos)
    opening = np.repeat(frames.rows["opening"].to_numpy(np.float64)[:, None], len(AFFWILD2_AUS), axis=1)
    rows = []
    for au in ("AU25", "AU26"):
        names = [f"{au} covered, {sound} sound" for sound in ("own", "none", "other")]
        others = [f"{au} covered, another's voice, {sound}" for sound in ("heard", "no sound")]
        oracle = mean_auc(opening, frames, measures[names[0]].mask, weights)
        gain = full.auc[names[0]] - full.auc[names[1]]
        cells = [_cell(full.auc[name]) for name in (*names, *others)]
        rows.append([au, *cells[:3], _cell(gain, "+.3f"), *cells[3:], _cell(oracle)])
    head = [
        "covered mouth, speech", "own sound", "no sound", "another track's sound", "own minus none",
        "another's voice heard", "the same without sound", "oracle: true opening",
    ]  # fmt: skip
    return [*_table(head, rows), "", *opening_lines(full, frames)]


def opening_lines(full: ArmResults, frames: HeldOutFrames) -> list[str]:
    """Return a table of the predicted opening of the mouth in clean speech, against the true one."""
    free = frames.free & frames.clean_speech
    rows = []
    for name, mask in (("seen", free), ("heard", frames.clean_speech)):
        opening = frames.rows["opening"].to_numpy()[mask]
        values = [values_at(table, frames, (name,))[mask, 0] for table in full.measures]
        auc = [roc_auc_score(opening >= 0.5, each) for each in values]
        correlation = [np.corrcoef(opening, each)[0, 1] for each in values]
        rows.append([name, f"{np.mean(auc):.3f}", f"{np.mean(correlation):.3f}"])
    return _table(["opening in clean speech", "AUC of opening >= 0.5", "correlation with the opening"], rows)


def gate_table(results: dict[str, ArmResults], frames: HeldOutFrames) -> list[str]:
    """Return how well the gates tell covered from visible regions, with and without targets."""
    blank = frames.rows["blank"].to_numpy()
    covered = (frames.covers == 1) & ~blank[:, None]
    visible = frames.covers == 0
    rows = []
    for arm in ("full", "gates without targets"):
        gates = [values_at(table, frames, GATES) for table in results[arm].measures]
        for region, aus in (("mouth", MOUTH_AUS), ("eyes and brows", ~MOUTH_AUS)):
            known = covered[:, aus], visible[:, aus], blank
            figures = np.mean([_gate_figures(each[:, aus], *known) for each in gates], axis=0)
            rows.append([arm, region, *(f"{value:.3f}" for value in figures)])
    head = [
        "network",
        "gates of",
        "AUC of visible against covered",
        "mean covered",
        "mean visible",
        "mean blank",
    ]
    return _table(head, rows)


def selection_table(full: ArmResults, frames: HeldOutFrames) -> list[str]:
    """Return the share of active patches on the face, on a visible mouth and on its cover."""
    blank = frames.rows["blank"].to_numpy()
    mouth = frames.covers[:, AFFWILD2_AUS.index("AU25")]
    columns = ("active_on_face", "active_on_mouth")
    active = [values_at(table, frames, columns) for table in full.measures]
    kept = (~blank, mouth == 0, (mouth == 1) & ~blank)
    shares = [
        [each[rows, column].mean() for rows, column in zip(kept, (0, 1, 1), strict=True)] for each in active
    ]
    on_face, on_mouth = (f"{region.mean():.3f}" for region in patch_regions(GRID))
    rows = [
        ["selected", *(f"{value:.3f}" for value in np.mean(shares, axis=0))],
        ["k random patches", on_face, on_mouth, on_mouth],
    ]
    head = ["share of active patches", "on the face", "of mouth AUs, on the visible mouth", "on its cover"]
    note = "Face and mouth are fixed regions of the aligned crop, not the rendered ones."
    return [*_table(head, rows), "", note]


def _gate_figures(gates: Floats, covered: Floats, visible: Floats, blank: Floats) -> list[float]:
    """AUC of visible against covered, mean over AUs; mean gate of covered, visible and blank regions."""
    aucs = []
    for au in range(gates.shape[1]):
        known = covered[:, au] | visible[:, au]
        if covered[known, au].any() and visible[known, au].any():
            aucs.append(roc_auc_score(visible[known, au], gates[known, au]))
    return [np.mean(aucs), gates[covered].mean(), gates[visible].mean(), gates[blank].mean()]


def arms_table(results: dict[str, ArmResults]) -> list[str]:
    """Return the AUC of every network."""
    rows = [[arm, *(_cell(each.auc[name]) for name in COMPARED)] for arm, each in results.items()]
    return _table(["network", *COMPARED], rows)


def difference_table(results: dict[str, ArmResults]) -> list[str]:
    """Return the paired differences of the full network to the others."""
    rows = []
    for arm, each in results.items():
        if arm != "full":
            differences = [results["full"].auc[name] - each.auc[name] for name in COMPARED]
            cells = (f"{_cell(d, '+.3f')}; {DETECTABLE * np.nanstd(d[1:]):.3f}" for d in differences)
            rows.append([arm, *cells])
    return _table(["network", *COMPARED], rows)


def curve_table(results: dict[str, ArmResults]) -> list[str]:
    """Return the validation F1 by epoch, averaged over the seeds that reached it."""
    epochs = max(each.curve.shape[1] for each in results.values())
    rows = []
    for arm, each in results.items():
        means = np.nanmean(each.curve, axis=0)
        rows.append([arm, *(f"{value:.3f}" for value in means), *[""] * (epochs - len(means))])
    return _table(["network", *(str(epoch + 1) for epoch in range(epochs))], rows)


def _cell(draws: Floats, form: str = ".3f") -> str:
    """Format a value and its 95 % interval, from draws [1 + D]."""
    low, high = interval(draws)
    return f"{draws[0]:{form}} ({low:{form}} to {high:{form}})"


def _table(head: Iterable[str], rows: list[list[str]]) -> list[str]:
    """Return a Markdown table as lines."""
    head = list(head)
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)]
