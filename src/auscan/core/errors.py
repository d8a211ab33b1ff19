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
    """Base class of all errors that auscan raises on purpose."""

    exit_code = 1
    """Exit code of the command line."""


class InputError(AuscanError):
    """An input or an argument is wrong; the user can fix it."""

    exit_code = 2


class MediaError(InputError):
    """A video, audio or image file cannot be read."""


class CheckpointError(InputError):
    """A checkpoint folder cannot be loaded."""


class OutputError(AuscanError):
    """Results cannot be written; all other inputs would fail in the same way."""

    exit_code = 2


class TimeLimitError(InputError):
    """An input exceeded the time limit."""


class MemoryLimitError(InputError):
    """An input exceeded the memory limit."""


class CrashError(AuscanError):
    """A worker process ended unexpectedly, for example because a decoder crashed."""


EXIT_INTERRUPTED = 130
"""Exit code after Ctrl+C."""


def exit_code_of(error_class: str) -> int:
    """Return the exit code of an error class by its name, or 1 if the class is not one of auscan."""
    pending: list[type[AuscanError]] = [AuscanError]
    for kind in pending:
        if kind.__name__ == error_class:
            return kind.exit_code
        pending += kind.__subclasses__()
    return 1
