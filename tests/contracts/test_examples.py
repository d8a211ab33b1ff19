"""Every auscan command in the examples parses.

The examples take minutes and are not run here: every `auscan ...` in them is parsed with its options,
arguments and types. The end-to-end example is run by hand before a release. For commands in documents see
test_commands.py and test_commands_run.py.
"""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from auscan.cli.main import app
from auscan.training.config import check_train_config, read_train_config

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SCRIPT = EXAMPLES / "affwild2_end_to_end.sh"
SETTINGS = EXAMPLES / "affwild2_small.yaml"
CHAIN = ["synth", "prepare", "extract", "train", "crossval", "evaluate", "ensemble", "submit"]
CHAIN += ["check-submission"]


def commands(text: str) -> list[list[str]]:
    """The words of every line that calls auscan, without redirections; backslashes join lines."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    calls = [shlex.split(line, comments=True) for line in lines if line.startswith("auscan ")]
    return [[word for word in words if not re.match(r"\d?[<>]", word)] for words in calls]


def real_data_section() -> str:
    """What docs/training.md says about the real archives."""
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    return text.partition("## From archives to submission")[2].partition("\n## ")[0]


SOURCES = {SCRIPT.name: SCRIPT.read_text(encoding="utf-8"), "docs/training.md": real_data_section()}
CALLS = [(source, words) for source, text in SOURCES.items() for words in commands(text)]


def test_every_call_in_an_example_parses() -> None:
    commands_of_auscan = get_command(app).commands  # type: ignore[attr-defined]
    errors = []
    for source, words in CALLS:
        try:
            commands_of_auscan[words[1]].make_context(words[1], words[2:])
        except Exception as error:
            errors.append(f"{source}: {shlex.join(words)}\n    {error}")
    assert len(CALLS) > 10
    assert not errors, "\n".join(errors)


def test_every_command_of_the_chain_has_help() -> None:
    assert [name for name in CHAIN if CliRunner().invoke(app, [name, "--help"]).exit_code != 0] == []


def test_script_and_documentation_have_the_whole_chain() -> None:
    used = {source: {words[1] for call_source, words in CALLS if call_source == source} for source in SOURCES}
    assert used[SCRIPT.name] == set(CHAIN)
    assert used["docs/training.md"] >= set(CHAIN) - {"synth"}


def test_an_unknown_option_would_be_found() -> None:
    command = get_command(app).commands["submit"]  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="No such option"):
        command.make_context("submit", ["--templates", "t.txt"])


def test_the_settings_of_the_example_are_settings() -> None:
    """And hold the two lines that the script changes with sed."""
    config = read_train_config(SETTINGS)
    assert config.data.score == ("test",)
    text = SETTINGS.read_text(encoding="utf-8")
    assert len(re.findall(r"^out: .*", text, re.MULTILINE)) == 1
    assert text.count("shuffle_labels: false") == 1


def test_the_settings_in_the_documentation_are_settings() -> None:
    import yaml

    (block,) = re.findall(r"```yaml\n(.*?)```", real_data_section(), re.DOTALL)
    check_train_config(yaml.safe_load(block), "docs/training.md")


def test_the_script_stops_at_the_first_error_and_can_be_started() -> None:
    assert "\nset -euo pipefail\n" in SOURCES[SCRIPT.name]
    assert SCRIPT.stat().st_mode & 0o100
