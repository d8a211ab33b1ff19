"""Run `auscan detect`: detect action units in files, folders and globs; write one result folder per input.

An input that fails does not stop the others; the manifest in the output folder records the outcome of each. A
single input without limits runs in this process, all others run in worker processes.
Returns: files below --out, lines on stdout, progress and errors on stderr.
See also: pipeline/detect.py (one input), batch/ (plan, workers, manifest).
"""

import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from auscan.cli.model_options import (
    BackendOption,
    DeviceOption,
    GpusPerWorkerOption,
    KeepAllOption,
    ModelOption,
    OperatingPointOption,
    RayOption,
    ThreadsOption,
)
from auscan.cli.progress import BatchProgress, show_batch_progress
from auscan.core.errors import EXIT_INTERRUPTED, InputError, exit_code_of

if TYPE_CHECKING:
    from auscan.batch.jobs import DetectRequest, Job
    from auscan.batch.plan import Plan
    from auscan.batch.run import Limits, Runner
    from auscan.core.config import OperatingPoint
    from auscan.media.discover import MediaInput
    from auscan.results.manifest import ManifestRecord

MAX_NAMES = 3
"""Inputs listed for each error class in the summary."""


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """Options of `auscan detect`, as given on the command line."""

    inputs: Sequence[str]
    out: Path
    overlay: bool
    report: bool
    attributions: bool
    """Also write evidence.parquet (--evidence)."""
    as_video_hz: float | None
    model: str
    operating_point: "OperatingPoint"
    keep_all: bool
    baseline: str
    backend: Literal["auto", "torch", "onnx"]
    device: str
    threads: int | None
    jobs: int | None
    resume: bool
    shard: str
    time_limit_s: float | None
    """Time limit of each input, seconds."""
    memory_limit_gb: float | None
    """Memory limit of each input, in 10^9 bytes."""
    ray_address: str | None
    """'auto', 'local' or HOST:PORT of a Ray cluster; None runs on this machine without Ray."""
    gpus_per_worker: float | None
    as_json: bool

    def request(self) -> "DetectRequest":
        """Return the model and the options that every input is processed with."""
        from auscan.batch.jobs import DetectRequest
        from auscan.core.checkpoint_folder import pin_checkpoint
        from auscan.core.config import Options

        options = Options(
            operating_point=self.operating_point,
            overlay=self.overlay,
            report=self.report,
            attributions=self.attributions,
            as_video_hz=self.as_video_hz,
            keep_all=self.keep_all,
            baseline=self.baseline,
        )
        return DetectRequest(
            model=pin_checkpoint(self.model),
            backend=self.backend,
            device=self.device,
            threads=self.threads,
            options=options,
        )

    def limits(self) -> "Limits":
        """Return the time and memory limits of each input."""
        from auscan.batch.run import Limits

        most_gb = self.memory_limit_gb
        return Limits(seconds=self.time_limit_s, bytes=None if most_gb is None else round(most_gb * 1e9))


def detect(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Videos, pictures, folders or globs.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")],
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Also write a video with the result drawn on it.")
    ] = False,
    report: Annotated[bool, typer.Option("--report", help="Also write an HTML report.")] = False,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Also save attention maps and gates (evidence.parquet).")
    ] = False,
    as_video: Annotated[
        float | None,
        typer.Option("--as-video", metavar="FPS", help="Read folders of numbered pictures as videos."),
    ] = None,
    model: ModelOption = "nano",
    operating_point: OperatingPointOption = "default",
    keep_all: KeepAllOption = False,
    baseline: Annotated[
        str,
        typer.Option(
            "--baseline",
            metavar="none|median|SECONDS-SECONDS",
            help="Subtract each face's neutral baseline: its median over all frames or over some seconds.",
        ),
    ] = "none",
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", min=1, help="Inputs processed in parallel; default: 1, on Ray as many as fit."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip inputs with an up-to-date result.")] = False,
    shard: Annotated[
        str, typer.Option("--shard", metavar="I/N", help="Process only part I of N, counted from 1.")
    ] = "1/1",
    time_limit: Annotated[
        float | None,
        typer.Option("--time-limit", metavar="SECONDS", min=0.001, help="Time limit of each input."),
    ] = None,
    memory_limit: Annotated[
        float | None,
        typer.Option("--memory-limit", metavar="GB", min=0.001, help="Memory limit of each input."),
    ] = None,
    ray: RayOption = None,
    gpus_per_worker: GpusPerWorkerOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print manifest records as JSON lines.")] = False,
) -> None:
    """Detect action units in videos and pictures; write one result folder per input."""
    options = DetectOptions(
        inputs=tuple(inputs),
        out=out,
        overlay=overlay,
        report=report,
        attributions=evidence,
        as_video_hz=as_video,
        model=model,
        operating_point=operating_point,
        keep_all=keep_all,
        baseline=baseline,
        backend=backend,
        device=device,
        threads=threads,
        jobs=jobs,
        resume=resume,
        shard=shard,
        time_limit_s=time_limit,
        memory_limit_gb=memory_limit,
        ray_address=ray,
        gpus_per_worker=gpus_per_worker,
        as_json=as_json,
    )
    raise typer.Exit(run_detect(options))


def run_detect(options: DetectOptions) -> int:
    """Detect action units in all inputs; return the exit code."""
    from auscan.batch.jobs import run_metadata
    from auscan.batch.plan import make_plan, parse_shard
    from auscan.batch.ray_runner import make_ray_runner
    from auscan.batch.run import choose_runner
    from auscan.results.manifest import read_records

    if options.gpus_per_worker is not None and options.ray_address is None:
        raise InputError("--gpus-per-worker requires --ray.")
    out, shard = options.out, parse_shard(options.shard)
    request, limits = options.request(), options.limits()
    metadata = run_metadata(request)
    inputs = _find_inputs(options.inputs, options.as_video_hz is not None)
    plan = make_plan(inputs, out, read_records(out), metadata, shard, options.resume)
    if options.resume:
        _print_plan(plan)
    reporter = BatchReporter(out, shard.manifest, options.as_json)
    count = len(plan.jobs)
    with show_batch_progress(count) as progress:
        if options.ray_address is None or not count:
            runner: Runner = choose_runner(request, metadata, out, count, options.jobs or 1, limits, progress)
        else:
            address, gpus = options.ray_address, options.gpus_per_worker
            runner = make_ray_runner(request, metadata, out, address, options.jobs, gpus, limits, progress)
        reporter.run(plan, runner, progress)
    reporter.print_summary(plan)
    return reporter.exit_code


def _find_inputs(inputs: Sequence[str], folders_as_video: bool) -> "list[MediaInput]":
    """Find the inputs, without overlays of earlier runs that lie in a searched folder."""
    from auscan.media.discover import find_media

    def is_own_overlay(path: Path) -> bool:
        return path.stem == "overlay" and (path.parent / "aus.parquet").exists()

    named = set(inputs)
    found = find_media(inputs, folders_as_video)
    return [item for item in found if str(item.path) in named or not is_own_overlay(item.path)]


def _print_plan(plan: "Plan") -> None:
    """Print a line for each input of an earlier run: skipped, or the reason to process it again."""
    for path in plan.unchanged:
        typer.echo(f"{path}: unchanged, skipped", err=True)
    for job in plan.jobs:
        if job.reason != "new":
            typer.echo(f"{job.path}: processed again because {job.reason}", err=True)


@dataclass
class BatchReporter:
    """Prints each finished input and a summary, and computes the exit code."""

    out: Path
    manifest: str
    as_json: bool
    exit_code: int = 0
    finished: int = 0
    unchanged: int = 0
    failures: "dict[str, list[ManifestRecord]]" = field(default_factory=dict)
    """Records of failed inputs, by error class."""

    def run(self, plan: "Plan", runner: "Runner", progress: BatchProgress) -> None:
        """Run all jobs of a plan until they are finished or the user interrupts."""
        from auscan.batch.run import run

        try:
            with closing(run(plan.jobs, self.out, self.manifest, runner)) as results:
                for job, record in results:
                    with progress.paused():
                        self._print_record(job, record)
        except KeyboardInterrupt:
            pass  # print_summary reports the remaining inputs

    def _print_record(self, job: "Job", record: "ManifestRecord") -> None:
        from auscan.results.manifest import has_same_content, to_json_line

        self.finished += 1
        for warning in record.warnings:
            typer.echo(f"auscan: {warning}", err=True)
        if record.error_class is not None:
            typer.echo(f"auscan: {record.error}", err=True)
            self.exit_code = max(self.exit_code, exit_code_of(record.error_class))
            self.failures.setdefault(record.error_class, []).append(record)
        unchanged = has_same_content(job.previous, record)
        self.unchanged += unchanged
        if self.as_json:
            typer.echo(to_json_line(record))
        elif unchanged:
            typer.echo(f"{record.path}: same content, skipped", err=True)
        elif record.folder is not None:
            typer.echo(
                f"{record.path}: {record.rows} rows in {record.seconds:.1f} s -> {self.out / record.folder}"
            )

    def print_summary(self, plan: "Plan") -> None:
        """Print counts, failures and the command to continue; print nothing if all inputs succeeded."""
        remaining = len(plan.jobs) - self.finished
        failed = sum(map(len, self.failures.values()))
        unchanged = len(plan.unchanged) + self.unchanged
        if remaining:
            self.exit_code = EXIT_INTERRUPTED
        alone = len(plan.jobs) + len(plan.unchanged) == 1
        if not (remaining or unchanged or failed) or (failed and alone):
            return
        done = self.finished - failed - self.unchanged
        counts = f"{done} done, {unchanged} unchanged, {failed} failed, {remaining} left"
        typer.echo(f"\n{len(plan.jobs) + len(plan.unchanged)} inputs: {counts}", err=True)
        for error_class, records in sorted(self.failures.items()):
            names = ", ".join(Path(record.path).name for record in records[:MAX_NAMES])
            more = f" and {len(records) - MAX_NAMES} more" if len(records) > MAX_NAMES else ""
            typer.echo(f"  {error_class:<18} {len(records):>5}  {names}{more}", err=True)
        if failed or remaining:
            arguments = sys.argv[1:] if "--resume" in sys.argv else [*sys.argv[1:], "--resume"]
            typer.echo(
                f"To process the failed and remaining inputs:\n  {shlex.join(['auscan', *arguments])}",
                err=True,
            )
