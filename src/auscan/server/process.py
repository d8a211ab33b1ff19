"""Run one program in a process group of its own, hear how far it is, and end it when it takes too long.

A decoder may hang, or a file may make it ask for all the memory there is. So the work is done in another
process, which is ended with all its children, and which may not have more memory than the machine.

In: a command whose stderr says `... 250 of 1000 frames ...` now and then.  Out: how it ended.
Not here: which command (jobs.py).
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
"""Called with frames done and frames in all, None where that is not known."""

ProcessOutcome = Literal["done", "failed", "cancelled", "too slow"]

_PROGRESS_LINE: Final = re.compile(r": (\d+)(?: of (\d+))? frames, ")
_POLL_EVERY_S: Final[float] = 0.1
_MAX_LINES: Final[int] = 20
_MIN_ADDRESS_SPACE: Final[int] = 6 * 1024**3
"""Address space that the engines map without using it; a lower limit would end honest work."""


@dataclass(frozen=True)
class ProcessResult:
    """How a process came to its end."""

    outcome: ProcessOutcome
    stderr_tail: str = ""
    """The last lines on its stderr, those about progress left out."""


def run_process(
    command: Sequence[str],
    folder: Path,
    time_limit_s: float,
    progress: Progress,
    cancelled: threading.Event,
    environment: Mapping[str, str],
) -> ProcessResult:
    """Run a command in `folder` until it ends, takes too long, or `cancelled` is set."""
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
    """Until the last of the group has closed it."""
    with stderr:
        for line in stderr:
            step = _PROGRESS_LINE.search(line)
            if step is None:
                lines.append(line.rstrip())
            else:
                progress(int(step[1]), int(step[2]) if step[2] else None)


def _kill_group(process: subprocess.Popen[str]) -> None:
    """End the process and whatever it started; a hung decoder hears nothing less than SIGKILL."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):  # all gone; macOS says the latter of zombies
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _limit_memory(pid: int) -> None:
    """No more address space than the machine has memory, where the system can be told (Linux)."""
    try:
        import resource

        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        limit = max(memory, _MIN_ADDRESS_SPACE)
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
    except (ImportError, AttributeError, ValueError, OSError):
        pass
