"""Test `auscan finetune` from files of coders and videos to a checkpoint that detects."""

import json
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

import auscan
from auscan.cli.main import app
from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.training import finetune as module
from auscan.training.config import LoopConfig
from benchmarks.accuracy import finetune as benchmark

FRAMES, RATE = 20, 10


@pytest.fixture
def coded(tmp_path: Path, portrait: NDArray[np.uint8]) -> Path:
    """Videos of four people, and in another folder a coder's table of AU04 and of a smile for each."""
    labels, videos = tmp_path / "coded", tmp_path / "videos"
    labels.mkdir()
    videos.mkdir()
    for person in range(4):
        with av.open(str(videos / f"p{person}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=RATE)
            stream.width, stream.height, stream.pix_fmt = 512, 512, "yuv420p"
            for number in range(FRAMES):
                image = np.clip(portrait * (0.7 + 0.1 * person), 0, 255).astype(np.uint8)
                image = np.ascontiguousarray(np.roll(image, 2 * number, axis=0))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        (labels / f"p{person}.csv").write_text(
            f"onset,offset,code\n0,{0.5 + 0.1 * person},smile\n1,1.5,AU04\n1.2,1.8,AU45\n"
        )
    (tmp_path / "names.yaml").write_text("smile: AU12\n")
    return tmp_path


@pytest.fixture
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "LOOP", LoopConfig(epochs=1, batch=4, rule="element", stop_at="tuned", device="cpu")
    )


def run(coded: Path, *options: str) -> Result:
    folders = ["--labels", str(coded / "coded"), "--videos", str(coded / "videos")]
    return CliRunner().invoke(
        app,
        ["finetune", *folders, "--names", str(coded / "names.yaml"), "--out", str(coded / "mine"), *options],
    )


@pytest.mark.usefixtures("_brief")
def test_labels_and_videos_become_a_checkpoint_that_detects(coded: Path, tiny_checkpoint: Path) -> None:
    outcome = run(coded, "--model", str(tiny_checkpoint))
    assert outcome.exit_code == 0, (outcome.output, outcome.exception)
    lines = outcome.stdout.splitlines()
    assert f"F1 on {4 * FRAMES} frames of 4 people that were not trained on:" in lines
    assert [line.split()[0] for line in lines if line.startswith("AU")] == ["AU", "AU04", "AU12", "AU45"]
    report = json.loads((coded / "mine.work" / "finetune.json").read_text())
    assert list(report["aus"]) == ["AU04", "AU12", "AU45"]
    assert report["aus"]["AU45"]["before"] is None
    assert report["sentence"] in " ".join(outcome.stdout.split())
    result = auscan.detect(coded / "videos" / "p0.mp4", model=str(coded / "mine"))
    assert len(result.table) == FRAMES
    assert result.table["AU45"].notna().all()
    again = run(coded, "--model", str(tiny_checkpoint))
    assert isinstance(again.exception, InputError)
    assert "mine is not an empty folder" in str(again.exception)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--people", "some"], "--people some is not valid"),
        (["--aus", "AU99"], "'AU99' is not an action unit"),
    ],
)
def test_invalid_options_stop_before_anything_is_written(
    coded: Path, options: list[str], message: str
) -> None:
    outcome = run(coded, *options)
    assert isinstance(outcome.exception, InputError)
    assert message in str(outcome.exception)
    assert not (coded / "mine.work").exists()


@pytest.mark.slow
def test_the_benchmark_renders_people_and_reports_the_shifted_aus(tmp_path: Path) -> None:
    figures = benchmark.run(tmp_path, people=5, seconds=3.0, workers=1, null=False)
    assert figures["people"] == 5
    assert figures["shifted"]["interval"][0] <= figures["shifted"]["interval"][1]
    assert np.isfinite([figures["others"]["before"], figures["others"]["after"]]).all()
    labels = pd.read_csv(tmp_path / "labels" / "person00.csv")
    truth = pd.read_parquet(tmp_path / "data" / "person00.parquet")
    for name in AFFWILD2_AUS:
        level = benchmark.SHIFTED_LEVEL if name in benchmark.SHIFTED else 0.5
        np.testing.assert_array_equal(labels[name], truth[name] >= level)
