"""`auscan detect`: find the action units in files, folders and globs, and write a folder for each.

One input that fails does not stop the others; DIR/manifest.jsonl says what became of each. The manifest is
begun anew by every call and grows by a line as each input is finished, so a killed run leaves a true one.
In: the words of the command line.  Out: files under DIR, lines on stdout, progress and errors on stderr.
Not here: the work itself (pipeline/detect.py) and drawing it (pipeline/render.py).
"""

import json
import shlex
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auscan.cli.engine import (
    BackendOption,
    DeviceOption,
    KeepAllOption,
    OperatingPointOption,
    ThreadsOption,
)
from auscan.cli.progress import shown_progress
from auscan.core.errors import AuscanError, InputError
from auscan.core.operating import OperatingPoint, at_point
from auscan.core.version import VERSION

if TYPE_CHECKING:
    from auscan.inference.stages import Stages
    from auscan.results.evidence import EvidenceWriter
    from auscan.results.result import Result


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to make of each input."""

    stages: "Stages"
    """The model, loaded once for all inputs."""
    operating_point: OperatingPoint = "default"
    overlay: bool = False
    report: bool = False
    evidence: bool = False
    as_video_hz: float | None = None
    """Pictures per second where a folder of numbered pictures is read as a video."""
    keep_all: bool = False
    baseline: str = "none"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the manifest."""

    path: str
    status: str
    """done or failed"""
    rows: int
    seconds: float
    error: str | None
    folder: str | None
    """Where the files are, below DIR; None where there are none."""


def detect(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Videos, pictures, folders to search, or globs.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; made if missing.")],
    overlay: Annotated[bool, typer.Option("--overlay", help="Also draw the result onto the video.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Also write an HTML report.")] = False,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Also keep what the model went by: evidence.parquet.")
    ] = False,
    as_video: Annotated[
        float | None,
        typer.Option("--as-video", metavar="FPS", help="Read a folder of numbered pictures as one video."),
    ] = None,
    model: Annotated[str, typer.Option("--model", help="A shipped model or a checkpoint folder.")] = "nano",
    operating_point: OperatingPointOption = "default",
    keep_all: KeepAllOption = False,
    baseline: Annotated[
        str,
        typer.Option(
            "--baseline",
            metavar="none|median|SECONDS-SECONDS",
            help="Take off what is usual for each face: its median over all frames or those of some seconds.",
        ),
    ] = "none",
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest's lines on stdout.")] = False,
) -> None:
    """Find the action units in every frame and face of INPUTS and write them to a folder each."""
    from auscan.inference.stages import load, need_evidence
    from auscan.media.discover import find_media, output_names
    from auscan.results.baseline import parse_baseline

    stages = load(model, backend, device, threads)
    if evidence:
        need_evidence(stages)  # once, and not for each input
    at_point(stages.config, operating_point)  # told once, not for each input
    parse_baseline(baseline)
    request = Request(
        stages=stages,
        operating_point=operating_point,
        overlay=overlay,
        report=report,
        evidence=evidence,
        as_video_hz=as_video,
        keep_all=keep_all,
        baseline=baseline,
    )
    found = find_media(inputs, folders_as_video=as_video is not None)
    found = [item for item in found if str(item.path) in inputs or not _is_own_overlay(item.path)]
    names = output_names([item.path for item in found])
    manifest = _begin_manifest(out)
    exit_codes = {0}
    for number, (item, name) in enumerate(zip(found, names, strict=True), start=1):
        began_s = time.monotonic()
        rows = 0
        error: Exception | None = item.error
        try:
            if error is None:
                label = f"[{number}/{len(found)}] {item.path.name}"
                rows = len(detect_into(item.path, out / name, request, label).table)
        except Exception as caught:  # foreseen or not, one input must not stop the batch
            error = caught
        entry = Entry(
            path=str(item.path),
            status="done" if error is None else "failed",
            rows=rows,
            seconds=round(time.monotonic() - began_s, 3),
            error=None if error is None else _one_line(error, item.path),
            folder=name if error is None else None,
        )
        _finish(entry, manifest, out, as_json)
        exit_codes.add(_exit_code(error))
    raise typer.Exit(max(exit_codes))


def detect_into(source: Path, folder: Path, request: Request, label: str) -> "Result":
    """Run one input and write its files into `folder`; return the result.

    Raises MediaError for the input.
    """
    from auscan.pipeline.detect import detect as detect_file
    from auscan.pipeline.render import overlay_name, render_overlay, render_report
    from auscan.results.evidence import EVIDENCE_FILE
    from auscan.results.table import table_metadata
    from auscan.results.writer import TableWriter

    config, point = at_point(request.stages.config, request.operating_point), request.operating_point
    what = source.name, config.name, config.thresholds, config.untaught, VERSION
    about = table_metadata(*what, operating_point=point, baseline=request.baseline)
    with (
        shown_progress(label) as progress,
        TableWriter(folder, about) as writer,
        _evidence_writer(source, folder, request) as evidence,
    ):
        result = detect_file(
            source,
            model=request.stages,
            operating_point=point,
            folder_rate_hz=request.as_video_hz,
            keep_all=request.keep_all,
            baseline=request.baseline,
            progress=progress,
            rows=writer.write,
            evidence=False if evidence is None else evidence.write,
        )
    command = shlex.join(["auscan", *sys.argv[1:]])
    result = replace(result, info=replace(result.info, command=command))
    result.save_readings(folder)
    _say_who_has_no_baseline(result)
    if request.overlay:
        render_overlay(result, source, folder / overlay_name(source), request.as_video_hz)
    file = folder / EVIDENCE_FILE
    try:
        if request.report:
            evidence_file = None if evidence is None else file
            render_report(result, source, folder / "report.html", evidence_file, request.as_video_hz)
    finally:
        if not request.evidence:
            file.unlink(missing_ok=True)  # kept for the report alone, or an earlier run's
    return result


def _say_who_has_no_baseline(result: "Result") -> None:
    """Their rows are not judged, which nobody who asked for a baseline expects."""
    from auscan.results.baseline import LEAST_FRAMES

    levels = result.resting_levels() or {}
    without = [str(face_id) for face_id, level in levels.items() if all(value != value for value in level)]
    if without:
        typer.echo(
            f"auscan: {result.info.source}: {len(without)} of {len(levels)} faces have fewer than "
            f"{LEAST_FRAMES} judged frames to take a baseline from ({result.info.baseline}), "
            "and are not judged.",
            err=True,
        )


def _evidence_writer(
    source: Path, folder: Path, request: Request
) -> "AbstractContextManager[EvidenceWriter | None]":
    """The file that evidence goes to, if it is asked for, or if the report can show it."""
    if not request.evidence and not (request.report and request.stages.has_evidence):
        return nullcontext()
    from auscan.results.evidence import EVIDENCE_FILE, EvidenceWriter, evidence_metadata

    config = request.stages.config
    about = evidence_metadata(source.name, config.name, config.network.visual.crop_size, VERSION)
    return EvidenceWriter(folder / EVIDENCE_FILE, about)


def _begin_manifest(out: Path) -> Path:
    manifest = out / "manifest.jsonl"
    try:
        out.mkdir(parents=True, exist_ok=True)
        manifest.write_text("", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"Results cannot be written to {out} ({error.strerror}). "
            "Give a folder you may write to with --out."
        ) from error
    return manifest


def _finish(entry: Entry, manifest: Path, out: Path, as_json: bool) -> None:
    """Put one input on record and tell the user."""
    line = json.dumps(asdict(entry), ensure_ascii=False)
    with manifest.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    if entry.error is not None:
        typer.echo(f"auscan: {entry.error}", err=True)
    if as_json:
        typer.echo(line)
    elif entry.folder is not None:
        typer.echo(f"{entry.path}: {entry.rows} rows in {entry.seconds:.1f} s -> {out / entry.folder}")


def _is_own_overlay(path: Path) -> bool:
    """An overlay of an earlier run is no input, though a search finds it when DIR lies in the folder."""
    return path.stem == "overlay" and (path.parent / "aus.parquet").exists()


def _one_line(error: Exception, path: Path) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, AuscanError):
        return text
    return f"{path} failed on something unforeseen, {type(error).__name__}: {text}. Please report it."


def _exit_code(error: Exception | None) -> int:
    if error is None:
        return 0
    return error.exit_code if isinstance(error, AuscanError) else 1
