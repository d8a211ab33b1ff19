"""Test `auscan demo`: files in one folder and a table on stdout."""

from pathlib import Path

import pytest

from auscan.cli.main import main


def test_the_demo_leaves_clip_table_overlay_and_report(
    tmp_path: Path, fake_detect: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("auscan.pipeline.demo.FRAMES", 8)
    monkeypatch.setattr("sys.argv", ["auscan", "demo"])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    names = sorted(path.name for path in (tmp_path / "auscan-demo").iterdir())
    assert names == [
        *("astronaut.mp4", "aus.csv", "aus.parquet", "events.csv"),
        *("overlay.mp4", "report.html", "summary.json"),
    ]
    stdout = capsys.readouterr().out
    assert "A face in 7 of 8 frames." in stdout
    rows = {
        name: line
        for line in stdout.splitlines()
        for name in ("AU04", "AU12", "AU23")
        if f"│ {name} " in line
    }
    assert "lip corner puller" in rows["AU12"]
    assert "100%" in rows["AU12"]
    assert "0.80" in rows["AU12"]
    assert "0%" in rows["AU04"]
    assert "unknown" in rows["AU23"]
    assert "auscan-demo/report.html" in stdout
