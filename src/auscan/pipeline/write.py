"""One input from its file to its folder: the table while it grows, then all that is made of it.

In: a source, loaded stages, what to make (options.py).  Out: files in a folder, and the Result.
Not here: the work on the frames (detect.py), drawing (render.py), many inputs (batch/).
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from auscan.core.operating import at_point
from auscan.core.version import VERSION
from auscan.inference.stages import Stages
from auscan.pipeline.detect import Progress, detect
from auscan.pipeline.options import Options
from auscan.pipeline.render import overlay_name, render_overlay, render_report
from auscan.results.baseline import LEAST_FRAMES
from auscan.results.evidence import EVIDENCE_FILE, EvidenceWriter, evidence_metadata
from auscan.results.result import Result
from auscan.results.table import table_metadata
from auscan.results.writer import TableWriter


def write_result(
    source: Path,
    folder: Path,
    stages: Stages,
    options: Options,
    command: str,
    progress: Progress | None = None,
) -> Result:
    """Run one input and write its files into `folder`; return the result.

    command: what to type to get this result again
    Raises MediaError for the input.
    """
    config, point = at_point(stages.config, options.operating_point), options.operating_point
    what = source.name, config.name, config.thresholds, config.untaught, VERSION
    about = table_metadata(*what, operating_point=point, baseline=options.baseline)
    with (
        TableWriter(folder, about) as writer,
        _evidence_writer(source, folder, stages, options) as evidence,
    ):
        result = detect(
            source,
            model=stages,
            operating_point=point,
            folder_rate_hz=options.as_video_hz,
            keep_all=options.keep_all,
            baseline=options.baseline,
            progress=progress,
            rows=writer.write,
            evidence=False if evidence is None else evidence.write,
        )
    result = replace(result, info=replace(result.info, command=command))
    result.save_readings(folder)
    if options.overlay:
        render_overlay(result, source, folder / overlay_name(source), options.as_video_hz)
    file = folder / EVIDENCE_FILE
    try:
        if options.report:
            evidence_file = None if evidence is None else file
            render_report(result, source, folder / "report.html", evidence_file, options.as_video_hz)
    finally:
        if not options.evidence:
            file.unlink(missing_ok=True)  # kept for the report alone, or an earlier run's
    return result


def without_baseline(result: Result) -> str | None:
    """A sentence on the faces that are not judged for want of a baseline, which nobody expects; or None."""
    levels = result.resting_levels() or {}
    without = [str(face_id) for face_id, level in levels.items() if all(value != value for value in level)]
    if not without:
        return None
    return (
        f"{result.info.source}: {len(without)} of {len(levels)} faces have fewer than "
        f"{LEAST_FRAMES} judged frames to take a baseline from ({result.info.baseline}), "
        "and are not judged."
    )


def _evidence_writer(
    source: Path, folder: Path, stages: Stages, options: Options
) -> AbstractContextManager[EvidenceWriter | None]:
    """The file that evidence goes to, if it is asked for, or if the report can show it."""
    if not options.evidence and not (options.report and stages.has_evidence):
        return nullcontext()
    about = evidence_metadata(
        source.name, stages.config.name, stages.config.network.visual.crop_size, VERSION
    )
    return EvidenceWriter(folder / EVIDENCE_FILE, about)
