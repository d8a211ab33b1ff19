"""Errors raised on purpose; each class carries the exit code that the command line returns.

A message says what is wrong, with which file or value, and what to do.

    AuscanError              base class                              exit code 1
    +- InputError            an input or an argument is wrong        exit code 2
    |  +- MediaError         a video, audio or image file
    |  +- CheckpointError    a checkpoint folder
    |  +- TimeLimitError     an input exceeded the time limit
    |  +- MemoryLimitError   an input exceeded the memory limit
    +- OutputError           results cannot be written               exit code 2
    +- CrashError            a worker process ended unexpectedly     exit code 1
"""


class AuscanError(Exception):
    """Anything auscan raises on purpose."""

    exit_code = 1


class InputError(AuscanError):
    """The input or an argument is at fault, not auscan."""

    exit_code = 2


class MediaError(InputError):
    """A video, sound or picture file cannot be used."""


class CheckpointError(InputError):
    """A checkpoint folder cannot be used."""


class OutputError(AuscanError):
    """Results cannot be written; every other input would fail in the same way."""

    exit_code = 2


class TimeLimitError(InputError):
    """An input takes longer than it may."""


class MemoryLimitError(InputError):
    """An input takes more memory than it may."""


class CrashError(AuscanError):
    """A process that did the work ended on its own, as when a decoder crashes."""


EXIT_INTERRUPTED = 130
"""Exit code of what was stopped by Ctrl+C."""


def exit_code_of(error_class: str) -> int:
    """The exit code of a class by its name; 1 for those that are not auscan's."""
    pending: list[type[AuscanError]] = [AuscanError]
    for kind in pending:
        if kind.__name__ == error_class:
            return kind.exit_code
        pending += kind.__subclasses__()
    return 1
