"""Run `auscan` as a program, and read the files that it wrote."""

import json
import subprocess
import sys
from pathlib import Path


def begin(clips: Path, out: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `auscan detect` in a new process group."""
    return begin_program("detect", str(clips), "--out", str(out), "--threads", "1", *arguments)


def begin_program(*arguments: str) -> subprocess.Popen[str]:
    """Start `auscan` in a new process group."""
    code = "from auscan.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def contents(out: Path) -> dict[str, object]:
    """Return the content of all files of all results; without the seconds and the command of summaries."""
    found: dict[str, object] = {}
    for file in out.rglob("*"):
        if file.is_file() and not file.name.startswith("manifest"):
            found[str(file.relative_to(out))] = file.read_bytes()
            if file.name == "summary.json":
                found[str(file.relative_to(out))] = {
                    **json.loads(file.read_text()),
                    "seconds": 0,
                    "command": "",
                }
    return found


def lines(out: Path) -> dict[str, dict[str, object]]:
    """Return the last manifest line of each input, without times, and without file sizes (see `contents`).

    Parses the JSON itself: records of `auscan extract` name files in subfolders, which `read_records`
    refuses.
    """
    found = [
        json.loads(line) for file in out.glob("manifest*.jsonl") for line in file.read_text().splitlines()
    ]
    other = ("seconds", "ended", "files")
    return {
        line["key"]: {name: value for name, value in line.items() if name not in other}
        for line in sorted(found, key=lambda line: line["ended"])
    }
