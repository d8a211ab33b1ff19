"""Run `auscan detect` over thousands of broken media and say what became of them.

    python benchmarks/fuzz.py --files 2000 --out runs/fuzz [--clips DIR] [--jobs 2]

The files are those of tests/faults/corpus.py, each in a process of its own with a limit of time and memory. A
table goes to stdout, for docs/faults.md: a row a kind of fault, a column a class of error. Every half minute
stderr says how far it is. The exit code is 1 where a file is not accounted for, fails on something unforeseen
or reaches a limit, and after a traceback.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "faults"))
from corpus import Fault, make_corpus  # noqa: E402

CLASSES = {
    "empty": "is empty",
    "not there": "does not exist",
    "cut off": "is cut off",
    "no video": "is not a video",
    "no picture": "has no picture",
    "no frame": "not one frame",
    "sound alone": "has sound but no picture",
    "not decoded": "cannot be decoded",
    "unknown format": "in an unknown format",
    "not opened": "cannot be opened",
    "bad picture": "cannot be read as a picture",
    "bad sound": "its sound",
    "folder": "has no video or picture in it",
}
"""Class, and the words of its message."""
SAY_EVERY_S = 30.0
COMMAND = (sys.executable, "-c", "from auscan.cli.main import main; main()", "detect")


def main() -> None:
    """Read the command line, run, print the table."""
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
    say(f"making {args.files} files")
    faults = make_corpus(args.out / "in", range(args.files), args.seed, args.clips)
    limits = [f"--jobs={args.jobs}", f"--time-limit={args.limit_s}", f"--memory-limit={args.limit_gb}"]
    paths = [str(args.out / "in" / fault.file) for fault in faults]
    words = [*COMMAND, *paths, f"--out={args.out / 'out'}", *limits]
    manifest, told = args.out / "out" / "manifest.jsonl", args.out / "stderr.txt"
    progress = Progress("fuzz", manifest, len(faults))
    with told.open("w") as log, subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=log) as process:
        while process.poll() is None:
            progress.look()
            time.sleep(0.5)
    entries = read_entries(manifest)
    print(table(faults, entries))
    troubles = find_troubles(faults, entries, process.returncode, told.read_text(encoding="utf-8"))
    print("\n".join(troubles) or f"\nAll {len(faults)} files are accounted for.")
    raise SystemExit(1 if troubles else 0)


def say(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """Says now and then how many lines a manifest has."""

    def __init__(self, name: str, manifest: Path, files: int) -> None:
        self._name, self._manifest, self._files = name, manifest, files
        self._began_s = self._last_s = time.monotonic()

    def look(self) -> None:
        """Say it, if it is time."""
        now_s = time.monotonic()
        if now_s - self._last_s < SAY_EVERY_S:
            return
        self._last_s = now_s
        lines = self._manifest.read_bytes().count(b"\n") if self._manifest.is_file() else 0
        say(f"{self._name}: {lines} of {self._files} files after {(now_s - self._began_s) / 60:.1f} min")


def read_entries(manifest: Path) -> dict[str, dict]:
    """The last line on each file, by its name."""
    lines = manifest.read_text(encoding="utf-8").splitlines() if manifest.is_file() else []
    return {Path(entry["path"]).name: entry for entry in map(json.loads, lines)}


def class_of(entry: dict) -> str:
    """done, a class of `CLASSES`, or the name of the error's own class."""
    if entry["status"] == "done":
        return "done"
    words = [name for name, phrase in CLASSES.items() if phrase in entry["error"]]
    return words[0] if words else entry.get("error_class") or "other"


def table(faults: list[Fault], entries: dict[str, dict]) -> str:
    """Markdown: how many files of each kind ended in each class."""
    counts = Counter((fault.kind, class_of(entries[fault.file])) for fault in faults if fault.file in entries)
    classes = ["done", *sorted({name for _, name in counts} - {"done"})]
    lines = [f"| fault | files | {' | '.join(classes)} |", "| --- " * (len(classes) + 2) + "|"]
    for kind in [*sorted({fault.kind for fault in faults}), None]:
        row = [sum(n for (k, c), n in counts.items() if c == name and kind in (k, None)) for name in classes]
        lines.append(f"| {kind or 'all'} | {sum(row)} | {' | '.join(str(n or '') for n in row)} |")
    return "\n".join(lines)


def find_troubles(faults: list[Fault], entries: dict[str, dict], code: int, told: str) -> list[str]:
    """What must not be."""
    missing = [f"not accounted for: {fault.file}" for fault in faults if fault.file not in entries]
    bad = ("other", "TimeLimitError", "MemoryLimitError", "CrashError")
    ends = [f"{class_of(entry)}: {name}: {entry['error']}" for name, entry in entries.items()]
    unforeseen = [text for text in ends if "unforeseen" in text]
    left = [f"exit code {code}"] if code not in (0, 2) else []
    trace = ["a traceback was printed"] if "Traceback" in told else []
    return [*missing, *(each for each in ends if each.startswith(bad)), *unforeseen, *left, *trace]


if __name__ == "__main__":
    main()
