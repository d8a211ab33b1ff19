"""Hold the result of one input: the table, the run that made it, and everything computed from them.

Statistics are computed for all faces and for each face: duration and share of each AU. Unknown values are
None.

Inputs: the table, the tracks behind it, attributions and sound.
Returns: a Result; `save` writes its folder of files.
See also: table.py (columns), events.py (events), figures/ (drawing).
"""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.aus import ACTION_UNITS, au_columns, canonical_name
from auscan.core.environment import atomic_path
from auscan.core.errors import InputError
from auscan.results.attributions import (
    ATTRIBUTIONS_FILE,
    Attributions,
    AttributionsWriter,
    attributions_metadata,
)
from auscan.results.events import (
    DEFAULT_EVENT_SETTINGS,
    EVENTS_FILE,
    SOUND_FILE,
    Speech,
    find_events,
    neutral_point,
    parse_baseline,
    replace_baseline,
    resting_levels,
    write_speech,
)
from auscan.results.exports.content import ExportData
from auscan.results.exports.write import export_result
from auscan.results.run_info import RunInfo
from auscan.results.table import (
    REASONS,
    TableWriter,
    TrackScores,
    active_columns,
    by_face,
    check_columns,
    frame_durations_s,
    frame_times_s,
    table_metadata,
)

Statistics = dict[str, float | int | None]
"""Statistics of one AU by name."""

SUMMARY_FILE: Final[str] = "summary.json"
"""File name in the folder of a result."""


def seconds_active(table: pd.DataFrame) -> dict[str, float | None]:
    """Return for each AU the seconds in which it was active in any face; None if unknown.

    Frames are weighted by their durations. Only scored rows count.
    """
    au_names = au_columns(table.columns)
    durations = frame_durations_s(frame_times_s(table))
    frames = table.groupby("frame", sort=True)
    any_face = frames[active_columns(au_names)].max().to_numpy()  # [F, A], NaN unknown
    known = ~np.isnan(any_face).all(axis=0)
    active_s = durations @ (np.nan_to_num(any_face) > 0)  # [A]
    no_face = not table["success"].any()
    return {name: float(active_s[j]) if known[j] or no_face else None for j, name in enumerate(au_names)}


def base_rates(table: pd.DataFrame) -> dict[str, float | None]:
    """Return for each AU the share of scored face rows in which it is active; None without scored rows."""
    au_names = au_columns(table.columns)
    rates = table[active_columns(au_names)].mean()  # ignores NaN
    return {name: _number(rates[f"{name}_c"]) for name in au_names}


def reason_counts(table: pd.DataFrame) -> dict[str, int]:
    """Return the number of rows by reason, with every reason as a key."""
    counts = table["reason"].value_counts()
    return {reason: int(counts.get(reason, 0)) for reason in REASONS}


def au_statistics(
    table: pd.DataFrame, events: pd.DataFrame, seconds: Mapping[str, float | None]
) -> dict[str, Statistics]:
    """Return base_rate, seconds_active, events, mean_duration_s and mean_probability of each AU.

    If the table has intensities, mean_intensity is their mean over the rows in which the AU is scored.

    table, events: of all faces, or of one face
    seconds: seconds_active of each AU; if it is None, the number of events is None, too
    mean_probability is the mean of `AU..` (not of `AU.._b`) over the rows in which the AU is scored.
    """
    rates = base_rates(table)
    durations = {name: events.loc[events["AU"] == name, "duration"] for name in rates}
    statistics: dict[str, Statistics] = {}
    for name in rates:
        count, is_scored = len(durations[name]), table[f"{name}_c"].notna()
        statistics[name] = {
            "base_rate": rates[name],
            "seconds_active": seconds[name],
            "events": None if seconds[name] is None else count,
            "mean_duration_s": float(durations[name].mean()) if count else None,
            "mean_probability": _number(table.loc[is_scored, name].mean()),
        }
        if f"{name}_r" in table:
            statistics[name]["mean_intensity"] = _number(table.loc[is_scored, f"{name}_r"].mean())
    return statistics


def face_statistics(
    table: pd.DataFrame, events: pd.DataFrame, levels: Mapping[int, NDArray[np.float64]] | None
) -> list[dict[str, Any]]:
    """Return for each face its first and last second, rows, share of scored rows and `au_statistics`.

    levels: baseline level [A] by face_id, or None without a baseline. A face without a level has None.
    """
    au_names = au_columns(table.columns)
    times_s = frame_times_s(table)
    ends_s = times_s + frame_durations_s(times_s)
    frame_index = np.searchsorted(np.unique(table["frame"]), table["frame"])  # [R] index of the row's frame
    durations_s = pd.Series((ends_s - times_s)[frame_index], index=table.index)
    faces = []
    for face_id, rows in by_face(table):
        active = rows[active_columns(au_names)].to_numpy()  # [T, A]
        active_s = durations_s[rows.index].to_numpy() @ (np.nan_to_num(active) > 0)
        known = ~np.isnan(active).all(axis=0)
        seconds = {name: float(active_s[j]) if known[j] else None for j, name in enumerate(au_names)}
        face: dict[str, Any] = {
            "face_id": face_id,
            "first_s": float(rows["timestamp"].iloc[0]),
            "last_s": float(ends_s[frame_index[rows.index[-1]]]),
            "rows": len(rows),
            "judged": float((~np.isnan(active)).any(axis=1).mean()),
        }
        if levels is not None:
            face["baseline"] = _level(au_names, levels[face_id])
        faces.append(face | {"aus": au_statistics(rows, events[events["face_id"] == face_id], seconds)})
    return faces


def _level(au_names: Sequence[str], level: NDArray[np.float64]) -> dict[str, float | None] | None:
    if np.isnan(level).all():
        return None
    return {name: _number(value) for name, value in zip(au_names, level, strict=True)}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False)
class Result:
    """Result of one input. `table` has one row for each face and frame."""

    table: pd.DataFrame
    """One row for each face and frame, and one for a frame without a face (table.py)."""
    tracks: tuple[TrackScores, ...]
    """Frames, boxes, points and probabilities of each face; empty for a result read from a folder."""
    info: RunInfo
    """The run that made the table."""
    attributions: Attributions | None = None
    """Attention maps and gates, one row for each face and frame; None unless requested."""
    sound: Speech | None = None
    """Sound level and speech over time; None without audio."""

    def __post_init__(self) -> None:
        check_columns(self.table)
        if au_columns(self.table.columns) != self.info.au_names:
            raise ValueError("info.au_names are not the AUs of the table.")
        frames = self.table["frame"].nunique()
        if frames != self.info.frames:
            raise ValueError(f"info.frames is {self.info.frames}, but the table has {frames} frames.")

    @cached_property
    def events(self) -> pd.DataFrame:
        """One row for each event, with the columns `events.EVENT_COLUMNS`; computed on first access."""
        return find_events(self.table, self.info.thresholds, speech=self.sound)

    def export(
        self, *, to: str | Sequence[str], folder: str | Path, media: str | Path | None = None
    ) -> list[Path]:
        """Write the result in formats of other programs into `folder`; return the paths of the files.

        to: openface, pyfeat, elan, textgrid, bids, wide or jsonl, or several of them (docs/exports.md)
        folder: is created if missing    media: path of the input, for the link in the .eaf of ELAN
        Raises InputError for an unknown format, before any file is written, and if an .eaf or TextGrid
        exists.
        """
        data = ExportData(self.table, self.events, self.info)
        formats = [to] if isinstance(to, str) else to
        return export_result(data, formats, Path(folder), None if media is None else Path(media))

    def resting_levels(self) -> dict[int, NDArray[np.float64]] | None:
        """Return the baseline level of each face, [A] by face_id; None without a baseline."""
        baseline = parse_baseline(self.info.baseline)
        return None if baseline is None else resting_levels(self.table, baseline, self.info.keep_all)

    def with_baseline(self, baseline: str) -> "Result":
        """Return the result with another person baseline, without running the network.

        baseline: none, median or SECONDS-SECONDS.  Raises InputError for any other text.
        """
        return self._scored_again(replace(self.info, baseline=baseline))

    def with_thresholds(self, thresholds: Mapping[str, float] | Sequence[float]) -> "Result":
        """Return the result with other thresholds: `AU.._c`, events and summary follow, without the network.

        thresholds: 0 to 1, one for each of `info.au_names` in order, or by AU name for some of them
        The operating point becomes "custom".
        Raises InputError for an AU that the result does not have, a wrong count or a value beyond 0 to 1.
        """
        names = self.info.au_names
        if isinstance(thresholds, Mapping):
            given = {canonical_name(name): value for name, value in thresholds.items()}
            if unknown := [name for name in given if name not in names]:
                raise InputError(f"The result has no {', '.join(unknown)}. Its AUs: {', '.join(names)}.")
            by_name = dict(zip(names, self.info.thresholds, strict=True)) | given
            thresholds = [by_name[name] for name in names]
        values = tuple(float(value) for value in thresholds)
        if len(values) != len(names) or not all(0 <= value <= 1 for value in values):
            raise InputError(f"Give {len(names)} thresholds from 0 to 1, one for each AU; got {values}.")
        return self._scored_again(replace(self.info, thresholds=values, operating_point="custom"))

    def _scored_again(self, info: RunInfo) -> "Result":
        """Return the result with `AU.._c` by the thresholds and the baseline of a run."""
        table = replace_baseline(self.table, parse_baseline(info.baseline), info.thresholds, info.keep_all)
        return replace(self, table=table, info=info)

    def plot(self, face_id: int | None = None) -> "go.Figure":
        """Return a plotly figure of the AUs of one face over time, with its events.

        face_id: None is the face with the most frames.  Raises InputError if there is no such face.
        """
        from auscan.results.figures.plots import FigureData, face_figure, longest_face  # slow to import

        face = longest_face(self.table) if face_id is None else face_id
        if face is None or not self.table["face_id"].eq(face).any():
            face_ids = sorted(self.table.loc[self.table["success"] == 1, "face_id"].unique().tolist())
            raise InputError(
                f"There is no face {face} to plot; {self.info.source} has {face_ids or 'no face'}."
            )
        data = FigureData(self.table, self.events, self.info.thresholds, self.info.untrained_aus, self.sound)
        return face_figure(data, face)

    def to_pandas(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def summary(self) -> dict[str, Any]:
        """Return the content of summary.json as plain JSON types; unknown values are None."""
        faces = self.table[self.table["success"] == 1]
        frames_with_face = int(faces["frame"].nunique())
        scored = int(len(faces) if self.info.keep_all else faces["reason"].eq("").sum())
        seconds = _mask_untrained(seconds_active(self.table), self.info.untrained_aus)
        levels = self.resting_levels()
        return {
            "source": self.info.source,
            "frames": self.info.frames,
            "duration_s": round(self.info.duration_s, 6),
            "rows": len(self.table),
            "faces": int(faces["face_id"].nunique()),
            "frames_with_face": frames_with_face,
            "coverage": frames_with_face / self.info.frames if self.info.frames else None,
            "judged": scored / len(faces) if len(faces) else None,
            "reasons": reason_counts(self.table),
            "keep_all": self.info.keep_all,
            "modalities": {"video": True, "audio": self.info.has_audio},
            "sound_offset_s": self.info.sound_offset_s,
            "seconds_active": seconds,
            "base_rate": base_rates(self.table),
            "aus": au_statistics(self.table, self.events, seconds),
            "per_face": face_statistics(self.table, self.events, levels),
            "baseline": self.info.baseline,
            "neutral": None if levels is None else self._by_au(neutral_point(self.info.thresholds)),
            "event_settings": asdict(DEFAULT_EVENT_SETTINGS),
            "model": self.info.model,
            "reference": self.info.reference,
            "operating_point": self.info.operating_point,
            "thresholds": self._by_au(self.info.thresholds),
            "untaught": list(self.info.untrained_aus),
            "versions": dict(self.info.versions),
            "command": self.info.command,
            "seconds": round(self.info.seconds, 3),
            "warnings": list(self.info.warnings),
        }

    def save(self, folder: str | Path) -> Path:
        """Write the files of the result into `folder`, each atomically; return the folder.

        Files: aus.parquet, aus.csv, events.csv, summary.json; with sound also sound.parquet, with
        attributions also evidence.parquet.
        """
        folder, info = Path(folder), self.info
        table_info = table_metadata(
            *(info.source, info.model, info.au_names, info.thresholds, info.untrained_aus),
            version=info.versions["auscan"],
            operating_point=info.operating_point,
            baseline=info.baseline,
            intensity=f"{info.au_names[0]}_r" in self.table,
        )
        with TableWriter(folder, table_info) as writer:
            writer.write(self.table)
        if self.attributions is not None:
            attributions_info = attributions_metadata(
                *(info.source, info.model, self.attributions.side, self.attributions.au_names),
                version=info.versions["auscan"],
            )
            with AttributionsWriter(folder / ATTRIBUTIONS_FILE, attributions_info) as attributions_writer:
                attributions_writer.write(self.attributions)
        self.save_derived(folder)
        return folder

    def save_derived(self, folder: Path) -> None:
        """Write the files that need the whole table: events.csv, summary.json and, if any, sound.parquet."""
        with atomic_path(folder / EVENTS_FILE) as path:
            self.events.to_csv(path, index=False, float_format="%.6f")
        if self.sound is None:
            (folder / SOUND_FILE).unlink(missing_ok=True)  # of an earlier run
        else:
            write_speech(folder / SOUND_FILE, self.sound, self.info.source, self.info.versions["auscan"])
        with atomic_path(folder / SUMMARY_FILE) as path:
            text = json.dumps(self.summary(), indent=2, ensure_ascii=False, allow_nan=False)
            path.write_text(text + "\n", encoding="utf-8")

    def _by_au(self, values: Iterable[float]) -> dict[str, float]:
        return {name: float(value) for name, value in zip(self.info.au_names, values, strict=True)}

    def _repr_html_(self) -> str:
        """Return a table for notebooks: each AU with its meaning, seconds active and share of scored rows."""
        summary = self.summary()
        seconds, rates = summary["seconds_active"], summary["base_rate"]
        rows = "".join(
            f"<tr><td>{name}</td><td>{ACTION_UNITS[name].meaning}</td>"
            f"<td>{_format(seconds[name], '{:.1f}')}</td><td>{_format(rates[name], '{:.0%}')}</td></tr>"
            for name in self.info.au_names
        )
        titles = "".join(f"<th>{title}</th>" for title in ("AU", "meaning", "active, s", "of scored"))
        sound = "with sound" if self.info.has_audio else "without sound"
        return (
            f"<p><b>{html.escape(self.info.source)}</b>: {summary['frames']} frames {sound}, "
            f"{summary['faces']} faces, a face in {_format(summary['coverage'], '{:.0%}')} of the frames, "
            f"{_format(summary['judged'], '{:.0%}')} of face rows scored; "
            f"model {html.escape(self.info.model)}</p>"
            f"<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>"
        )


def _mask_untrained(values: dict[str, float | None], untrained_aus: Sequence[str]) -> dict[str, float | None]:
    return {name: None if name in untrained_aus else value for name, value in values.items()}


def _format(value: float | None, template: str) -> str:
    return "unknown" if value is None else template.format(value)
