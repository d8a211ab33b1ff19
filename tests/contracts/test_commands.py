"""Every command in the documents parses.

A command in a block is parsed by the program it calls: auscan's command line, the argparse of a script, the
extras of pyproject.toml, the routes of the Studio. No command is run; test_commands_run.py runs auscan's.
A command within a sentence may leave out arguments: only its name and its options are checked.
"""

import argparse
import ast
import re
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from documents import CODES, ROOT, SAID, Code, calls, command_lines
from typer.main import get_command

from auscan.cli.main import app

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
HARMLESS = {".", "head", "less", "mkdocs", "mypy", "ruff"}
"""Programs whose arguments are not checked."""
NEEDS = {"../shared": "# needs data that are not included", "cuda": "# needs a GPU"}
"""Comment at the end of a command in a block, by the text that requires it."""
LINES = [(code, line) for code in CODES for line in command_lines(code)]


def lines(in_sentence: bool) -> list[tuple[str, str]]:
    """(document, command line), each once."""
    chosen = [(code.document, line) for code, line in LINES if code.in_sentence == in_sentence]
    return list(dict.fromkeys(chosen))


def errors_of(lines: list[tuple[str, str]], check: Callable[[str], None]) -> str:
    """Return the lines that do not pass a check, with their document and the error."""
    found = []
    for document, line in lines:
        try:
            check(line)
        except (Exception, SystemExit) as error:
            found.append(f"{document}: {line}\n    {type(error).__name__}: {error}")
    return "\n".join(found)


@cache
def method_calls(script: str, method: str) -> list[ast.Call]:
    """The calls of a method in a script, which is read and not run: some need a GPU, or other packages."""
    tree = ast.parse((ROOT / script).read_text(encoding="utf-8"))
    every = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in every if getattr(call.func, "attr", None) == method]


def arguments(script: str) -> list[ast.Call]:
    return method_calls(script, "add_argument")


def subcommands(script: str) -> dict[str, str]:
    """{variable: subcommand} of the parsers that `add_parser` makes in a script."""
    calls = {ast.unparse(call): ast.literal_eval(call.args[0]) for call in method_calls(script, "add_parser")}
    found = {}
    for node in ast.walk(ast.parse((ROOT / script).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign):
            sides = (node.targets[0], node.value)
            for target, value in zip(*(getattr(side, "elts", [side]) for side in sides), strict=False):
                if ast.unparse(value) in calls:
                    found[ast.unparse(target)] = calls[ast.unparse(value)]
    return found


def script_parser(script: str) -> argparse.ArgumentParser:
    """The parser of a script as far as its source spells it out: names, actions, numbers, choices."""
    main = argparse.ArgumentParser(script, allow_abbrev=False)
    named = subcommands(script)
    made = main.add_subparsers(required=True) if named else None
    parsers = {variable: made.add_parser(name) for variable, name in named.items() if made is not None}
    for call in arguments(script):
        spelled = {}
        for keyword in call.keywords:
            if keyword.arg in ("action", "nargs", "required", "choices"):
                try:
                    spelled[keyword.arg] = ast.literal_eval(keyword.value)
                except ValueError:
                    continue  # a variable, which is not evaluated
        parser = parsers.get(ast.unparse(call.func).removesuffix(".add_argument"), main)
        parser.add_argument(*map(ast.literal_eval, call.args), **spelled)
    return main


def check_auscan(words: list[str]) -> None:
    name, *rest = words
    COMMANDS[name].make_context(name, rest)  # an unknown option or a missing argument is an error


def check_accelerate(words: list[str]) -> None:
    from accelerate.commands.launch import launch_command_parser

    assert words[0] == "launch"
    launched = launch_command_parser().parse_args(words[1:])
    assert launched.training_script == SAID
    check_auscan(launched.training_script_args)


def check_python(words: list[str]) -> None:
    if words[0] not in ("-c", "-m"):
        script_parser(words[0]).parse_args(words[1:])


def check_pip(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = re.findall(r"\[(\w+)\]", " ".join(words))
    assert words[0] == "install"
    assert set(extras) <= set(project["optional-dependencies"])


def check_pytest(words: list[str]) -> None:
    """Paths exist, the words of `-m` are registered markers, and `-n` is a number or auto."""
    if "-n" in words:
        place = words.index("-n")
        assert words[place + 1].isdigit() or words[place + 1] == "auto"
        words = words[:place] + words[place + 2 :]
    if "-m" in words:
        place = words.index("-m")
        settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]
        registered = {line.partition(":")[0] for line in settings["ini_options"]["markers"]}
        used = set(re.findall(r"\w+", words[place + 1])) - {"and", "or", "not"}
        assert used <= registered, used
        words = words[:place] + words[place + 2 :]
    check_paths(words)


def check_paths(words: list[str]) -> None:
    assert all(word.startswith("-") or (ROOT / word).exists() for word in words)


@cache
def studio_routes() -> list[str]:
    from auscan.server.app import create_app
    from auscan.server.settings import StudioSettings

    with TemporaryDirectory() as folder:
        guard: Any = create_app(StudioSettings(folder=Path(folder), worker=("none",)))
    return [re.sub(r"\{\w+\}", "[^/]+", path) for path in guard._app.openapi()["paths"]]


def check_curl(words: list[str]) -> None:
    (address,) = (word for word in words if word.startswith("http://127.0.0.1:8765/"))
    path = address.removeprefix("http://127.0.0.1:8765").partition("?")[0]
    assert any(re.fullmatch(route, path) for route in studio_routes())


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "accelerate": check_accelerate,
    "auscan": check_auscan,
    "curl": check_curl,
    "pip": check_pip,
    "pytest": check_pytest,
    "python": check_python,
    "python3": check_python,
}


def check(line: str) -> None:
    """Raise the error that the called program would give."""
    for program, *words in calls(line):
        if program in CHECKS:
            CHECKS[program](words)
        elif program not in HARMLESS:
            check_paths([program])


def check_names(line: str) -> None:
    """Check the command's name and its options; arguments may be missing."""
    for program, *words in calls(line):
        options = {word for word in words if word.startswith("--") and word != "--help"}
        if program == "auscan" and words[0].islower() and not words[0].startswith("-"):
            assert options <= {name for option in COMMANDS[words[0]].params for name in option.opts}
        elif program == "python" and words[0].endswith(".py"):
            assert options <= {ast.literal_eval(name) for call in arguments(words[0]) for name in call.args}
        elif program in ("curl", "pip", "pytest"):
            check(line)


def test_every_command_in_a_block_parses(capsys: pytest.CaptureFixture[str]) -> None:
    errors = errors_of(lines(in_sentence=False), check)
    assert not errors, errors + "\n" + capsys.readouterr().err  # where argparse writes the reason


def test_a_command_in_a_block_says_that_it_needs_data_or_a_gpu() -> None:
    missing = [
        f"{document}: {line}"
        for document, line in lines(in_sentence=False)
        for sign, mark in NEEDS.items()
        if sign in line and not line.endswith(mark)
    ]
    assert not missing, "\n".join(missing)


def test_every_command_in_a_sentence_has_only_existing_options() -> None:
    errors = errors_of(lines(in_sentence=True), check_names)
    assert not errors, errors


def test_a_wrong_command_is_found() -> None:
    wrong = [
        "auscan detekt talk.mp4",
        "auscan detect talk.mp4 --out results --overlays",
        "auscan detect --out results",
        "accelerate launch --processes 2 $(which auscan) train run.yaml",
        "accelerate launch --num_processes 2 $(which auscan) teach run.yaml",
        "python benchmarks/gone.py",
        "python benchmarks/accuracy/accuracy.py --only faces",
        "python benchmarks/accuracy/accuracy.py --data data --everything",
        "pip install '.[everything]'",
        "pytest tests/gone",
        "pytest -m 'not gone'",
        "curl http://127.0.0.1:8765/api/gone",
        "examples/gone.sh",
    ]
    assert [line for line in wrong if not errors_of([("page", line)], check)] == []


def test_there_are_commands_to_check() -> None:
    """An error in the reading of documents would otherwise leave nothing to check."""
    documents = {code.document for code, _ in LINES}
    assert {"README.md", "docs/quickstart.md", "docs/training.md", "docs/benchmarks/detect.md"} <= documents
    assert len(LINES) > 100


def test_a_backslash_a_pipe_and_a_comment_are_read_as_a_shell_does() -> None:
    text = "auscan live \\\n  talk.mp4 | head 2>/dev/null  # a remark\n\nless a\n"
    first, second = command_lines(Code("a.md", "console", text, in_sentence=False))
    assert calls(first) == [["auscan", "live", "talk.mp4"], ["head"]]
    assert second == "less a"
