"""Write events as BIDS: `_events.tsv` with one row for each event, and JSON that describes the columns.

A video named in BIDS form, such as sub-01_task-talk_video.mp4, gives sub-01_task-talk_events.tsv. Any other
name is kept and `_events` is added, because a subject or task must not be invented. Unknown values are n/a.

Inputs: the data of a result.
Writes: NAME_events.tsv, NAME_events.json.
"""

import json
import re
from pathlib import Path
from typing import Any, Final

from auscan.core.aus import ACTION_UNITS
from auscan.core.environment import atomic_path
from auscan.results.exports.content import ExportData, stem, trained_aus

BASELINE_NOTE: Final[str] = "; above what is usual for the face where Baseline is not none"
"""End of the descriptions of columns that follow the person baseline."""

COLUMNS: Final[dict[str, dict[str, Any]]] = {
    "onset": {"Description": "Begin of the event on the clock of the video.", "Units": "s"},
    "duration": {
        "Description": "From the begin of its first frame to the end of its last one.",
        "Units": "s",
    },
    "trial_type": {"Description": "Facial action unit of the event."},
    "face_id": {"Description": "The same face within one video, from 0."},
    "apex": {"Description": "When the probability is highest.", "Units": "s"},
    "mean": {"Description": f"Mean probability of the action unit in the event, 0 to 1{BASELINE_NOTE}."},
    "peak": {"Description": f"Highest probability of the action unit in the event, 0 to 1{BASELINE_NOTE}."},
    "speech": {"Description": "Share of the event in which somebody speaks, 0 to 1; n/a without sound."},
}
"""Columns of the table and their descriptions."""


def write_bids(data: ExportData, folder: Path) -> list[Path]:
    """Write both files into `folder`; return their paths."""
    table = data.events.rename(columns={"AU": "trial_type"})
    table = table.sort_values(["onset", "face_id", "trial_type"], kind="stable")[list(COLUMNS)]
    base = folder / f"{bids_name(stem(data))}_events"
    paths = [base.with_name(f"{base.name}.tsv"), base.with_name(f"{base.name}.json")]
    with atomic_path(paths[0]) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="n/a", float_format="%.6f", lineterminator="\n")
    with atomic_path(paths[1]) as temporary:
        temporary.write_text(
            json.dumps(_sidecar(data), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return paths


def bids_name(name: str) -> str:
    """Return the name without its BIDS suffix: sub-01_task-talk_video -> sub-01_task-talk.

    Any name that is not in BIDS form is returned unchanged.
    """
    entity = r"[a-zA-Z]+-[a-zA-Z0-9]+"
    match = re.fullmatch(rf"(sub-[a-zA-Z0-9]+(?:_{entity})*)_[a-zA-Z]+", name)
    return match[1] if match else name


def _sidecar(data: ExportData) -> dict[str, Any]:
    info = data.info
    levels = {name: ACTION_UNITS[name].meaning for name in trained_aus(data)}
    provenance = {
        "Version": info.versions["auscan"],
        "Model": info.model,
        "OperatingPoint": info.operating_point,
        "Baseline": info.baseline,
        "NotTaught": list(info.untrained_aus),
        "Source": info.source,
    }
    columns = {**COLUMNS, "trial_type": {**COLUMNS["trial_type"], "Levels": levels}}
    return {**columns, "auscan": provenance}
