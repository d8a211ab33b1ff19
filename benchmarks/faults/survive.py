"""Kill `auscan detect` repeatedly, resume it each time, and compare with an uninterrupted run.

    python benchmarks/faults/survive.py --clips clips --out runs/survive [--files 200] [--kills 30]

Half of the files are clips, shortened without encoding them again. The other half are broken files of every
kind (tests/faults/corpus.py). All processes of the run get SIGKILL at random moments (seeded). Checks:

    after each kill    every published result is complete
    at the end         each file has one manifest line, and the result or error of the uninterrupted run;
                       no temporary file is left

Only the duration (`seconds`), the time (`ended`) and the summary's `command`, which contains the folder, may
differ.

Prints a row for each kill with the progress of the run, and progress to stderr every half minute. Exits
with 1 if a check fails.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for recipes and benchmarks
from auscan.results.manifest import ManifestRecord, is_whole, latest, read_records
from auscan.results.result import SUMMARY_FILE
from benchmarks.faults.fuzz import COMMAND, Progress, print_progress

from corpus import KINDS, LARGE, make_corpus  # isort: skip  (fuzz.py puts it on the path)


SHORTEST_S, LONGER_S = 0.6, 0.2
"""Length of a clip at its first use, and increment at each further use, seconds."""


def main() -> None:
    """Parse arguments, run to the end, run again with kills, and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clips", type=Path, required=True, help="folder with intact clips")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the files and results")
    parser.add_argument("--files", type=int, default=200, help="number of files, half of them broken")
    parser.add_argument("--kills", type=int, default=30, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of faults and kill times")
    parser.add_argument("--jobs", type=int, default=2, help="parallel processes")
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"{args.out} already exists. Give a new folder.")
    print_progress(f"making {args.files} files")
    inputs = make_inputs(args.out / "in", args.clips, args.files, args.seed)
    one, two = Run(inputs, args.out / "one", args.jobs), Run(inputs, args.out / "two", args.jobs)
    start_s, whole_s = one.run_to_end()
    done, failed = one.counts()
    print(f"uninterrupted: {done} done, {failed} failed in {whole_s:.0f} s; first after {start_s:.1f} s\n")
    print("| kill | after, s | done | failed |\n| --- | --- | --- | --- |", flush=True)
    random, latest_s = np.random.default_rng(args.seed), start_s + 2 * whole_s / args.kills
    whole = [path.name for path in inputs[: args.files // 2]]
    problems = [f"{key} is intact but failed" for key in whole if one.entries()[key].status == "failed"]
    for number in range(1, args.kills + 1):
        while not two.killed(moment_s := random.uniform(0, latest_s)):
            pass  # the run ended before the kill
        problems += [f"after kill {number}: {each}" for each in two.incomplete_results(one)]
        print(f"| {number} | {moment_s:.1f} | {' | '.join(map(str, two.counts()))} |", flush=True)
        print_progress(f"kill {number} of {args.kills}")
    two.run_to_end()
    problems += two.differences(one)
    print(
        "\n".join(["", *problems])
        if problems
        else f"\nAll {len(inputs)} files ended as in the uninterrupted run."
    )
    raise SystemExit(1 if problems else 0)


def make_inputs(folder: Path, clips: Path, files: int, seed: int) -> list[Path]:
    """Make files, half of them short clips and half of them broken."""
    folder.mkdir(parents=True)
    whole = sorted(path for path in clips.iterdir() if path.is_file())
    inputs = []
    for number in range(files // 2):
        turn, clip = number // len(whole), whole[number % len(whole)]
        inputs.append(cut(clip, folder / f"{clip.stem}-{turn}{clip.suffix}", SHORTEST_S + LONGER_S * turn))
    small = [number for number in range(2 * files) if KINDS[number % len(KINDS)] not in LARGE]
    faults = make_corpus(folder, small[: files - len(inputs)], seed)
    return inputs + [folder / fault.file for fault in faults]


def cut(clip: Path, target: Path, seconds: float) -> Path:
    """Copy the packets of the first seconds of a clip."""
    with av.open(str(clip)) as whole, av.open(str(target), "w") as part:
        streams = [stream for stream in whole.streams if stream.type in ("video", "audio")]
        copies = {stream.index: part.add_stream_from_template(stream) for stream in streams}
        for packet in whole.demux(streams):
            if packet.dts is not None and packet.dts * packet.time_base <= seconds:
                packet.stream = copies[packet.stream.index]
                part.mux(packet)
    return target


class Run:
    """Repeated runs of `auscan detect --resume` on the same inputs and output folder."""

    def __init__(self, inputs: Sequence[Path], out: Path, jobs: int) -> None:
        self.out, self._temporary = out, out.with_name(f"{out.name}-tmp")
        self._inputs = len(inputs)
        self._temporary.mkdir()
        self._command = [*COMMAND, *map(str, inputs), f"--out={out}", f"--jobs={jobs}", "--resume"]

    def _begin(self) -> subprocess.Popen[bytes]:
        """Start the command in its own process group with its own temporary folder."""
        with self.out.with_name(f"{self.out.name}.txt").open("ab") as log:
            return subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "TMPDIR": str(self._temporary)},
            )

    def run_to_end(self) -> tuple[float, float]:
        """Run to the end. Return seconds until the first line of the manifest, and in total."""
        began_s, first_s = time.monotonic(), None
        manifest = self.out / "manifest.jsonl"
        progress = Progress(f"run to the end in {self.out.name}", manifest, self._inputs)
        process = self._begin()
        while process.poll() is None:
            if first_s is None and manifest.exists():
                first_s = time.monotonic() - began_s
            progress.update()
            time.sleep(0.05)
        whole_s = time.monotonic() - began_s
        if process.returncode not in (0, 2):
            raise SystemExit(
                f"auscan detect exited with {process.returncode}. Its output is in {self.out}.txt."
            )
        return first_s or whole_s, whole_s

    def killed(self, moment_s: float) -> bool:
        """Kill all processes after some seconds. Return whether the run was still in progress."""
        process = self._begin()
        time.sleep(moment_s)
        running = process.poll() is None
        if running:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return running

    # Results

    def entries(self) -> Mapping[str, ManifestRecord]:
        """Read the latest manifest record of each input, by key."""
        return latest(read_records(self.out))

    def counts(self) -> tuple[int, int]:
        """Count the inputs that are done and that failed."""
        counts = Counter(entry.status for entry in self.entries().values())
        return counts["done"], counts["failed"]

    def contents(self) -> dict[str, Any]:
        """Read the contents of every file of every result."""
        files = [file for file in self.out.glob("[!.]*/*") if file.is_file()]
        return {str(file.relative_to(self.out)): _content(file) for file in files}

    def incomplete_results(self, uninterrupted: "Run") -> Iterator[str]:
        """Yield results that are incomplete, and results that are recorded but missing."""
        expected = uninterrupted.contents()
        for name, content in self.contents().items():
            if content != expected.get(name):
                yield f"{name} differs from the uninterrupted run"
        for folder in self.out.glob("[!.]*/"):
            whole = {name for name in expected if Path(name).parent.name == folder.name}
            if whole != {str(file.relative_to(self.out)) for file in folder.iterdir()}:
                yield f"{folder.name} is incomplete"
        for entry in self.entries().values():
            if entry.status == "done" and not is_whole(self.out, entry):
                yield f"{entry.key} is done in the manifest, but its result is incomplete"

    def differences(self, uninterrupted: "Run") -> Iterator[str]:
        """Yield differences from the uninterrupted run."""
        yield from self.incomplete_results(uninterrupted)
        lines = Counter(entry.key for entry in read_records(self.out))
        yield from (
            f"{key} has {number} lines in the manifest" for key, number in lines.items() if number != 1
        )
        ours, theirs = self.entries(), uninterrupted.entries()
        for key in sorted({*ours, *theirs}):
            if key not in ours or key not in theirs or _facts(ours[key]) != _facts(theirs[key]):
                yield f"the manifest line of {key} differs from the uninterrupted run"
        if self.contents().keys() != uninterrupted.contents().keys():
            yield "the set of results differs from the uninterrupted run"
        left = [*self.out.glob(".*"), *self.out.rglob("*.part*"), *self._temporary.iterdir()]
        yield from (f"temporary file left: {path}" for path in left)


def _content(file: Path) -> Any:
    """Return the bytes of a file; of a summary, the keys that do not describe the run."""
    if file.name == SUMMARY_FILE:
        return {**json.loads(file.read_text(encoding="utf-8")), "seconds": None, "command": None}
    return file.read_bytes()


def _facts(entry: ManifestRecord) -> dict[str, Any]:
    """Return the fields of a record that describe the input and its result, not the run."""
    files = {name: size for name, size in entry.files.items() if name != SUMMARY_FILE}
    return {**asdict(entry), "seconds": None, "ended": None, "files": files}


if __name__ == "__main__":
    main()
