"""Run `auscan detect` on thousands of broken media files and count the outcomes.

    python benchmarks/faults/fuzz.py --files 2000 --out runs/fuzz [--clips DIR] [--jobs 2]

The files come from tests/faults/corpus.py. Each is processed in its own process, with limits of time and
memory. Prints a table for docs/faults.md: a row for each kind of fault, a column for each class of error.
Writes progress to stderr every half minute. Exits with 1 if a file is missing from the manifest, fails with
an unexpected error or reaches a limit, or if a traceback was printed.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "faults"))
from corpus import Fault, make_corpus

CLASSES = {
    "empty": "is empty",
    "not there": "does not exist",
    "cut off": "is cut off",
    "no video": "is not a video",
    "no picture": "has no video stream",
    "no frame": "has a video stream without frames",
    "sound alone": "has audio but no video stream",
    "not decoded": "cannot be decoded",
    "unknown format": "in an unknown format",
    "not opened": "cannot be opened",
    "bad picture": "cannot be read as a picture",
    "bad sound": "the audio has",
    "folder": "contains no video or picture",
}
"""Class of error -> words of its message."""
PROGRESS_INTERVAL_S = 30.0
"""Time between two lines of progress, seconds."""
COMMAND = (sys.executable, "-c", "from auscan.cli.main import main; main()", "detect")


def main() -> None:
    """Parse arguments, make and process the files, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000, help="number of files")
    parser.add_argument("--seed", type=int, default=0, help="seed of the faults")
    parser.add_argument("--clips", type=Path, help="folder with intact clips to break as well")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the files and results")
    parser.add_argument("--jobs", type=int, default=2, help="parallel processes")
    parser.add_argument("--limit-s", type=float, default=120.0, help="time limit for each file, seconds")
    parser.add_argument("--limit-gb", type=float, default=4.0, help="memory limit for each file, GB")
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"{args.out} already exists. Give a new folder.")
    print_progress(f"making {args.files} files")
    faults = make_corpus(args.out / "in", range(args.files), args.seed, args.clips)
    limits = [f"--jobs={args.jobs}", f"--time-limit={args.limit_s}", f"--memory-limit={args.limit_gb}"]
    paths = [str(args.out / "in" / fault.file) for fault in faults]
    words = [*COMMAND, *paths, f"--out={args.out / 'out'}", *limits]
    manifest, stderr_file = args.out / "out" / "manifest.jsonl", args.out / "stderr.txt"
    progress = Progress("fuzz", manifest, len(faults))
    with (
        stderr_file.open("w") as log,
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=log) as process,
    ):
        while process.poll() is None:
            progress.update()
            time.sleep(0.5)
    entries = read_records(manifest)
    print(table(faults, entries))
    problems = find_problems(faults, entries, process.returncode, stderr_file.read_text(encoding="utf-8"))
    print("\n".join(problems) or f"\nAll {len(faults)} files have a record.")
    raise SystemExit(1 if problems else 0)


def print_progress(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """Progress of a run: prints the number of lines of its manifest at intervals."""

    def __init__(self, name: str, manifest: Path, files: int) -> None:
        self._name, self._manifest, self._files = name, manifest, files
        self._began_s = self._last_s = time.monotonic()

    def update(self) -> None:
        """Print the progress if the interval is over."""
        now_s = time.monotonic()
        if now_s - self._last_s < PROGRESS_INTERVAL_S:
            return
        self._last_s = now_s
        lines = self._manifest.read_bytes().count(b"\n") if self._manifest.is_file() else 0
        print_progress(
            f"{self._name}: {lines} of {self._files} files after {(now_s - self._began_s) / 60:.1f} min"
        )


def read_records(manifest: Path) -> dict[str, dict]:
    """Read the last manifest record of each file, by its name."""
    lines = manifest.read_text(encoding="utf-8").splitlines() if manifest.is_file() else []
    return {Path(entry["path"]).name: entry for entry in map(json.loads, lines)}


def class_of(entry: dict) -> str:
    """Return done, a class of `CLASSES`, or the name of the error class."""
    if entry["status"] == "done":
        return "done"
    words = [name for name, phrase in CLASSES.items() if phrase in entry["error"]]
    return words[0] if words else entry.get("error_class") or "other"


def table(faults: list[Fault], entries: dict[str, dict]) -> str:
    """Return the outcomes by kind of fault as a Markdown table."""
    counts = Counter((fault.kind, class_of(entries[fault.file])) for fault in faults if fault.file in entries)
    classes = ["done", *sorted({name for _, name in counts} - {"done"})]
    lines = [f"| fault | files | {' | '.join(classes)} |", "| --- " * (len(classes) + 2) + "|"]
    for kind in [*sorted({fault.kind for fault in faults}), None]:
        row = [sum(n for (k, c), n in counts.items() if c == name and kind in (k, None)) for name in classes]
        lines.append(f"| {kind or 'all'} | {sum(row)} | {' | '.join(str(n or '') for n in row)} |")
    return "\n".join(lines)


def find_problems(faults: list[Fault], entries: dict[str, dict], code: int, stderr_file: str) -> list[str]:
    """Return the problems: missing records, unexpected errors, limits, tracebacks."""
    missing = [f"no manifest record: {fault.file}" for fault in faults if fault.file not in entries]
    bad = ("other", "TimeLimitError", "MemoryLimitError", "CrashError")
    ends = [f"{class_of(entry)}: {name}: {entry['error']}" for name, entry in entries.items()]
    unexpected = [text for text in ends if "unexpected error" in text]
    left = [f"exit code {code}"] if code not in (0, 2) else []
    trace = ["a traceback was printed"] if "Traceback" in stderr_file else []
    return [*missing, *(each for each in ends if each.startswith(bad)), *unexpected, *left, *trace]


if __name__ == "__main__":
    main()
