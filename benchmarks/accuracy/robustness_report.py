"""Write the tables and curves of robustness.py.

Inputs: rows (source, kind, level, model, group, AU) with auc, f1, ece, found, rows.
Returns: Markdown lines; pictures of the curves.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from benchmarks.accuracy.corruptions import CORRUPTIONS, LEVELS
from benchmarks.accuracy.metric_tables import markdown

COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00")
"""Okabe-Ito palette, safe for colour-blind readers."""
MOUTH: Final = ("AU25", "AU26")
AUDIO_CONDITIONS: Final = {"own": "its own sound", "none": "no sound", "another's": "another's sound"}
TITLES: Final = {
    "faces": ("Faces of `faces_val.parquet`", "all"),
    "rendered": ("Rendered people", "all"),
    "clips": ("Held-out clips, with their own sound", "own"),
}
"""Title and group of each source."""
AUDIO_SOURCES: Final = {"clips": "held-out clips", "talking": "rendered people who speak"}


def report(results: pd.DataFrame, models: Sequence[str], file: Path | None) -> list[str]:
    """Return all tables as Markdown lines; with a file, write the curves beside it."""
    lines: list[str] = []
    for source, (title, group) in TITLES.items():
        part = results[(results["source"] == source) & (results["group"] == group)]
        if part.empty:
            continue
        count, aus = int(part["rows"].max()), clean_aus(part)
        what = "frames" if source == "clips" else "pictures"
        lines += [f"## {title}", "", f"{count} {what}; means over {', '.join(aus)}.", ""]
        lines += [*corruption_table(part, models, aus), ""]
        if file is not None:
            curves(part, models, aus, file.with_name(f"{file.stem}-{source}.png"), title.replace("`", ""))
            lines += [f"![Mean AUC by kind and level]({file.stem}-{source}.png)", ""]
        lines += [f"AUC of each AU at the strongest level, {models[0]}:", "", *au_table(part, models[0]), ""]
    stills = results[(results["source"].isin(["faces", "rendered"])) & (results["level"] == 0)]
    if not stills.empty:
        lines += ["## Head rotation", "", *yaw_table(stills, models), ""]
    for source, title in AUDIO_SOURCES.items():
        rows_with_audio = results[results["source"] == source]
        if not rows_with_audio.empty:
            lines += [f"## Sound: {title}", "", *audio_table(rows_with_audio, models), ""]
    return lines


def clean_aus(part: pd.DataFrame) -> list[str]:
    """Return the AUs with an AUC on the clean pictures."""
    return sorted(part.loc[(part["level"] == 0) & part["auc"].notna(), "AU"].unique())


def mean_of(part: pd.DataFrame, aus: Sequence[str], column: str) -> pd.Series:
    """Average over AUs by (kind, level, model); NaN if fewer than half of the AUs have a value."""
    grouped = part[part["AU"].isin(aus)].groupby(["kind", "level", "model"])[column]
    return grouped.mean().where(grouped.count() > len(aus) / 2)


def corruption_table(part: pd.DataFrame, models: Sequence[str], aus: Sequence[str]) -> list[str]:
    """Return the share found, and AUC, F1 and ECE of each model, a row a condition."""
    rows = {}
    means = {column: mean_of(part, aus, column) for column in ("auc", "f1", "ece")}
    found = part.groupby(["kind", "level"])["found"].max()
    for kind, level, name in [("clean", 0, "clean"), *named_levels()]:
        if (kind, level) in found.index:
            values = [means[column][kind, level, model] for model in models for column in means]
            rows[name] = [found[kind, level], *values]
    titles = [f"{model} {column}" for model in models for column in ("AUC", "F1", "ECE")]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["found", *titles])
    return markdown(table, "corruption", {"found": ".1%", **dict.fromkeys(titles, ".3f")})


def named_levels() -> list[tuple[str, int, str]]:
    """Return kind, level and description of each corruption."""
    return [
        (kind, level, f"{kind}, {corruption.amounts[level - 1]:g} {corruption.unit}")
        for kind, corruption in CORRUPTIONS.items()
        for level in LEVELS
    ]


def au_table(part: pd.DataFrame, model: str) -> list[str]:
    """Return AUC by AU and by kind of corruption at its strongest level."""
    chosen = part[(part["model"] == model) & part["level"].isin([0, LEVELS[-1]])]
    table = chosen.pivot_table(index="AU", columns="kind", values="auc", aggfunc="first")
    table = table[[kind for kind in ("clean", *CORRUPTIONS) if kind in table]]
    return markdown(table, "AU", dict.fromkeys(table.columns, ".3f"))


def yaw_table(stills: pd.DataFrame, models: Sequence[str]) -> list[str]:
    """Return pictures, AUs with an AUC, and AUC and F1 of each model, by group of yaw."""
    rows = {}
    by_yaw = stills[stills["group"] != "all"]
    for (source, group), part in by_yaw.groupby(["source", "group"], sort=False):
        means = part.groupby("model")[["auc", "f1"]].mean()
        values = [means.loc[model, column] for model in models for column in ("auc", "f1")]
        scored_aus = part.loc[part["auc"].notna(), "AU"].nunique()
        rows[f"{source}, {group} degrees"] = [part["rows"].max(), scored_aus, *values]
    titles = [f"{model} {column}" for model in models for column in ("AUC", "F1")]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["pictures", "AUs", *titles])
    forms = {"pictures": ".0f", "AUs": ".0f", **dict.fromkeys(titles, ".3f")}
    return markdown(table, "yaw", forms)


def audio_table(clips: pd.DataFrame, models: Sequence[str]) -> list[str]:
    """Return AUC of AU25, AU26 and all AUs of each model, a row an occlusion and audio."""
    rows = {}
    kinds = [("clean", 0), *((kind, LEVELS[-1]) for kind in CORRUPTIONS if kind.endswith("covered"))]
    for kind, level in kinds:
        part = clips[(clips["kind"] == kind) & (clips["level"] == level)]
        for sound in AUDIO_CONDITIONS:
            values = []
            for model in models:
                auc = part[(part["group"] == sound) & (part["model"] == model)].set_index("AU")["auc"]
                values += [*(auc.get(name, float("nan")) for name in MOUTH), auc.mean()]
            rows[f"{'face free' if kind == 'clean' else kind}, {AUDIO_CONDITIONS[sound]}"] = values
    titles = [f"{model} {name}" for model in models for name in (*MOUTH, "all")]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=titles)
    return markdown(table, "AUC", dict.fromkeys(titles, ".3f"))


def curves(part: pd.DataFrame, models: Sequence[str], aus: Sequence[str], file: Path, title: str) -> None:
    """Plot mean AUC by level: a panel a kind, a line a model; share found dotted, on the right axis."""
    import matplotlib  # needed for --write alone

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    auc, found = mean_of(part, aus, "auc"), part.groupby(["kind", "level"])["found"].max()
    kinds = [kind for kind in CORRUPTIONS if kind in part["kind"].unique()]
    figure, axes = plt.subplots(2, 4, figsize=(11, 5.2), sharey=True, squeeze=False)
    for axis, kind in zip(axes.flat, kinds, strict=False):
        for model, colour in zip(models, COLOURS, strict=False):
            values = [auc["clean", 0, model], *(auc[kind, level, model] for level in LEVELS)]
            axis.plot(range(4), values, "o-", color=colour, label=model, markersize=4)
        shares = [found["clean", 0], *(found[kind, level] for level in LEVELS)]
        axis.plot(range(4), [0.5 + share / 2 for share in shares], ":", color="#777777", label="found")
        amounts = [f"{amount:g}" for amount in CORRUPTIONS[kind].amounts]
        axis.set(title=kind, xticks=range(4), xticklabels=["clean", *amounts], xlabel=CORRUPTIONS[kind].unit)
        axis.set_ylim(0.48, 1.02)
        axis.grid(alpha=0.3)
        right = axis.secondary_yaxis(
            "right", functions=(lambda auc: 2 * auc - 1, lambda share: 0.5 + share / 2)
        )
        if axis in axes[:, -1]:
            right.set_ylabel("share found")
        else:
            right.set_yticks([])
    for axis in axes[:, 0]:
        axis.set_ylabel("mean AUC")
    axes[0, 0].legend(fontsize=7, loc="lower left")
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)
