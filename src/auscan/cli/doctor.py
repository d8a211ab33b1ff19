"""`auscan doctor`: whether auscan can work here, and what is missing for what.

In: nothing.  Out: findings on stdout; exit code 1 where the default path is broken.
Not here: looking (pipeline/doctor.py).
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from auscan.pipeline.doctor import Finding


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Say whether auscan can work here, and what is missing for what; asks no network."""
    from auscan.pipeline.doctor import describe_python, run_checks

    findings = run_checks()
    works = all(each.state != "broken" for each in findings)
    if as_json:
        report = {
            "works": works,
            "python": describe_python(),
            "findings": [asdict(each) for each in findings],
        }
        typer.echo(json.dumps(report, indent=2))
    else:
        typer.echo(describe_python())
        # What an extra lacks stands in the extra's own line.
        shown = [each for each in findings if each.found or not each.area.startswith("package of")]
        for each in shown:
            typer.echo(_line(each))
        typer.echo("Everything that auscan needs is there." if works else "Something is broken; see above.")
    raise typer.Exit(0 if works else 1)


def _line(finding: "Finding") -> str:
    wanted = f"(wanted {finding.wanted})" if finding.wanted else ""
    parts = " ".join(part for part in (finding.found, wanted) if part)
    advice = f"{' -> ' if parts else ''}{finding.advice}" if finding.advice else ""
    return f"{finding.state:7} {finding.area:18} {finding.name:24} {parts}{advice}"
