"""`auscan detect`: find the action units in files, folders and globs, and write a folder for each.

One input that fails does not stop the others; the manifest in DIR says what became of each. A single input is
done in this process; as soon as there are more, or limits, in processes of their own.
In: the words of the command line.  Out: files under DIR, lines on stdout, progress and errors on stderr.
Not here: the work itself (pipeline/write.py), what makes a batch safe (batch/).
"""

import shlex
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auscan.cli.model_options import (
    BackendOption,
    DeviceOption,
    GpusPerWorkerOption,
    KeepAllOption,
    OperatingPointOption,
    RayOption,
    ThreadsOption,
)
from auscan.cli.progress import Board, shown_board
from auscan.core.errors import STOPPED, InputError, exit_code_of

if TYPE_CHECKING:
    from auscan.batch.jobs import Job
    from auscan.batch.plan import Plan
    from auscan.batch.run import Runner
    from auscan.media.discover import MediaInput
    from auscan.results.manifest import Entry

NAMES = 3
"""Inputs of an error class that the table names."""


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
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", min=1, help="Inputs that are done at the same time: 1; on Ray as many as have room."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave out what is done and has not changed since.")
    ] = False,
    shard: Annotated[
        str, typer.Option("--shard", metavar="I/N", help="Do only the I-th of N parts, the first is 1.")
    ] = "1/1",
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", metavar="SECONDS", min=0.001, help="For each input.")
    ] = None,
    memory_limit: Annotated[
        float | None, typer.Option("--memory-limit", metavar="GB", min=0.001, help="For each input.")
    ] = None,
    ray: RayOption = None,
    gpus_per_worker: GpusPerWorkerOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest's lines on stdout.")] = False,
) -> None:
    """Find the action units in every frame and face of INPUTS and write them to a folder each."""
    from auscan.batch.options import Request, about
    from auscan.batch.plan import make_plan, parse_shard
    from auscan.batch.ray_runner import choose_cluster
    from auscan.batch.run import Limits, choose_runner
    from auscan.core.config import Options
    from auscan.results.manifest import read_entries

    if gpus_per_worker is not None and ray is None:
        raise InputError("--gpus-per-worker is for --ray.")
    part = parse_shard(shard)
    options = Options(
        operating_point=operating_point,
        overlay=overlay,
        report=report,
        evidence=evidence,
        as_video_hz=as_video,
        keep_all=keep_all,
        baseline=baseline,
    )
    request = Request(model=model, backend=backend, device=device, threads=threads, options=options)
    known = about(request)
    plan = make_plan(_find(inputs, as_video is not None), out, read_entries(out), known, part, resume)
    if resume:
        _say_plan(plan)
    batch = _Batch(out, part.manifest, as_json)
    limits = Limits(seconds=time_limit, bytes=None if memory_limit is None else round(memory_limit * 1e9))
    with shown_board(len(plan.jobs)) as board:
        if ray is None or not plan.jobs:
            runner: Runner = choose_runner(request, known, out, len(plan.jobs), jobs or 1, limits, board)
        else:
            runner = choose_cluster(request, known, out, ray, jobs, gpus_per_worker, limits, board)
        batch.run(plan, runner, board)
    batch.say_rest(plan)
    raise typer.Exit(batch.exit_code)


def _find(inputs: list[str], folders_as_video: bool) -> "list[MediaInput]":
    """The inputs; an overlay of an earlier run is none, though a search of a folder around DIR finds it."""
    from auscan.media.discover import find_media

    def is_own_overlay(path: Path) -> bool:
        return path.stem == "overlay" and (path.parent / "aus.parquet").exists()

    named = set(inputs)
    found = find_media(inputs, folders_as_video)
    return [item for item in found if str(item.path) in named or not is_own_overlay(item.path)]


def _say_plan(plan: "Plan") -> None:
    """A line for each input that was known: why it is done again, or that it is not."""
    for path in plan.unchanged:
        typer.echo(f"{path}: unchanged, left as it is", err=True)
    for job in plan.jobs:
        if job.why != "new":
            typer.echo(f"{job.path}: again, as {job.why}", err=True)


@dataclass
class _Batch:
    """Tells of each input as it ends, and of all of them in the end."""

    out: Path
    manifest: str
    as_json: bool
    exit_code: int = 0
    ended: int = 0
    unchanged: int = 0
    failures: "dict[str, list[Entry]]" = field(default_factory=dict)
    """By error class."""

    def run(self, plan: "Plan", runner: "Runner", board: Board) -> None:
        """Do all jobs of a plan, or as many as there is patience for."""
        from auscan.batch.run import run

        try:
            with closing(run(plan.jobs, self.out, self.manifest, runner)) as ends:
                for job, entry in ends:
                    with board.aside():
                        self._say(job, entry)
        except KeyboardInterrupt:
            pass  # what is left is said in the end

    def _say(self, job: "Job", entry: "Entry") -> None:
        from auscan.results.manifest import as_line, stands

        self.ended += 1
        for warning in entry.warnings:
            typer.echo(f"auscan: {warning}", err=True)
        if entry.error_class is not None:
            typer.echo(f"auscan: {entry.error}", err=True)
            self.exit_code = max(self.exit_code, exit_code_of(entry.error_class))
            self.failures.setdefault(entry.error_class, []).append(entry)
        unchanged = stands(job.known, entry)
        self.unchanged += unchanged
        if self.as_json:
            typer.echo(as_line(entry))
        elif unchanged:
            typer.echo(f"{entry.path}: same content, left as it is", err=True)
        elif entry.folder is not None:
            typer.echo(
                f"{entry.path}: {entry.rows} rows in {entry.seconds:.1f} s -> {self.out / entry.folder}"
            )

    def say_rest(self, plan: "Plan") -> None:
        """A table of what failed, what is left, and how to go on; nothing where all is well."""
        left = len(plan.jobs) - self.ended
        failed = sum(map(len, self.failures.values()))
        unchanged = len(plan.unchanged) + self.unchanged
        if left:
            self.exit_code = STOPPED
        alone = len(plan.jobs) + len(plan.unchanged) == 1
        if not (left or unchanged or failed) or (failed and alone):
            return
        done = self.ended - failed - self.unchanged
        counts = f"{done} done, {unchanged} unchanged, {failed} failed, {left} left"
        typer.echo(f"\n{len(plan.jobs) + len(plan.unchanged)} inputs: {counts}", err=True)
        for error_class, entries in sorted(self.failures.items()):
            names = ", ".join(Path(entry.path).name for entry in entries[:NAMES])
            more = f" and {len(entries) - NAMES} more" if len(entries) > NAMES else ""
            typer.echo(f"  {error_class:<18} {len(entries):>5}  {names}{more}", err=True)
        if failed or left:
            words = sys.argv[1:] if "--resume" in sys.argv else [*sys.argv[1:], "--resume"]
            typer.echo(f"To do only what failed or is left:\n  {shlex.join(['auscan', *words])}", err=True)
