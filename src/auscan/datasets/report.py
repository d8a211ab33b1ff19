"""Summarise an index and the irregularities of its data set as JSON and as Markdown.

Inputs: the rows of tracks.parquet and the unused files.  Returns: a dict for report.json, text for report.md.
See also: affwild2.py, disfa.py, bp4d.py, openface.py, own_labels.py (tracks), prepare.py (files).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from auscan.core.aus import AFFWILD2_AUS
from auscan.datasets.clock import LENGTH_SLACK
from auscan.datasets.find import Unused

PUBLISHED_PERCENT: Final[tuple[float, ...]] = (
    *(11.82, 4.98, 15.40, 26.61, 39.70, 34.44),
    *(24.49, 2.81, 3.14, 2.56, 62.66, 7.43),
)
"""Percentage of positives per AU among Aff-Wild2's training frames, as published for edition 6."""

PUBLISHED_LABELLED: Final[dict[str, int]] = {"train": 1_359_523, "val": 445_845}
"""Published number of frames with all twelve labels, editions 5 and 6."""

RATE_SLACK_HZ: Final[float] = 0.7
"""Largest unreported difference between the rates in name and file; 29.97 Hz is named 30 or 29."""

PERCENT_SLACK: Final[float] = 1.0
"""Difference from a published percentage, in points, above which it is marked."""

Row = Mapping[str, Any]
"""Row of tracks.parquet."""


def summarise(
    rows: Sequence[Row],
    unused: Sequence[Unused],
    metadata: Mapping[str, Any],
    codings: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the contents of report.json for the rows of tracks.parquet.

    codings: who coded what, see own_labels.py.
    """
    au_names = metadata["au_names"]
    splits = sorted({row["split"] for row in rows}, key=_split_order)
    is_affwild2 = metadata["dataset"] == "affwild2"
    return {
        **metadata,
        "splits": {
            split: _summarise_split([row for row in rows if row["split"] == split], au_names)
            for split in splits
        },
        "published_positive_percent": dict(zip(AFFWILD2_AUS, PUBLISHED_PERCENT, strict=True))
        if is_affwild2
        else None,
        "published_rows_labelled": PUBLISHED_LABELLED if is_affwild2 else None,
        "missing_images": [
            {
                k: row[k]
                for k in ("track", "split", "rows", "rows_without_image", "rows_labelled_without_image")
            }
            for row in rows
            if row["rows_without_image"]
        ],
        "images_beyond": [
            {k: row[k] for k in ("track", "split", "rows", "images_beyond")}
            for row in rows
            if row["images_beyond"]
        ],
        "length_mismatches": [
            {k: row[k] for k in ("track", "split", "rows", "frames_decoded", "surplus")}
            for row in rows
            if row["surplus"] is not None and abs(row["surplus"]) > LENGTH_SLACK
        ],
        "frame_rate_surprises": list(_rate_mismatches(rows)),
        "sources_in_two_splits": _sources_in_two_splits(rows),
        "codings": list(codings),
        "warnings": {row["track"]: row["warnings"] for row in rows if row["warnings"]},
        "unused": [{"path": item.path, "reason": item.reason} for item in unused],
    }


def _split_order(split: str) -> tuple[int, str]:
    return ({"train": 0, "val": 1, "test": 2}.get(split, 3), split)


def _summarise_split(chosen: Sequence[Row], au_names: Sequence[str]) -> dict[str, Any]:
    positives = [sum(column) for column in zip(*(row["positives"] for row in chosen), strict=True)]
    annotated = [sum(column) for column in zip(*(row["annotated"] for row in chosen), strict=True)]
    counted = (
        "rows",
        "rows_labelled",
        "rows_partly_labelled",
        "rows_without_image",
        "rows_labelled_without_image",
    )
    percents = [100 * p / n if n else None for p, n in zip(positives, annotated, strict=True)]
    rates = [percent / 100 for percent in percents if percent is not None]
    return {
        "tracks": len(chosen),
        "source_videos": len({row["source_video"] for row in chosen}),
        **{name: sum(row[name] for row in chosen) for name in counted},
        "images_beyond": sum(row["images_beyond"] for row in chosen),
        "tracks_without_video": sum(row["video"] is None for row in chosen),
        "tracks_without_sound": sum(not row["has_audio"] for row in chosen),
        "tracks_without_pictures": sum(row["rows_without_image"] == row["rows"] for row in chosen),
        "positives": dict(zip(au_names, positives, strict=True)),
        "annotated": dict(zip(au_names, annotated, strict=True)),
        "positive_percent": dict(zip(au_names, percents, strict=True)),
        # Baseline: predicting 1 for every frame has an F1 of 2p / (1 + p), with p the rate of positives.
        "all_ones_f1": sum(2 * rate / (1 + rate) for rate in rates) / len(rates) if rates else None,
    }


def _rate_mismatches(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yield the tracks whose frame rate is variable or differs from the rate in their name."""
    for row in rows:
        if row["frames_decoded"] is None:
            continue
        named = row["named_rate_hz"]
        differs = named is not None and abs(row["rate_hz"] - named) > RATE_SLACK_HZ
        if differs or row["is_uneven"]:
            keys = ("track", "split", "named_rate_hz", "rate_hz", "is_uneven")
            yield {key: row[key] for key in keys}


def _sources_in_two_splits(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the recordings with tracks in more than one split, which leak data between splits."""
    splits = defaultdict(set)
    for row in rows:
        splits[row["source_video"]].add(row["split"])
    return {source: sorted(names) for source, names in sorted(splits.items()) if len(names) > 1}


def as_markdown(summary: Mapping[str, Any]) -> str:
    """Return the summary as a Markdown page."""
    sections = [
        f"# Report of auscan prepare\n\nData set {summary['dataset']} in `{summary['root']}`.",
        _splits_section(summary),
        _positives_section(summary),
        *(_list_section(summary, *section) for section in LIST_SECTIONS),
        _shared_section(summary["sources_in_two_splits"]),
        _codings_section(summary["codings"]),
        _warnings_section(summary["warnings"]),
        _unused_section(summary["unused"]),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


LIST_SECTIONS: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "missing_images",
        "Rows without a picture",
        "A frame without a face has no picture. Its row is kept with `has_image` false.",
    ),
    (
        "images_beyond",
        "Pictures without a row",
        "The number of these pictures has no label line or template row. They are ignored.",
    ),
    (
        "length_mismatches",
        "Length mismatches",
        f"Rows and frames of the video differ by more than {LENGTH_SLACK}. Times beyond the video's last "
        "frame are extrapolated with its median frame interval.",
    ),
    (
        "frame_rate_surprises",
        "Frame-rate mismatches",
        f"The frame rate is variable or differs from the rate in the name by more than {RATE_SLACK_HZ} Hz. "
        "No action is needed: times are read from the container.",
    ),
)
"""Sections with one table: key in the summary, heading, explanation."""

_SPLIT_LINES: Final[dict[str, str]] = {
    "tracks": "tracks",
    "source_videos": "source videos",
    "rows": "rows",
    "rows_labelled": "rows with all labels",
    "rows_partly_labelled": "rows with some labels",
    "rows_without_image": "rows without a picture",
    "rows_labelled_without_image": "rows without a picture, with all labels",
    "images_beyond": "pictures without a row",
    "tracks_without_pictures": "tracks without any picture",
    "tracks_without_video": "tracks without a video",
    "tracks_without_sound": "tracks without sound",
}
"""Lines of the table of splits: key in the summary, text."""


def _splits_section(summary: Mapping[str, Any]) -> str:
    splits: Mapping[str, Any] = summary["splits"]
    if not splits:
        return "**No track was found.**"
    rows = [[text, *(f"{split[key]:,}" for split in splits.values())] for key, text in _SPLIT_LINES.items()]
    published = summary["published_rows_labelled"]
    if published:
        published_cells = [f"{published[split]:,}" if split in published else "" for split in splits]
        rows.append(["published: rows with all labels", *published_cells])
    return "## Splits\n\n" + _table(["", *splits], rows)


def _positives_section(summary: Mapping[str, Any]) -> str:
    splits = {name: split for name, split in summary["splits"].items() if any(split["annotated"].values())}
    if not splits:
        return ""
    published = summary["published_positive_percent"]
    heads = ["AU", *(f"{name}: positives" for name in splits), *(f"{name}: %" for name in splits)]
    rows = []
    for au in summary["au_names"]:
        row = [au, *(f"{s['positives'][au]:,}" for s in splits.values())]
        row += [_percent(s["positive_percent"][au]) for s in splits.values()]
        rows.append(row + _published_cells(au, splits, published))
    if published:
        heads += ["published: train %", "train differs by"]
    ones = ", ".join(f"{name} {split['all_ones_f1']:.3f}" for name, split in splits.items())
    text = f"Predicting 1 for every frame has a mean F1 of: {ones}."
    if published:
        text += f" Differences above {PERCENT_SLACK:g} point are marked *."
    return f"## Positives\n\n{_table(heads, rows)}\n\n{text}"


def _published_cells(au: str, splits: Mapping[str, Any], published: Mapping[str, float] | None) -> list[str]:
    if not published:
        return []
    ours = splits["train"]["positive_percent"][au] if "train" in splits else None
    if ours is None:
        return [f"{published[au]:.2f}", ""]
    difference = ours - published[au]
    mark = " *" if abs(difference) > PERCENT_SLACK else ""
    return [f"{published[au]:.2f}", f"{difference:+.2f}{mark}"]


def _list_section(summary: Mapping[str, Any], key: str, heading: str, text: str) -> str:
    entries = summary[key]
    if not entries:
        return f"## {heading}\n\nNone."
    heads = list(entries[0])
    rows = [[_cell(entry[head]) for head in heads] for entry in entries]
    return f"## {heading}\n\n{text}\n\n{_table([head.replace('_', ' ') for head in heads], rows)}"


def _shared_section(shared: Mapping[str, Sequence[str]]) -> str:
    if not shared:
        return ""
    rows = [[source, ", ".join(splits)] for source, splits in shared.items()]
    text = "Training on one of these splits and scoring on the other overestimates the scores."
    return f"## Source videos in two splits\n\n{text}\n\n{_table(['source video', 'splits'], rows)}"


def _codings_section(codings: Sequence[Mapping[str, Any]]) -> str:
    if not codings:
        return ""
    heads = ["video", "face", "coder", "files", "AUs", "frames coded", "is label"]
    rows = [
        [
            *(coding["video"], coding["face"], coding["coder"], ", ".join(coding["files"])),
            *(", ".join(coding["aus"]), f"{coding['frames_coded']:,}", _cell(coding["is_label"])),
        ]
        for coding in codings
    ]
    text = "Face largest: the largest of each frame; a number: the face_id in `auscan detect`."
    return f"## Coders\n\n{text}\n\n{_table(heads, rows)}"


def _warnings_section(warnings: Mapping[str, Sequence[str]]) -> str:
    if not warnings:
        return "## Warnings\n\nNone."
    lines = [f"- **{track}**: {'; '.join(texts)}" for track, texts in warnings.items()]
    return "## Warnings\n\n" + "\n".join(lines)


def _unused_section(unused: Sequence[Mapping[str, str]]) -> str:
    if not unused:
        return "## Unused files\n\nNone: the index includes all files found."
    reasons = Counter(item["reason"] for item in unused)
    lines = []
    for reason, count in reasons.items():
        lines.append(f"- {reason} ({count}):")
        lines += [f"  - `{item['path']}`" for item in unused if item["reason"] == reason]
    return "## Unused files\n\n" + "\n".join(lines)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
