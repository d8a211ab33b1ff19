"""The command line returns the exit code of the error class, so the class tree is part of the contract."""

import pytest

from auscan.core.errors import AuscanError, CheckpointError, InputError, MediaError


@pytest.mark.parametrize(
    ("kind", "parent", "exit_code"),
    [
        (AuscanError, Exception, 1),
        (InputError, AuscanError, 2),
        (MediaError, InputError, 2),
        (CheckpointError, InputError, 2),
    ],
)
def test_each_error_class_has_its_parent_and_exit_code(
    kind: type[AuscanError], parent: type[Exception], exit_code: int
) -> None:
    assert kind.exit_code == exit_code
    assert kind.__bases__ == (parent,)
    assert str(kind("What is wrong.")) == "What is wrong."
