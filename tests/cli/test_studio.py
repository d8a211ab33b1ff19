"""Test `auscan studio`: required packages, address errors, and a token if other machines can connect."""

import importlib.util
import socket
from pathlib import Path
from typing import Any

import pytest

from auscan.cli.main import main


def studio(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command and return its exit code."""
    monkeypatch.setattr("sys.argv", ["auscan", "studio", "--no-open", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


@pytest.mark.parametrize("module", ["fastapi", "uvicorn", "websockets"])
def test_without_the_extra_one_line_has_the_command_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, module: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("auscan.cli.studio.find_spec", lambda name: None if name == module else found(name))
    assert studio(monkeypatch, "--out", str(tmp_path / "out")) == 2
    assert "pip install 'auscan[studio]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_used_port_or_an_unwritable_folder_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("fastapi", reason="There is no FastAPI (pip install 'auscan[studio]').")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert studio(monkeypatch, "--out", str(tmp_path), "--port", port) == 2
    assert f"Cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert studio(monkeypatch, "--out", str(tmp_path / "file")) == 2
    assert "Results cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "has_token"), [((), False), (("--host", "0.0.0.0"), True), (("--token", "abc"), True)]
)
def test_an_address_that_other_machines_can_reach_contains_a_token(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    has_token: bool,
) -> None:
    pytest.importorskip("fastapi", reason="There is no FastAPI (pip install 'auscan[studio]').")
    started: list[Any] = []

    class Server:
        def __init__(self, settings: Any) -> None:
            started.append(settings)

        def run(self, sockets: list[socket.socket]) -> None:
            sockets[0].close()

    monkeypatch.setattr("auscan.server.app.make_server", Server)
    monkeypatch.delenv("AUSCAN_TOKEN", raising=False)
    assert studio(monkeypatch, "--out", str(tmp_path / "out"), "--port", "0", *arguments) == 0
    stderr = capsys.readouterr().err
    assert (started[0].token is not None) is has_token
    assert ("?token=" in stderr) is has_token
    assert "--host" not in arguments or len(started[0].token) >= 32


def test_a_model_on_the_hub_is_fixed_to_one_commit_for_camera_and_videos(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("fastapi", reason="There is no FastAPI (pip install 'auscan[studio]').")
    started: list[Any] = []
    monkeypatch.setattr("auscan.cli.studio._serve", lambda settings, open_browser: started.append(settings))
    monkeypatch.setattr("auscan.core.checkpoint_folder.pin_checkpoint", lambda name: f"{name}@commit")
    assert studio(monkeypatch, "--out", str(tmp_path / "out"), "--model", "lab/model") == 0
    assert started[0].model == "lab/model@commit"
    assert started[0].worker[-2:] == ("--model", "lab/model@commit")
