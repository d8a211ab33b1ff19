"""`auscan studio` says what it needs before it starts, and does not open itself to strangers unasked."""

import importlib.util
import socket
from pathlib import Path
from typing import Any

import pytest

from auscan.cli.main import main


def studio(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["auscan", "studio", "--no-open", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


@pytest.mark.parametrize("module", ["fastapi", "uvicorn", "websockets"])
def test_without_the_extra_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, module: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("auscan.cli.studio.find_spec", lambda name: None if name == module else found(name))
    assert studio(monkeypatch, "--out", str(tmp_path / "out")) == 2
    assert "pip install 'auscan[studio]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_port_or_a_folder_that_cannot_be_used_is_reported_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("fastapi", reason="There is no FastAPI (pip install 'auscan[studio]').")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert studio(monkeypatch, "--out", str(tmp_path), "--port", port) == 2
    assert f"127.0.0.1:{port} cannot be listened on" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert studio(monkeypatch, "--out", str(tmp_path / "file")) == 2
    assert "Results cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "has_token"), [((), False), (("--host", "0.0.0.0"), True), (("--token", "abc"), True)]
)
def test_an_address_that_others_reach_has_a_token_in_it(
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
