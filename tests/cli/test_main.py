"""The door opens at once and names its version."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from auscan.cli.main import main


def test_help_needs_none_of_the_heavy_packages() -> None:
    """torch alone takes seconds to import, which nobody waits for to read a help text."""
    code = (
        "import sys; from auscan.cli.main import main\n"
        "sys.argv = ['auscan', 'detect', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'pandas', 'plotly', 'cv2', 'av', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--as-video" in done.stdout


def test_version_is_the_installed_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["auscan", "--version"])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    assert capsys.readouterr().out == f"auscan {version('auscan')}\n"
