"""`auscan detect` as a program, and what it leaves."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from auscan.results.manifest import latest, read_records


def begin(clips: Path, out: Path, *arguments: str) -> subprocess.Popen[str]:
    """`auscan detect` in a process group of its own."""
    return begin_program("detect", str(clips), "--out", str(out), "--threads", "1", *arguments)


def begin_program(*arguments: str) -> subprocess.Popen[str]:
    """`auscan` in a process group of its own."""
    code = "from auscan.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def contents(out: Path) -> dict[str, object]:
    """Every file of every result, but for what a summary says of the run itself."""
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
    """The last line on each input, but for times, and for sizes, which `contents` holds."""
    other = ("seconds", "ended", "files")
    return {
        key: {name: value for name, value in asdict(record).items() if name not in other}
        for key, record in latest(read_records(out)).items()
    }
