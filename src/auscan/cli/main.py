"""Define the command line `auscan`: commands, help groups and exit codes.

Each command is a small module that imports heavy packages only when it runs, so `auscan --help` is fast.
Returns: exit code 0 (success), 1 (failure), 2 (input error), 130 (interrupted).
"""

from collections.abc import Callable
from typing import Annotated, Final

import typer

from auscan.cli.agree import agree
from auscan.cli.compare import compare
from auscan.cli.dataset import merge, query
from auscan.cli.demo import demo
from auscan.cli.detect import detect
from auscan.cli.doctor import doctor
from auscan.cli.evaluate import evaluate
from auscan.cli.explain import explain
from auscan.cli.export import export, pack
from auscan.cli.export_results import export_results
from auscan.cli.extract import extract
from auscan.cli.finetune import finetune
from auscan.cli.live import live
from auscan.cli.prepare import prepare
from auscan.cli.score import score
from auscan.cli.studio import studio
from auscan.cli.submit import check_submission, submit
from auscan.cli.synth import synth
from auscan.cli.train import crossval, ensemble, train
from auscan.core.environment import TRAIN_INSTALL_COMMAND, TRAIN_MODULES, VERSION
from auscan.core.errors import AuscanError, InputError

app = typer.Typer(
    name="auscan",
    help="Detect facial action units in every frame and every face of a video.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},  # subcommands inherit it
    pretty_exceptions_enable=False,
)
COMMAND_GROUPS: Final[dict[str, list[Callable[..., None]]]] = {
    "Use": [detect, live, studio, demo, doctor],
    "Results": [explain, export_results, agree],
    "Train and evaluate": [
        *(finetune, prepare, extract, synth, train, crossval, ensemble),
        *(score, evaluate, compare, submit, check_submission, pack, export),
    ],
    "Collections": [merge, query],
}
"""Commands by the heading of their help panel, in the order of `auscan --help`."""
for _group, _commands in COMMAND_GROUPS.items():
    for _command in _commands:
        app.command(rich_help_panel=_group)(_command)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"auscan {VERSION}")
        raise typer.Exit


_Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
]


@app.callback()
def _global_options(version: _Version = False) -> None:
    pass


def main() -> None:
    """Run the command line; print an AuscanError or a missing package as one line and exit with its code."""
    try:
        app()
    except AuscanError as error:
        typer.echo(f"auscan: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in TRAIN_MODULES:
            raise
        typer.echo(
            f"auscan: This command needs {missing}, which is not installed. Run: {TRAIN_INSTALL_COMMAND}",
            err=True,
        )
        raise SystemExit(InputError.exit_code) from error
