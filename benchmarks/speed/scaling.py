"""Measure and simulate the cost of large collections of videos (docs/scaling.md).

    python benchmarks/speed/scaling.py cost [--clip PATH]   core seconds and result bytes for an hour of video
    python benchmarks/speed/scaling.py plan [--results N]   read the manifest of N results and plan a resume
    python benchmarks/speed/scaling.py merge [--results N]  merge N results of the demo clip
    python benchmarks/speed/scaling.py check                compare simulation and `auscan detect --jobs 2`
    python benchmarks/speed/scaling.py fleet [...]          cores, storage, cost of 10,000 to 10 million hours

The defaults of `fleet` are the figures of `cost` on the demo clip. The default price is 1 for a core hour, so
the cost is in core hours. For GPUs, give GPU hours for an hour of video as --core-hours.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for recipes and benchmarks
from auscan.results.manifest import ManifestRecord, read_records, to_json_line
from benchmarks.speed.fleet import Fleet, Outcome, one_slice, simulate
from benchmarks.speed.long_video import make_video

CORE_HOURS = 0.17
"""Core hours for an hour of video: `cost` on the demo clip, rounded."""
RESULT_MB = 47.0
"""MB of results for an hour of video with one face: `cost` on the demo clip, rounded."""
RESULT_FILES = 5
"""Number of files of a result."""
PARTS = ("cost", "plan", "merge", "check", "fleet", "plan-once", "merge-once")
TURN_S = 10.0
"""Length of the clip that `make_video` repeats, seconds."""
SIMULATED = 20_000
"""Maximum number of inputs in a simulated slice."""
Row = dict[str, Any]


def cost(clip: Path) -> list[Row]:
    """Measure core seconds of each stage for an hour of such video; stages run one after the other."""
    import auscan
    from auscan.faces.detector import FaceDetector
    from auscan.faces.tracking import track_faces
    from auscan.inference.load import load_engine
    from auscan.media.audio import read_waveform
    from auscan.media.video import read_frames
    from auscan.pipeline.audio_stream import AudioTokenReader
    from auscan.pipeline.detect import BATCH_CROPS
    from auscan.pipeline.face_features import FaceEncoder, batch_frames, crop_faces
    from benchmarks.speed.detect import score_faces

    engine, detector = load_engine("nano", threads=1), FaceDetector()
    result = auscan.detect(clip, model=engine)  # the first run is slower
    spent: dict[str, float] = {}
    with core_seconds("decode", spent):
        frames = list(read_frames(clip))
    with core_seconds("detect and track faces", spent):
        tracked = list(track_faces(iter(frames), detector))
    side = engine.config.network.visual.crop_size
    with core_seconds("crop faces", spent):
        crops = [crop_faces(frame, faces, side) for frame, faces in tracked]
    with core_seconds("visual stage", spent):
        encoder = FaceEncoder(engine)
        encoded = [frame for batch in batch_frames(crops, BATCH_CROPS) for frame in encoder(batch)]
    with closing(AudioTokenReader(engine, read_waveform(clip))) as sound:
        with core_seconds("audio encoder", spent):
            for frame in encoded:
                sound.advance(frame.time_s, has_faces=bool(frame.faces))
            sound.advance(np.inf, has_faces=False)
        with core_seconds("temporal stage", spent):
            score_faces(encoded, engine, sound.tokens)
    with tempfile.TemporaryDirectory() as folder:
        with core_seconds("write", spent):
            result.save(folder)
        stored = sum(file.stat().st_size for file in Path(folder).iterdir())
    hours = result.info.duration_s / 3600
    rows: list[Row] = [{"stage": name, "core seconds": f"{s / hours:,.0f}"} for name, s in spent.items()]
    rows.append({"stage": "sum", "core seconds": f"{sum(spent.values()) / hours:,.0f}"})
    rows.append({"stage": "results, MB for an hour of video", "core seconds": f"{stored / hours / 1e6:.1f}"})
    return rows


@contextmanager
def core_seconds(name: str, spent: dict[str, float]) -> Iterator[None]:
    """Measure the processor time of all threads of this process."""
    began_s = time.process_time()
    yield
    spent[name] = time.process_time() - began_s


def make_results(folder: Path, count: int) -> None:
    """Make inputs and their results as sparse files with correct names and sizes."""
    from auscan.batch.jobs import DetectRequest, run_metadata
    from auscan.media.discover import find_media, output_names

    for number in range(count):
        file = folder / "in" / f"{number // 1000:05}" / f"clip{number:08}.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        set_size(file, 10_000_000)
    found = find_media([folder / "in"])
    files = dict.fromkeys(("aus.parquet", "aus.csv", "events.csv", "sound.parquet", "summary.json"), 10000)
    common = asdict(run_metadata(DetectRequest()))
    (folder / "out").mkdir()
    with (folder / "out" / "manifest.jsonl").open("w") as manifest:
        for item, name in zip(found, output_names(found, {}), strict=True):
            (folder / "out" / name).mkdir()
            for file_name, size in files.items():
                set_size(folder / "out" / name / file_name, size)
            state = item.path.stat()
            entry = ManifestRecord(
                path=str(item.path), key=item.key, status="done", folder=name, files=files, sha256="0" * 64,
                size=state.st_size, mtime_ns=state.st_mtime_ns, ended="2026-01-01T00:00:00", **common,
            )  # fmt: skip
            manifest.write(to_json_line(entry) + "\n")


def set_size(file: Path, size: int) -> None:
    """Make a sparse file of a size."""
    file.touch()
    os.truncate(file, size)


def plan(count: int) -> list[Row]:
    """Measure planning a resume with nothing to do, in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        make_results(Path(folder), count)
        return [{"results": f"{count:,}", **row} for row in run_alone("plan-once", folder)]


def run_alone(part: str, folder: str) -> list[Row]:
    """Run a part of this script in its own process."""
    command = [sys.executable, __file__, part, "--folder", folder]
    rows: list[Row] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return rows


def plan_once(folder: Path) -> list[Row]:
    """Find inputs, read the manifest, plan: seconds, stat calls, memory."""
    from auscan.batch.jobs import DetectRequest, run_metadata
    from auscan.batch.plan import UNSHARDED, make_plan
    from auscan.media.discover import find_media

    known, before_mb = run_metadata(DetectRequest()), memory_mb()
    counted = CountedStat()
    rows = []

    def step(name: str, work: Callable[[], Any]) -> Any:
        began_s, calls = time.process_time(), counted.calls
        done = work()
        spent_s = time.process_time() - began_s
        rows.append({"step": name, "core s": f"{spent_s:.1f}", "stat calls": f"{counted.calls - calls:,}"})
        return done

    found = step("find the inputs", lambda: find_media([folder / "in"]))
    entries = step("read the manifest", lambda: read_records(folder / "out"))
    made = step("plan", lambda: make_plan(found, folder / "out", entries, known, UNSHARDED, resume=True))
    assert not made.jobs
    rows.append({"step": "memory, MB", "core s": f"{memory_mb() - before_mb:.0f}", "stat calls": ""})
    return rows


def merge(count: int) -> list[Row]:
    """Measure merging results, in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        copy_result(Path(folder), count)
        return [{"results": f"{count:,}", **row} for row in run_alone("merge-once", folder)]


def copy_result(folder: Path, count: int) -> None:
    """Make hard links of the demo clip's result under many names."""
    import auscan
    from auscan.batch.jobs import DetectRequest, run_metadata

    result = auscan.detect(demo_clip(folder))
    result.save(folder / "one")
    files = {file.name: file.stat().st_size for file in (folder / "one").iterdir()}
    common = asdict(run_metadata(DetectRequest()))
    (folder / "out").mkdir()
    with (folder / "out" / "manifest.jsonl").open("w") as manifest:
        for name in (f"clip{number:08}" for number in range(count)):
            (folder / "out" / name).mkdir()
            for file in files:
                (folder / "out" / name / file).hardlink_to(folder / "one" / file)
            entry = ManifestRecord(
                path=name, key=name, status="done", folder=name, files=files, sha256="0" * 64,
                rows=len(result.table), ended="2026-01-01T00:00:00", **common,
            )  # fmt: skip
            manifest.write(to_json_line(entry) + "\n")


def merge_once(folder: Path) -> list[Row]:
    """Merge the results in this process: rows, seconds, memory."""
    from auscan.batch.dataset import merge as merge_results

    before_mb, began_s = memory_mb(), time.process_time()
    sources = merge_results([folder / "out"], folder / "dataset", lambda done, total: None)
    row = {
        "rows": f"{sum(source.record.rows for source in sources):,}",
        "core s": f"{time.process_time() - began_s:.1f}",
        "memory, MB": f"{memory_mb():.0f}",
        "before merging, MB": f"{before_mb:.0f}",
    }
    return [row]


class CountedStat:
    """Counting wrapper that replaces os.stat."""

    def __init__(self) -> None:
        self.calls, self._stat = 0, os.stat
        os.stat = self  # type: ignore[assignment]

    def __call__(self, *words: Any, **named: Any) -> os.stat_result:
        self.calls += 1
        return self._stat(*words, **named)


def memory_mb() -> float:
    """Read the peak resident memory of this process, MB (Linux; `getrusage` includes the parent's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def check(clips: int, broken: int) -> list[Row]:
    """Predict the time of `auscan detect --jobs 2` from a run on four clips, and measure it."""
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        for turns in (1, 2, 3):
            make_video(root / f"{turns}.mp4", turns * TURN_S / 3600)
        lengths = random.Random(0).choices((1, 2, 3), k=clips)
        link_clips(root, "small", [1, 3, 1, 3])
        link_clips(root, "all", lengths)
        for number in range(broken):
            (root / "all" / f"broken{number}.mp4").write_bytes(random.Random(number).randbytes(100_000))
        small_s = detect_s(root / "small", root / "small-out")
        fixed_s, second_s = time_of(read_records(root / "small-out"))
        fleet = Fleet(workers=2)

        def seconds_needed(turns: list[int]) -> list[float]:
            return [fixed_s + second_s * TURN_S * each for each in turns]

        start_s = max(0.0, small_s - simulate(fleet, seconds_needed([1, 3, 1, 3])).end_s)
        fleet = replace(fleet, start_s=start_s)
        both_s = (
            simulate(fleet, [0.0] * broken + seconds_needed(lengths)).end_s
            + simulate(fleet, [0.0] * broken).end_s
        )
        measured_s = sum(detect_s(root / "all", root / "out", *more) for more in ([], ["--resume"]))
    return [
        {
            "clips": clips, "broken": broken, "video s": f"{sum(lengths) * TURN_S:.0f}",
            "start s": f"{start_s:.1f}", "s a clip": f"{fixed_s:.2f}", "s a second": f"{second_s:.3f}",
            "predicted s": f"{both_s:.1f}", "measured s": f"{measured_s:.1f}",
            "error": f"{(both_s / measured_s - 1):+.1%}", "load of the machine": f"{os.getloadavg()[0]:.1f}",
        }
    ]  # fmt: skip


def link_clips(root: Path, name: str, turns: list[int]) -> None:
    """Make a folder of clips.  turns: length of each, in repetitions of the short clip."""
    (root / name).mkdir()
    for number, each in enumerate(turns):
        (root / name / f"clip{number:03}-{each}.mp4").hardlink_to(root / f"{each}.mp4")


def detect_s(folder: Path, out: Path, *more: str) -> float:
    """Measure the seconds of `auscan detect --jobs 2`; broken files are allowed."""
    command = ["detect", str(folder), "--out", str(out), "--jobs", "2", "--threads", "1", *more]
    began_s = time.monotonic()
    program = "from auscan.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, check=False)
    assert done.returncode in (0, 2), done.stderr.decode()
    return time.monotonic() - began_s


def time_of(entries: list[ManifestRecord]) -> tuple[float, float]:
    """Fit seconds a clip and seconds a second of video to clips of known length."""
    lengths = [TURN_S * int(Path(entry.path).stem.rpartition("-")[2]) for entry in entries]
    slope, fixed = np.polyfit(lengths, [entry.seconds for entry in entries], 1)
    return float(fixed), float(slope)


def fleet_row(hours: float, args: argparse.Namespace) -> Row:
    """Simulate the smallest fleet that processes some hours of video before the deadline."""
    inputs, deadline_s = round(hours * 60 / args.clip_minutes), args.deadline_days * 86_400
    input_s = args.core_hours * args.clip_minutes * 60
    input_bytes = args.mbit_s * 1e6 / 8 * args.clip_minutes * 60
    workers = math.ceil(inputs * input_s / deadline_s)
    arrivals = None if args.arrival_days is None else inputs / (args.arrival_days * 24)
    for _ in range(8):
        fleet = Fleet(
            workers=workers, start_s=args.start_s, shards=max(1, workers // args.workers_a_shard),
            failures_per_hour=args.failures, attempts=args.attempts, straggler_share=args.stragglers,
            straggler_factor=args.straggler_factor, arrivals_per_hour=arrivals, input_bytes=input_bytes,
            storage_bytes_s=args.storage_mb_s * 1e6, latency_s=args.latency_s,
        )  # fmt: skip
        outcome, share = run_slice(fleet, inputs, input_s)
        if outcome.end_s <= deadline_s or outcome.end_s <= hours_of_reading(inputs, fleet) * 3600 * 1.05:
            break
        workers = math.ceil(workers * outcome.end_s / deadline_s * 1.005)
    paid = outcome.paid_hours(workers)
    return {
        "hours of video": f"{hours:,.0f}",
        "inputs": f"{inputs:,}",
        "cores": f"{workers:,}",
        "days": f"{outcome.end_s / 86_400:.1f}",
        "core hours": f"{paid:,.0f}",
        "cost": f"{paid * args.price:,.0f}",
        "lost to failures": f"{outcome.lost_s / 36 / paid * share:.2f} %",
        "given up": f"{outcome.given_up * share:,.0f}",
        "reading alone, days": f"{hours_of_reading(inputs, fleet) / 24:.1f}",
        "videos, TB": f"{inputs * input_bytes / 1e12:,.1f}",
        "results, TB": f"{hours * args.result_mb / 1e6:,.2f}",
        "result files": f"{inputs * RESULT_FILES:,}",
    }


def run_slice(fleet: Fleet, inputs: int, input_s: float) -> tuple[Outcome, float]:
    """Simulate a part of the fleet. Return its outcome and the number of parts."""
    part, few = one_slice(fleet, inputs, SIMULATED)
    return simulate(part, np.full(few, input_s)), inputs / few


def hours_of_reading(inputs: int, fleet: Fleet) -> float:
    """Return the hours that the storage needs to serve every input once."""
    return inputs * fleet.input_bytes / fleet.storage_bytes_s / 3600


def table(rows: list[Row]) -> str:
    """Return rows as a Markdown table."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Run the selected part and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", choices=PARTS, help="part to run")
    parser.add_argument("--clip", type=Path, help="cost: a short clip; the demo clip by default")
    parser.add_argument(
        "--results", type=int, nargs="+", default=[10_000, 50_000], help="plan, merge: numbers of results"
    )
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--clips", type=int, default=20, help="check: number of intact clips")
    parser.add_argument("--broken", type=int, default=3, help="check: number of files that fail in both runs")
    parser.add_argument(
        "--hours", type=float, nargs="+", default=[1e4, 1e5, 1e6, 1e7], help="fleet: hours of video"
    )
    parser.add_argument("--deadline-days", type=float, default=7, help="time limit, days")
    parser.add_argument("--core-hours", type=float, default=CORE_HOURS, help="for an hour of video")
    parser.add_argument("--result-mb", type=float, default=RESULT_MB, help="for an hour of video")
    parser.add_argument("--clip-minutes", type=float, default=15, help="length of a video")
    parser.add_argument("--mbit-s", type=float, default=2.0, help="bit rate of the videos")
    parser.add_argument("--start-s", type=float, default=5.0, help="time to start a worker")
    parser.add_argument("--workers-a-shard", type=int, default=16, help="workers in a shard")
    parser.add_argument("--failures", type=float, default=0.01, help="failures of a worker in an hour")
    parser.add_argument("--attempts", type=int, default=3, help="attempts at an input")
    parser.add_argument("--stragglers", type=float, default=0.02, help="share of slow inputs")
    parser.add_argument("--straggler-factor", type=float, default=5.0, help="slowdown of a slow input")
    parser.add_argument(
        "--arrival-days", type=float, help="days over which inputs arrive; all at once by default"
    )
    parser.add_argument(
        "--storage-mb-s", type=float, default=1000.0, help="bandwidth for all workers together"
    )
    parser.add_argument("--latency-s", type=float, default=0.5, help="latency of an input")
    parser.add_argument("--price", type=float, default=1.0, help="price of a core hour")
    args = parser.parse_args()
    if args.part == "cost":
        with tempfile.TemporaryDirectory() as folder:
            print(table(cost(args.clip or demo_clip(Path(folder)))))
    elif args.part == "plan":
        print(table([row for count in args.results for row in plan(count)]))
    elif args.part == "merge":
        print(table([row for count in args.results for row in merge(count)]))
    elif args.part == "merge-once":
        print(json.dumps(merge_once(args.folder)))
    elif args.part == "plan-once":
        print(json.dumps(plan_once(args.folder)))
    elif args.part == "check":
        print(table(check(args.clips, args.broken)))
    else:
        print(table([fleet_row(hours, args) for hours in args.hours]))


def demo_clip(folder: Path) -> Path:
    """Make the demo clip: ten seconds, 512 x 512."""
    from auscan.pipeline.demo import make_demo_clip

    make_demo_clip(folder / "demo.mp4")
    return folder / "demo.mp4"


if __name__ == "__main__":
    main()
