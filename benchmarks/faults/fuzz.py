"""Run `auscan detect` on thousands of broken media files and count the outcomes.

    python benchmarks/faults/fuzz.py --files 2000 --out runs/fuzz [--clips DIR] [--jobs 2]

The files are those of tests/faults/corpus.py, each in a process of its own with a limit of time and memory.
Prints a table for docs/faults.md: a row a kind of fault, a column a class of error. Progress goes to stderr
every half minute. Exits with 1 where a file is missing from the manifest, fails with an unexpected error or
reaches a limit, and after a traceback.
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
COMMAND = (sys.executable, "-c", "from auscan.cli.main import main; main()", "detect")


def main() -> None:
    """Parse arguments, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000, help="how many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=Path, help="folder with whole clips to be broken as well")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the files and results")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit-s", type=float, default=120.0, help="for each file")
    parser.add_argument("--limit-gb", type=float, default=4.0, help="for each file")
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"{args.out} is there already; give a new folder.")
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
            progress.look()
            time.sleep(0.5)
    entries = read_records(manifest)
    print(table(faults, entries))
    problems = find_problems(faults, entries, process.returncode, stderr_file.read_text(encoding="utf-8"))
    print("\n".join(problems) or f"\nAll {len(faults)} files are accounted for.")
    raise SystemExit(1 if problems else 0)


def print_progress(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """Prints the number of lines of a manifest at intervals."""

    def __init__(self, name: str, manifest: Path, files: int) -> None:
        self._name, self._manifest, self._files = name, manifest, files
        self._began_s = self._last_s = time.monotonic()

    def look(self) -> None:
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
    """Last manifest record of each file, by its name."""
    lines = manifest.read_text(encoding="utf-8").splitlines() if manifest.is_file() else []
    return {Path(entry["path"]).name: entry for entry in map(json.loads, lines)}


def class_of(entry: dict) -> str:
    """Return done, a class of `CLASSES`, or the name of the error class."""
    if entry["status"] == "done":
        return "done"
    words = [name for name, phrase in CLASSES.items() if phrase in entry["error"]]
    return words[0] if words else entry.get("error_class") or "other"


def table(faults: list[Fault], entries: dict[str, dict]) -> str:
    """Markdown table of outcomes by kind of fault."""
    counts = Counter((fault.kind, class_of(entries[fault.file])) for fault in faults if fault.file in entries)
    classes = ["done", *sorted({name for _, name in counts} - {"done"})]
    lines = [f"| fault | files | {' | '.join(classes)} |", "| --- " * (len(classes) + 2) + "|"]
    for kind in [*sorted({fault.kind for fault in faults}), None]:
        row = [sum(n for (k, c), n in counts.items() if c == name and kind in (k, None)) for name in classes]
        lines.append(f"| {kind or 'all'} | {sum(row)} | {' | '.join(str(n or '') for n in row)} |")
    return "\n".join(lines)


def find_problems(faults: list[Fault], entries: dict[str, dict], code: int, stderr_file: str) -> list[str]:
    """Problems: missing records, unexpected errors, limits, tracebacks."""
    missing = [f"not accounted for: {fault.file}" for fault in faults if fault.file not in entries]
    bad = ("other", "TimeLimitError", "MemoryLimitError", "CrashError")
    ends = [f"{class_of(entry)}: {name}: {entry['error']}" for name, entry in entries.items()]
    unforeseen = [text for text in ends if "unforeseen" in text]
    left = [f"exit code {code}"] if code not in (0, 2) else []
    trace = ["a traceback was printed"] if "Traceback" in stderr_file else []
    return [*missing, *(each for each in ends if each.startswith(bad)), *unforeseen, *left, *trace]


if __name__ == "__main__":
    main()
