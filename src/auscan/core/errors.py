"""Errors that a user can cause and mend; each carries the exit code the command line returns.

A message says what is wrong, with which file or value, and what to do about it.

    AuscanError          anything auscan raises on purpose       exit code 1
    +- InputError        the input or an argument is at fault    exit code 2
       +- MediaError     a video, sound or picture
       +- CheckpointError  a checkpoint folder
       +- OutputError   results cannot be written
       +- TimeLimitError    an input takes longer than it may
       +- MemoryLimitError  an input takes more memory than it may
    +- CrashError       a process that did the work ended on its own    exit code 1
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


class OutputError(InputError):
    """Results cannot be written: not the input's fault, and every other input would meet it, too."""


class TimeLimitError(InputError):
    """An input takes longer than it may."""


class MemoryLimitError(InputError):
    """An input takes more memory than it may."""


class CrashError(AuscanError):
    """A process that did the work ended on its own, as when a decoder crashes."""


STOPPED = 130
"""Exit code of what was stopped by Ctrl+C."""


def exit_code_of(error_class: str) -> int:
    """The exit code of a class by its name; 1 for those that are not auscan's."""
    waiting: list[type[AuscanError]] = [AuscanError]
    for kind in waiting:
        if kind.__name__ == error_class:
            return kind.exit_code
        waiting += kind.__subclasses__()
    return 1
