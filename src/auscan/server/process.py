"""Run a program in its own process group, report its progress, and kill it after a time limit.

A decoder may hang, and a damaged file may make it allocate too much memory. The work therefore runs in
another process, which is killed with all its children and cannot allocate more memory than the machine has.

Inputs: a command that prints lines `... 250 of 1000 frames ...` to stderr. Returns: its outcome.
See also: jobs.py (the command).
"""

import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

Progress = Callable[[int, int | None], None]
"""Function called with finished frames and total frames (None: unknown)."""

ProcessOutcome = Literal["done", "failed", "cancelled", "too slow"]

_PROGRESS_LINE: Final = re.compile(r": (\d+)(?: of (\d+))? frames, ")
_POLL_EVERY_S: Final[float] = 0.1
_MAX_LINES: Final[int] = 20
_MIN_ADDRESS_SPACE: Final[int] = 6 * 1024**3
"""Least limit of the address space, bytes; the engines map this much without using it."""


@dataclass(frozen=True)
class ProcessResult:
    """Outcome of a process."""

    outcome: ProcessOutcome
    stderr_tail: str = ""
    """Last lines of stderr without progress lines."""


def run_process(
    command: Sequence[str],
    folder: Path,
    time_limit_s: float,
    progress: Progress,
    cancelled: threading.Event,
    environment: Mapping[str, str],
) -> ProcessResult:
    """Run a command in `folder` until it ends, exceeds `time_limit_s`, or `cancelled` is set."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    _limit_memory(process.pid)
    assert process.stderr is not None
    lines: deque[str] = deque(maxlen=_MAX_LINES)
    reader = threading.Thread(target=_read_stderr, args=(process.stderr, progress, lines), daemon=True)
    reader.start()
    outcome = _wait(process, time.monotonic() + time_limit_s, cancelled)
    _kill_group(process)
    reader.join(timeout=5)
    return ProcessResult(outcome, "\n".join(lines))


def _wait(process: subprocess.Popen[str], deadline_s: float, cancelled: threading.Event) -> ProcessOutcome:
    while process.poll() is None:
        if cancelled.wait(_POLL_EVERY_S):
            return "cancelled"
        if time.monotonic() > deadline_s:
            return "too slow"
    return "done" if process.returncode == 0 else "failed"


def _read_stderr(stderr: IO[str], progress: Progress, lines: deque[str]) -> None:
    """Read stderr until all processes of the group have closed it."""
    with stderr:
        for line in stderr:
            step = _PROGRESS_LINE.search(line)
            if step is None:
                lines.append(line.rstrip())
            else:
                progress(int(step[1]), int(step[2]) if step[2] else None)


def _kill_group(process: subprocess.Popen[str]) -> None:
    """Kill the process and its children with SIGKILL, because a hung decoder ignores other signals."""
    if hasattr(os, "killpg"):
        with suppress(
            ProcessLookupError, PermissionError
        ):  # already ended; macOS raises PermissionError for zombies
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _limit_memory(pid: int) -> None:
    """Limit the address space of a process to the memory of the machine; does nothing except on Linux."""
    try:
        import resource

        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        limit = max(memory, _MIN_ADDRESS_SPACE)
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
    except (ImportError, AttributeError, ValueError, OSError):
        pass
