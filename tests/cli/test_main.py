"""Test the command line itself: fast help, help groups, -h, shell completion, version."""

import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import auscan
from auscan.cli.main import COMMAND_GROUPS, app, main


def test_every_command_is_in_a_help_group_in_the_given_order() -> None:
    groups = CliRunner().invoke(app, ["--help"], terminal_width=100).output.split("╭─ ")[2:]
    assert [group.partition(" ─")[0] for group in groups] == list(COMMAND_GROUPS)
    listed = [re.findall(r"^│ ([a-z-]+) ", group, re.MULTILINE) for group in groups]
    assert listed == [
        [command.__name__.replace("_", "-") for command in commands] for commands in COMMAND_GROUPS.values()
    ]
    assert sum(map(len, listed)) == len(app.registered_commands)


@pytest.mark.parametrize("words", [[], ["detect"], ["check-submission"]])
def test_h_is_help(words: list[str]) -> None:
    short, long = (CliRunner().invoke(app, [*words, flag]) for flag in ("-h", "--help"))
    assert short.exit_code == long.exit_code == 0
    assert short.output == long.output


def test_shell_completion_is_printed_and_completes_commands_without_heavy_packages() -> None:
    code = (
        "import sys; from auscan.cli.main import main; sys.argv = ['auscan']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'pandas', 'numpy', 'av'} & set(sys.modules)"
    )

    def run(**variables: str) -> str:
        environment = {**os.environ, **variables}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert "_AUSCAN_COMPLETE=complete_bash" in run(_AUSCAN_COMPLETE="source_bash")
    completed = run(_AUSCAN_COMPLETE="complete_bash", COMP_WORDS="auscan exp", COMP_CWORD="1")
    assert completed.split() == ["explain", "export-results", "export"]


def test_help_needs_none_of_the_heavy_packages() -> None:
    """Importing torch alone takes seconds, which would delay a help text."""
    code = (
        "import sys; from auscan.cli.main import main\n"
        "sys.argv = ['auscan', 'detect', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'pandas', 'plotly', 'cv2', 'av', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--as-video" in done.stdout


def test_version_names_the_commit_of_the_build(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["auscan", "--version"])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    assert capsys.readouterr().out == f"auscan {auscan.__version__}\n"
