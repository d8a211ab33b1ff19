"""Run `auscan doctor`: check the installation.

Returns: findings on stdout; exit code 1 if a part that `auscan detect` needs by default is broken.
See also: pipeline/doctor.py (the checks).
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from auscan.pipeline.doctor import Finding


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check the installation and list missing optional parts; uses no network."""
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
        # The line of an extra lists its missing packages, so these need no lines of their own.
        shown = [each for each in findings if each.found or not each.area.startswith("package of")]
        for each in shown:
            typer.echo(_line(each))
        typer.echo(
            "All required parts work." if works else "At least one required part is broken; see above."
        )
    raise typer.Exit(0 if works else 1)


def _line(finding: "Finding") -> str:
    wanted = f"(wanted {finding.wanted})" if finding.wanted else ""
    parts = " ".join(part for part in (finding.found, wanted) if part)
    advice = f"{' -> ' if parts else ''}{finding.advice}" if finding.advice else ""
    return f"{finding.state:7} {finding.area:18} {finding.name:24} {parts}{advice}"
