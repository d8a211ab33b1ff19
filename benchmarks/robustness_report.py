"""Tables and curves of robustness.py.

In: rows (source, kind, level, model, group, AU) with auc, f1, ece, found, rows.  Out: Markdown, pictures.
Not here: measuring (robustness.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd
from measures import markdown
from spoiling import LEVELS, SPOILINGS

COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00")
"""Okabe and Ito's, which the colour-blind can tell apart."""
MOUTH: Final = ("AU25", "AU26")
SOUNDS: Final = {"own": "its own sound", "none": "no sound", "another's": "another's sound"}
TITLES: Final = {
    "faces": ("Faces of `faces_val.parquet`", "all"),
    "rendered": ("Rendered people", "all"),
    "clips": ("Held-out clips, with their own sound", "own"),
}
"""Title and group of each source."""
HEARD: Final = {"clips": "held-out clips", "films": "rendered people who talk"}


def report(measured: pd.DataFrame, models: Sequence[str], file: Path | None) -> list[str]:
    """All tables as Markdown lines; with a file, pictures are written beside it and shown."""
    lines: list[str] = []
    for source, (title, group) in TITLES.items():
        part = measured[(measured["source"] == source) & (measured["group"] == group)]
        if part.empty:
            continue
        count, aus = int(part["rows"].max()), clean_aus(part)
        what = "frames" if source == "clips" else "pictures"
        lines += [f"## {title}", "", f"{count} {what}; means over {', '.join(aus)}.", ""]
        lines += [*spoiling_table(part, models, aus), ""]
        if file is not None:
            curves(part, models, aus, file.with_name(f"{file.stem}-{source}.png"), title.replace("`", ""))
            lines += [f"![Mean AUC by kind and level]({file.stem}-{source}.png)", ""]
        lines += [f"AUC of each AU at the strongest level, {models[0]}:", "", *au_table(part, models[0]), ""]
    stills = measured[(measured["source"].isin(["faces", "rendered"])) & (measured["level"] == 0)]
    if not stills.empty:
        lines += ["## Heads that are turned", "", *turned_table(stills, models), ""]
    for source, title in HEARD.items():
        heard = measured[measured["source"] == source]
        if not heard.empty:
            lines += [f"## Sound: {title}", "", *sound_table(heard, models), ""]
    return lines


def clean_aus(part: pd.DataFrame) -> list[str]:
    """The AUs that can be judged in the pictures as they are."""
    return sorted(part.loc[(part["level"] == 0) & part["auc"].notna(), "AU"].unique())


def mean_of(part: pd.DataFrame, aus: Sequence[str], column: str) -> pd.Series:
    """The mean over AUs by (kind, level, model); NaN where hardly any face is left to judge them by."""
    grouped = part[part["AU"].isin(aus)].groupby(["kind", "level", "model"])[column]
    return grouped.mean().where(grouped.count() > len(aus) / 2)


def spoiling_table(part: pd.DataFrame, models: Sequence[str], aus: Sequence[str]) -> list[str]:
    """A row a condition: share found, and AUC, F1 and ECE of each model."""
    rows = {}
    means = {column: mean_of(part, aus, column) for column in ("auc", "f1", "ece")}
    found = part.groupby(["kind", "level"])["found"].max()
    for kind, level, name in [("clean", 0, "as it is"), *named_levels()]:
        if (kind, level) in found.index:
            values = [means[column][kind, level, model] for model in models for column in means]
            rows[name] = [found[kind, level], *values]
    titles = [f"{model} {column}" for model in models for column in ("AUC", "F1", "ECE")]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["found", *titles])
    return markdown(table, "spoilt by", {"found": ".1%", **dict.fromkeys(titles, ".3f")})


def named_levels() -> list[tuple[str, int, str]]:
    """Kind, level and what a reader is told of it."""
    return [
        (kind, level, f"{kind}, {spoiling.amounts[level - 1]:g} {spoiling.unit}")
        for kind, spoiling in SPOILINGS.items()
        for level in LEVELS
    ]


def au_table(part: pd.DataFrame, model: str) -> list[str]:
    """AUC: a row an AU, a column a kind at its strongest level."""
    chosen = part[(part["model"] == model) & part["level"].isin([0, LEVELS[-1]])]
    table = chosen.pivot_table(index="AU", columns="kind", values="auc", aggfunc="first")
    table = table[[kind for kind in ("clean", *SPOILINGS) if kind in table]]
    return markdown(table, "AU", dict.fromkeys(table.columns, ".3f"))


def turned_table(stills: pd.DataFrame, models: Sequence[str]) -> list[str]:
    """A row a group of yaw: pictures, AUs that can be judged, AUC and F1 of each model."""
    rows = {}
    turned = stills[stills["group"] != "all"]
    for (source, group), part in turned.groupby(["source", "group"], sort=False):
        means = part.groupby("model")[["auc", "f1"]].mean()
        values = [means.loc[model, column] for model in models for column in ("auc", "f1")]
        judged = part.loc[part["auc"].notna(), "AU"].nunique()
        rows[f"{source}, {group} degrees"] = [part["rows"].max(), judged, *values]
    titles = [f"{model} {column}" for model in models for column in ("AUC", "F1")]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["pictures", "AUs", *titles])
    forms = {"pictures": ".0f", "AUs": ".0f", **dict.fromkeys(titles, ".3f")}
    return markdown(table, "yaw", forms)


def sound_table(clips: pd.DataFrame, models: Sequence[str]) -> list[str]:
    """AUC of AU25, AU26 and of all AUs: a row a cover and a sound, columns for each model."""
    rows = {}
    kinds = [("clean", 0), *((kind, LEVELS[-1]) for kind in SPOILINGS if kind.endswith("covered"))]
    for kind, level in kinds:
        part = clips[(clips["kind"] == kind) & (clips["level"] == level)]
        for sound in SOUNDS:
            values = []
            for model in models:
                auc = part[(part["group"] == sound) & (part["model"] == model)].set_index("AU")["auc"]
                values += [*(auc.get(name, float("nan")) for name in MOUTH), auc.mean()]
            rows[f"{'face free' if kind == 'clean' else kind}, {SOUNDS[sound]}"] = values
    titles = [f"{model} {name}" for model in models for name in (*MOUTH, "all")]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=titles)
    return markdown(table, "AUC", dict.fromkeys(titles, ".3f"))


def curves(part: pd.DataFrame, models: Sequence[str], aus: Sequence[str], file: Path, title: str) -> None:
    """A panel a kind: mean AUC by level, a line a model; the share of faces found is dotted, right axis."""
    import matplotlib  # needed for --write alone

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    auc, found = mean_of(part, aus, "auc"), part.groupby(["kind", "level"])["found"].max()
    kinds = [kind for kind in SPOILINGS if kind in part["kind"].unique()]
    figure, axes = plt.subplots(2, 4, figsize=(11, 5.2), sharey=True, squeeze=False)
    for axis, kind in zip(axes.flat, kinds, strict=False):
        for model, colour in zip(models, COLOURS, strict=False):
            values = [auc["clean", 0, model], *(auc[kind, level, model] for level in LEVELS)]
            axis.plot(range(4), values, "o-", color=colour, label=model, markersize=4)
        shares = [found["clean", 0], *(found[kind, level] for level in LEVELS)]
        axis.plot(range(4), [0.5 + share / 2 for share in shares], ":", color="#777777", label="found")
        amounts = [f"{amount:g}" for amount in SPOILINGS[kind].amounts]
        axis.set(title=kind, xticks=range(4), xticklabels=["clean", *amounts], xlabel=SPOILINGS[kind].unit)
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
