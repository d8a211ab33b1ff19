"""The notebook of the examples runs from top to bottom, shows what it says, and is kept without output."""

import os
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def notebook() -> Any:
    nbformat = pytest.importorskip("nbformat", reason="There is no nbformat (pip install '.[dev]').")
    read = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(read)
    return read


def test_it_is_kept_without_output(notebook: Any) -> None:
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook.cells)
    assert NOTEBOOK.stat().st_size < 10_000


def test_it_runs_and_shows_table_figure_and_events(notebook: Any, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="There is no nbclient (pip install '.[dev]').")
    pytest.importorskip("ipykernel", reason="There is no ipykernel (pip install '.[dev]').")
    room = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=room)
    client.execute(env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")})
    shown = [
        output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output
    ]
    assert "lip corner puller" in shown[0]["text/html"]
    figure = next(data for data in shown if "application/vnd.plotly.v1+json" in data)
    assert len(figure["application/vnd.plotly.v1+json"]["data"]) > 20
    assert "AU12" in shown[-1]["text/html"]
    assert "onset" in shown[-1]["text/html"]
    report = (tmp_path / "astronaut" / "report.html").read_text(encoding="utf-8")
    assert "patches read: " in report
