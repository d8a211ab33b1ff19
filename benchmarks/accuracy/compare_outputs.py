r"""Run two checkouts of auscan on the same media and compare every file they write, byte for byte.

Use it before and after a change that must not alter results:

    git worktree add /tmp/before COMMIT
    python benchmarks/accuracy/compare_outputs.py --before /tmp/before --after . \
        --clips ../shared/data/clips --out runs/compare

For each input: `auscan detect --evidence`, `auscan export-results` in every format, and the rows of
`LiveDetector` (`auscan live` drops frames on a busy machine). JSON and .eaf files are compared without
versions, paths, times and durations, which differ from run to run; Parquet files by columns, types and
values, without their metadata. Overlay videos are left out: the encoder's bytes differ between two runs of
the same code. Prints a row for each file that differs, and a summary. Exits with 1 if a file differs.

See also: clips.py and accuracy.py (quality of the results).
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

FORMATS: Final = ("openface", "pyfeat", "elan", "textgrid", "bids", "wide", "jsonl")
VARYING_KEYS: Final = frozenset({"auscan", "versions", "command", "seconds", "GeneratedBy"})
"""JSON keys with the commit, paths or duration of the run."""
AUSCAN_PROGRAM: Final = "import sys; from auscan.cli.main import main; sys.exit(main())"
LIVE_PROGRAM: Final = """
import json, sys
from auscan.media.stream import read_stream
from auscan.media.video import Frame
from auscan.pipeline.live import LiveDetector
with LiveDetector() as detector:
    push_audio = getattr(detector, "push_audio", None) or detector.hear  # its name before 0.2
    for item in read_stream(sys.argv[1]):
        rows = []
        if isinstance(item, Frame):
            rows = detector.push(item.image, item.time_s, None, item.index)
        else:
            push_audio(item)
        print(*map(json.dumps, rows), sep="\\n", end="\\n" if rows else "")
    print(*map(json.dumps, detector.finish()), sep="\\n")
"""


def main() -> int:
    """Run both checkouts and compare their outputs. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="checkout to compare against")
    parser.add_argument("--after", type=Path, required=True, help="checkout to test")
    parser.add_argument("--clips", type=Path, required=True, help="folder of videos and pictures")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for the outputs of both; finished outputs are not made again",
    )
    arguments = parser.parse_args()
    for name in ("before", "after"):
        if not (arguments.out / name / "complete").exists():
            run(getattr(arguments, name).resolve(), arguments.clips.resolve(), arguments.out / name)
    differing = compare(arguments.out / "before", arguments.out / "after")
    return 1 if differing else 0


def run(checkout: Path, clips: Path, out: Path) -> None:
    """Write all outputs of one checkout below `out`."""
    inputs = sorted(path for path in clips.iterdir() if path.is_file())
    out.mkdir(parents=True, exist_ok=True)
    print(f"{checkout}: detect on {len(inputs)} inputs", file=sys.stderr)
    auscan(checkout, "detect", *map(str, inputs), "--out", str(out / "results"), "--evidence")
    for result in sorted(path for path in (out / "results").iterdir() if (path / "aus.parquet").exists()):
        words = [word for name in FORMATS for word in ("--to", name)]
        auscan(checkout, "export-results", str(result), *words, "--out", str(out / "exports" / result.name))
    (out / "live").mkdir(exist_ok=True)
    for path in (path for path in inputs if path.suffix in (".mp4", ".mov")):
        rows = python(checkout, LIVE_PROGRAM, str(path))
        (out / "live" / f"{path.stem}.jsonl").write_bytes(rows)
        print(f"{checkout}: live on {path.name}: {rows.count(10)} rows", file=sys.stderr)
    (out / "complete").touch()


def auscan(checkout: Path, *words: str) -> bytes:
    """Run a command of a checkout. Return its standard output."""
    return python(checkout, AUSCAN_PROGRAM, *words)


def python(checkout: Path, program: str, *words: str) -> bytes:
    """Run a Python program on a checkout. Return its standard output.

    A failure is only printed, because some inputs must fail.
    """
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=environment, capture_output=True, check=False
    )
    if done.returncode:
        print(f"{words[0]}: exit code {done.returncode}: {done.stderr.decode()[-600:]}", file=sys.stderr)
    return done.stdout


def compare(before: Path, after: Path) -> list[str]:
    """Print and return the names of the files that differ or exist in one tree only."""
    trees = [files_below(before), files_below(after)]
    names = sorted(trees[0].keys() | trees[1].keys())
    differing = [name for name in names if trees[0].get(name) != trees[1].get(name)]
    for name in differing:
        missing = [side for side, tree in zip(("before", "after"), trees, strict=True) if name not in tree]
        print(f"{name}: {'missing ' + ' and '.join(missing) if missing else 'differs'}")
    tables = sum(name.endswith("aus.parquet") for name in names)
    print(f"{len(names)} files of {tables} results compared, {len(differing)} differ")
    return differing


def files_below(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder, by its path in the folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(("manifest", "complete")):
            found[str(path.relative_to(folder))] = digest(path)
    return found


def digest(path: Path) -> str:
    """Return the sha256 of a file; see the module docstring for JSON and Parquet."""
    if path.suffix == ".parquet":
        table = pq.read_table(path).replace_schema_metadata(None)
        content = repr(table.schema).encode() + b"".join(
            buffer for column in table.combine_chunks().columns for buffer in _buffers(column)
        )
        return hashlib.sha256(content).hexdigest()
    content = path.read_bytes()
    if path.suffix == ".json":
        content = json.dumps(without_varying(json.loads(content)), sort_keys=True).encode()
    elif path.suffix == ".eaf":
        content = re.sub(rb' (AUTHOR|DATE)="[^"]*"', b"", content)
    return hashlib.sha256(content).hexdigest()


def _buffers(column: Any) -> list[bytes]:
    """Return the values of a column as bytes; NaN and null differ."""
    return [repr(column.type).encode(), *(repr(value).encode() for value in column.to_pylist())]


def without_varying(value: Any) -> Any:
    """Return a JSON value without `VARYING_KEYS`, at any depth."""
    if isinstance(value, dict):
        return {key: without_varying(each) for key, each in value.items() if key not in VARYING_KEYS}
    return [without_varying(each) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main())
