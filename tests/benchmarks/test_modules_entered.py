"""Test that the profile hook counts called functions, and not code that only runs at import."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from auscan.pipeline.demo import make_demo_clip
from benchmarks.speed.modules_entered import CallRecorder, entered_files

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "speed" / "modules_entered.py"
MODULE = """
def at_import():
    return 1

VALUE = at_import()

class Thing:
    field = VALUE

def outer():
    def inner():
        return 2

    return inner()
"""


def test_functions_called_after_import_are_counted_and_no_others(tmp_path: Path) -> None:
    file = tmp_path / "sample.py"
    file.write_text(MODULE)
    spec = importlib.util.spec_from_file_location("sample", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    recorder = CallRecorder(tmp_path)
    before = sys.getprofile()
    sys.setprofile(recorder)
    try:
        spec.loader.exec_module(module)
        module.outer()
    finally:
        sys.setprofile(before)
    (row,) = entered_files(tmp_path, recorder.codes)
    assert (row.file, row.functions, row.function_lines) == ("sample.py", 2, 5)


def test_the_files_of_the_detect_pipeline_are_counted_for_a_clip(tmp_path: Path) -> None:
    clip = tmp_path / "demo.mp4"
    make_demo_clip(clip)
    command = [sys.executable, str(SCRIPT), str(clip), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    report = json.loads(done.stdout)
    files = {row["file"] for row in report["files"]}
    assert {"cli/detect.py", "pipeline/detect.py", "faces/detector.py"} <= files
    assert report["total"]["file"] == len(files)
