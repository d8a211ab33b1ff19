"""The notebook and the Python code in documents run.

See also: test_commands_run.py (commands).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import CODES, Code

from auscan.pipeline import demo

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
    assert "patches selected: " in report


PYTHON = [code for code in CODES if code.language == "python"]
ABOUT_THE_DEMO = [code for code in PYTHON if "auscan-demo/astronaut.mp4" in code.text]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, with two seconds of the clip that `auscan demo` makes."""
    folder = tmp_path_factory.mktemp("newcomer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "FRAMES", 50)
        patch.chdir(folder)
        Path("auscan-demo").mkdir()
        demo.make_demo_clip("auscan-demo/astronaut.mp4")
        yield folder


def test_python_in_a_document_is_python() -> None:
    for code in PYTHON:
        compile(code.text, code.document, "exec")  # a SyntaxError names the document


@pytest.mark.parametrize("code", ABOUT_THE_DEMO, ids=lambda code: code.document)
def test_python_about_the_demo_runs(code: Code, folder: Path) -> None:
    exec(compile(code.text, code.document, "exec"), {})
    assert {"README.md", "docs/quickstart.md"} <= {code.document for code in ABOUT_THE_DEMO}
