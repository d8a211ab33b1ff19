"""Count the files and functions of auscan that are called for one clip.

    python benchmarks/speed/modules_entered.py clips/lp_s13.mp4 [--checkout ../auscan-before] [--json]

Runs `auscan detect CLIP --out TMP` in this process under a profile hook. Prints a row for each file below
src/auscan with a function that was called: number of functions, lines of these functions, lines of the file.
Bodies of modules and classes do not count, nor do calls during an import. `--checkout` measures another
checkout in place of the installed package. Functions in worker processes are not counted; `auscan detect`
starts none for one input.
"""

import argparse
import contextlib
import inspect
import json
import sys
import tempfile
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple


class Entered(NamedTuple):
    """One file with functions that were called."""

    file: str
    """Path below src/auscan."""
    functions: int
    """Functions that were called."""
    function_lines: int
    """Source lines of these functions; nested functions count once."""
    file_lines: int
    """Lines of the whole file."""


class CallRecorder:
    """Profile hook that records the code of every called function below a folder."""

    def __init__(self, folder: Path) -> None:
        self._prefix = f"{folder}/"
        self.codes: set[CodeType] = set()

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        if event != "call" or code in self.codes or not code.co_filename.startswith(self._prefix):
            return
        # The flag is set for functions, and not for bodies of modules and classes.
        if code.co_flags & inspect.CO_OPTIMIZED and not self._is_importing(frame):
            self.codes.add(code)

    def _is_importing(self, frame: FrameType | None) -> bool:
        """Return whether a module below the folder is being executed further up the stack."""
        while frame is not None:
            if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(self._prefix):
                return True
            frame = frame.f_back
        return False


def main() -> None:
    """Run the command under the hook and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("clip", type=Path, help="clip to run")
    parser.add_argument("--checkout", type=Path, help="checkout to measure; the installed package by default")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    args = parser.parse_args()
    folder, codes = record_detect(args.clip, args.checkout)
    rows = entered_files(folder, codes)
    total = Entered("total", *(sum(column) for column in list(zip(*rows, strict=True))[1:]))
    if args.json:
        files = [row._asdict() for row in rows]
        print(json.dumps({"files": files, "total": {**total._asdict(), "file": len(rows)}}, indent=2))
        return
    print("functions  their lines  file lines  file")
    for row in [*rows, total._replace(file=f"total of {len(rows)} files in {folder}")]:
        print(f"{row.functions:9}  {row.function_lines:11}  {row.file_lines:10}  {row.file}")


def record_detect(clip: Path, checkout: Path | None) -> tuple[Path, set[CodeType]]:
    """Run `auscan detect` on a clip. Return the folder of the package and the code of the functions called.

    Raise SystemExit if the command fails.
    """
    if checkout is not None:
        sys.path.insert(0, str(checkout.resolve() / "src"))
    import auscan

    folder = Path(auscan.__file__).resolve().parent
    recorder = CallRecorder(folder)
    with tempfile.TemporaryDirectory() as out:
        sys.argv = ["auscan", "detect", str(clip), "--out", out]
        threading.setprofile(recorder)
        sys.setprofile(recorder)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                run_command()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return folder, recorder.codes


def run_command() -> None:
    """Run the command line in `sys.argv`. Raise SystemExit only if it fails."""
    from auscan.cli.main import main as auscan_main

    try:
        auscan_main()
    except SystemExit as end:
        if end.code:
            raise


def entered_files(folder: Path, codes: set[CodeType]) -> list[Entered]:
    """Return one row for each file, in the order of their paths."""
    by_file: dict[str, set[CodeType]] = {}
    for code in codes:
        by_file.setdefault(code.co_filename, set()).add(code)
    rows = []
    for file, called in by_file.items():
        lines = {line for code in called for line in range(code.co_firstlineno, last_line(code) + 1)}
        file_lines = len(Path(file).read_text(encoding="utf-8").splitlines())
        rows.append(Entered(str(Path(file).relative_to(folder)), len(called), len(lines), file_lines))
    return sorted(rows)


def last_line(code: CodeType) -> int:
    """Return the last source line of a function."""
    return max([code.co_firstlineno, *(line for _, _, line in code.co_lines() if line)])


if __name__ == "__main__":
    main()
