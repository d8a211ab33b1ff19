"""Provide a fake detector and small videos, because these tests are about the command line."""

import importlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest


@pytest.fixture
def fake_detect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the fakes of cli_fakes.py instead of the network, here and in worker processes."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    fakes = importlib.import_module("cli_fakes")
    monkeypatch.setattr("auscan.inference.load.load_engine", fakes.fake_load)
    monkeypatch.setattr("auscan.pipeline.detect.detect", fakes.fake_detect)
    for place in ("auscan.batch.jobs.load_detect_worker", "auscan.batch.run.load_detect_worker"):
        monkeypatch.setattr(place, fakes.load_fake_detect_worker)


def _write_video(path: Path, frames: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(frames):
            image = np.full((48, 64, 3), 20 * index % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def write_video() -> Callable[..., Path]:
    return _write_video
