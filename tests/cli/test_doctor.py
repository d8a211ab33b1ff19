"""Test `auscan doctor`: findings as text and JSON, and the exit code."""

import json

import pytest
from typer.testing import CliRunner

from auscan.cli.main import app
from auscan.pipeline import doctor
from auscan.pipeline.doctor import Finding

WELL = Finding(area="package", name="numpy", state="ok", found="2.0", wanted=">=1.26")
ABSENT = Finding(
    area="package of train", name="torch", state="absent", found="", advice="pip install 'auscan[train]'"
)
LACKING = Finding(
    area="extra",
    name="train",
    state="absent",
    found="lacking for training: torch",
    advice="pip install 'auscan[train]'",
)
BROKEN = Finding(area="model", name="nano", state="broken", found="", advice="Copy the folder again.")


@pytest.mark.parametrize(("findings", "code"), [([WELL, ABSENT, LACKING], 0), ([WELL, BROKEN], 1)])
def test_the_exit_code_tells_whether_a_required_part_is_broken(
    monkeypatch: pytest.MonkeyPatch, findings: list[Finding], code: int
) -> None:
    monkeypatch.setattr(doctor, "run_checks", lambda: findings)
    json_result = CliRunner().invoke(app, ["doctor"])
    assert json_result.exit_code == code
    assert ("is broken; see above" in json_result.stdout) is bool(code)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == code
    content = json.loads(result.stdout)
    assert content["works"] is not bool(code)
    assert [each["name"] for each in content["findings"]] == [each.name for each in findings]


def test_a_missing_package_of_an_extra_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "run_checks", lambda: [WELL, ABSENT, LACKING, BROKEN])
    lines = CliRunner().invoke(app, ["doctor"]).stdout.splitlines()
    assert sum("torch" in line for line in lines) == 1
    assert any("lacking for training: torch -> pip install 'auscan[train]'" in line for line in lines)
    assert any(line.startswith("broken") and line.endswith("Copy the folder again.") for line in lines)
