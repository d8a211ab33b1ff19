"""Every `auscan ...` in a block of a document runs, from top to bottom.

The commands of a document run in a folder of their own with the files that it names: talk.mp4, anna.eaf,
ROOT, run.yaml. The files are small: clips of a second, a data set of six videos, a network of few weights.
Lines that are marked as needing data or a GPU, and those in ELSEWHERE, are left out.
See also: test_commands.py (commands parse), test_quickstart.py (Python in documents).
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cv2
import pandas as pd
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from documents import CODES, calls, command_lines
from typer.main import get_command
from typer.testing import CliRunner

from auscan.cli.main import app
from auscan.pipeline import demo

MARKS: Final = ("# needs data that are not included", "# needs a GPU")
ELSEWHERE: Final = {
    "--ray": "needs seconds to start and a cluster: tests/batch/test_ray.py",
    "detect broken/*": "fails for broken files, as it should: tests/faults/test_faults.py",
    "export path/": "takes half a minute: tests/cli/test_export.py, tests/inference/test_export.py",
    "finetune --labels": "trains for minutes: tests/cli/test_finetune.py",
    "--model smile-lab/": "needs the Hub: tests/inference/test_hub.py",
    "live 0": "needs a camera",
    "live rtsp://": "needs a stream",
    "studio": "runs until it is stopped: tests/browser/test_studio.py",
}
"""Text of the calls that are not run here, and the reason."""
SMALLER: Final = {
    "synth": ["--videos", "1", "--seconds", "2", "--rate", "10"],
    "crossval": ["--folds", "2"],
}
"""Options appended to a command of the document to shorten it; the last value of an option counts."""
LEAVES: Final = {
    "README.md": ["auscan-demo/overlay.mp4", "results/talk/talk_auscan.eaf", "results/talk/report.html"],
    "docs/quickstart.md": [
        *("auscan-demo/report.html", "results/talk/report.html", "results/talk/overlay.mp4", "why.png"),
        *(f"results/talk/talk_{name}" for name in ("auscan.eaf", "auscan.TextGrid", "wide.csv")),
    ],
    "docs/training.md": ["mine/model.safetensors", "evaluation/evaluation.html", "predictions.txt"],
}
"""Files that exist at the end of a document."""

NETWORK: Final = {
    "size": "nano",
    "alignment": {"width": 16, "au_width": 4, "heads": 2, "active_patches": 3},
    "fusion": {"heads": 2},
    "temporal": {"blocks": 1, "head_width": 8, "state_width": 4},
}
SETTINGS: Final = {
    "run.yaml": {"out": "runs/first"},
    "folds.yaml": {"out": "runs/folds"},
    "crops.yaml": {"out": "runs/crops", "encoder": {"start": "nano", "learn": "all"}},
    "second.yaml": {"out": "runs/second", "cache": "CACHE2"},
    "whole.yaml": {"out": "RUN", "score": ["train", "test"]},
}
"""Configuration files: their differences from the common configuration."""


def calls_to_run() -> dict[str, list[list[str]]]:
    """Return the words after `auscan`, by document."""
    found: dict[str, list[list[str]]] = {}
    for code in CODES:
        lines = [] if code.in_sentence else command_lines(code)
        for program, *words in (call for line in lines if not line.endswith(MARKS) for call in calls(line)):
            if program == "auscan" and not any(sign in " ".join(words) for sign in ELSEWHERE):
                found.setdefault(code.document, []).append(words)
    return found


CALLS: Final = calls_to_run()


def run(words: list[str]) -> None:
    """Call auscan with file patterns expanded, as a shell does."""
    expanded = [name for word in words for name in matching(word) or [word]]
    AcceleratorState._reset_state(reset_partial_state=True)
    outcome = CliRunner().invoke(app, [*expanded, *SMALLER.get(words[0], [])])
    assert outcome.exit_code == 0, (words, outcome.output, outcome.exception)
    assert "Traceback" not in outcome.output, words


def matching(word: str) -> list[str]:
    return sorted(map(str, Path().glob(word))) if set("*[") & set(word) else []


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """Shorten the demo's clip to a second and use one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "FRAMES", 25)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """A folder with the files that the documents name but do not make."""
    folder = tmp_path_factory.mktemp("named")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copytree(tiny_checkpoint, "path/to/checkpoint")
        make_media()
        make_coders_files()
        make_data_set()
    return folder


def make_media() -> None:
    demo.make_demo_clip("talk.mp4")
    for copy in ("recordings/first.mp4", "recordings/day2/second.mp4", "more/third.mov"):
        Path(copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("talk.mp4", copy)
    portrait = demo.read_portrait()
    cv2.imwrite("portrait.jpg", portrait[..., ::-1])
    Path("numbered_pictures").mkdir()
    for number in range(5):
        cv2.imwrite(f"numbered_pictures/{number:04}.jpg", demo.demo_frame(portrait, number)[..., ::-1])


def make_coders_files() -> None:
    run(["detect", "talk.mp4", "--out", "coded"])
    run(["export-results", "coded/talk", "--to", "elan", "--to", "openface"])
    Path("openface").mkdir()
    shutil.copy("coded/talk/talk_openface.csv", "openface/talk.csv")
    for coder in ("anna", "ben"):
        shutil.copy("coded/talk/talk_auscan.eaf", f"{coder}.eaf")
        Path("CODED").mkdir(exist_ok=True)
        shutil.copy(f"{coder}.eaf", f"CODED/talk_{coder}.eaf")
    shutil.copy("talk.mp4", "CODED")
    Path("names.yaml").write_text("Smile: AU12\n")


def make_data_set() -> None:
    """Make a data set, its index and features under both names in use, configurations, scores of a run."""
    words = ["synth", "ROOT", "--videos", "6", "--seconds", "3", "--rate", "10"]
    assert CliRunner().invoke(app, words).exit_code == 0
    run(["prepare", "ROOT", "--out", "INDEX"])
    run(["extract", "INDEX", "--model", "nano", "--out", "CACHE"])
    for one, other in (("ROOT", "ABAW"), ("INDEX", "index"), ("CACHE", "cache")):
        shutil.copytree(one, other)
    (template,) = Path("ROOT").rglob("*6th_ABAW*.txt")
    shutil.copy(template, "TEMPLATE.txt")
    for name, content in SETTINGS.items():
        Path(name).write_text(yaml.safe_dump(settings(**content)), encoding="utf-8")
    run(["train", "whole.yaml"])
    scores = {split: pd.read_parquet(f"RUN/scores/{split}.parquet") for split in ("train", "val", "test")}
    pd.concat([scores["train"], scores["val"]]).to_parquet("oof.parquet")
    scores["val"].to_parquet("val.parquet")
    for fold in range(3):
        scores["test"].to_parquet(f"fold{fold}.parquet")


def settings(
    out: str, cache: str = "CACHE", score: list[str] | None = None, encoder: dict[str, str] | None = None
) -> dict[str, Any]:
    data = {"index": "INDEX", "cache": cache, "score": score or ["test"], "length": 8, "stride": 8}
    network = {**NETWORK, "encoder": encoder} if encoder else NETWORK
    return {"out": out, "data": data, "model": network, "loop": {"epochs": 1, "device": "cpu"}}


@pytest.mark.parametrize("document", CALLS)
def test_the_commands_of_a_document_run_from_top_to_bottom(
    document: str,
    named: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(shutil.copytree(named, tmp_path / "here"))
    for words in CALLS[document]:
        run(words)
    assert "Traceback" not in capfd.readouterr().err  # also of child processes
    assert all(Path(name).stat().st_size > 100 for name in LEAVES.get(document, []))


def test_a_command_that_fails_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="gone"):
        run(["detect", "gone.mp4", "--out", "results"])


def test_every_command_but_those_left_to_other_tests_is_run_somewhere() -> None:
    run_here = {words[0] for calls_of_one in CALLS.values() for words in calls_of_one}
    elsewhere = {sign.split()[0] for sign in ELSEWHERE if not sign.startswith("-")}
    assert run_here | elsewhere == set(get_command(app).commands)  # type: ignore[attr-defined]
    assert set(LEAVES) <= set(CALLS)


def test_every_call_that_is_left_to_other_tests_stands_in_a_document() -> None:
    lines = [line for code in CODES if not code.in_sentence for line in command_lines(code)]
    typed = [line for line in lines if line.startswith("auscan ")]
    assert [sign for sign in ELSEWHERE if not any(sign in line for line in typed)] == []
