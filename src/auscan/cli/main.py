"""The door: `auscan`, its commands and its exit codes.

Why so little here: each command is one small file, and nothing heavy is imported until a command runs, so
that `auscan --help` answers at once.
In: the words of the command line.  Out: exit code 0 done, 1 failed, 2 the input is at fault.
"""

from importlib.metadata import version
from typing import Annotated

import typer

from auscan.cli.agree import agree
from auscan.cli.dataset import merge, query
from auscan.cli.demo import demo
from auscan.cli.detect import detect
from auscan.cli.doctor import doctor
from auscan.cli.evaluate import evaluate
from auscan.cli.explain import explain
from auscan.cli.export import export, pack
from auscan.cli.export_results import export_results
from auscan.cli.extract import extract
from auscan.cli.live import live
from auscan.cli.prepare import prepare
from auscan.cli.studio import studio
from auscan.cli.submit import check_submission, submit
from auscan.cli.synth import synth
from auscan.cli.train import crossval, ensemble, train
from auscan.core.environment import TRAIN_INSTALL_COMMAND, TRAIN_MODULES
from auscan.core.errors import AuscanError, InputError

app = typer.Typer(
    name="auscan",
    help="Find facial action units in every frame and every face of a video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(detect)
app.command()(demo)
app.command()(live)
app.command()(studio)
app.command()(explain)
app.command()(export_results)
app.command()(agree)
app.command()(merge)
app.command()(query)
app.command()(evaluate)
app.command()(ensemble)
app.command()(submit)
app.command()(check_submission)
app.command()(prepare)
app.command()(extract)
app.command()(synth)
app.command()(train)
app.command()(crossval)
app.command()(pack)
app.command()(export)
app.command()(doctor)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"auscan {version('auscan')}")
        raise typer.Exit


_Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version and leave.")
]


@app.callback()
def _global_options(version: _Version = False) -> None:
    pass


def main() -> None:
    """Run the command line; an error of auscan, or an extra that is not there, becomes one line."""
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
