"""Errors that a user can cause and mend; each carries the exit code the command line returns.

A message says what is wrong, with which file or value, and what to do about it.

    AuscanError          anything auscan raises on purpose       exit code 1
    +- InputError        the input or an argument is at fault    exit code 2
       +- MediaError     a video, sound or picture
       +- CheckpointError  a checkpoint folder
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
