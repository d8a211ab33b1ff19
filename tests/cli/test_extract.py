"""Test `auscan extract`: estimate of the size, features, resumption, errors."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from auscan.cli.main import app
from auscan.core.aus import AFFWILD2_AUS
from auscan.core.config import TokenPart
from auscan.core.errors import InputError
from auscan.datasets.cache import open_track
from auscan.datasets.clock import ASSUMED, FrameClock
from auscan.datasets.index import Track, open_index_writer


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """One track of three frames, the second without a picture."""
    for number in (1, 3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((32, 32, 3), 60 * number, np.uint8))
    with open_index_writer(tmp_path / "index", {"root": str(tmp_path)}) as writer:
        writer.add(
            Track(
                name="a",
                split="train",
                source_video="a",
                numbers=np.arange(1, 4),
                labels=np.zeros((3, len(AFFWILD2_AUS)), np.int8),
                images=["1.png", None, "3.png"],
                times_s=np.arange(3) / 30,
                clock=FrameClock(times_s=np.empty(0), rate_hz=30.0, source=ASSUMED),
            )
        )
    return tmp_path / "index"


def test_extract_estimates_its_size_and_does_nothing_when_all_features_exist(
    index: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    arguments = ["extract", str(index), "--model", str(tiny_checkpoint), "--out", str(tmp_path / "cache")]
    first = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert first.exit_code == 0
    assert "1 tracks, 3 frames, 0.0 min of sound: about 1.08 kB on disk. Remaining: 1 tracks" in first.stdout
    assert "N = 16 patches a frame (4 x 4), of which a new network keeps k = 4" in first.stdout
    assert open_track(tmp_path / "cache", "a").has_image.tolist() == [True, False, True]
    again = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "Remaining: 0 tracks" in again.stdout


def test_enlarged_pictures_are_a_warning(index: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """The tiny encoder has crops of 32 px."""
    arguments = ["extract", str(index), "--model", str(tiny_checkpoint), "--out", str(tmp_path / "cache")]
    assert "enlarged" not in CliRunner().invoke(app, arguments, catch_exceptions=False).stderr
    for number in (1, 3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((20, 24, 3), np.uint8))
    warned = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "warning: pictures of 20 px are enlarged to 32 px, but auscan detect cuts" in warned.stderr


def test_a_grid_is_a_number_or_full(index: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["extract", str(index), "--model", str(tiny_checkpoint), "--out", str(tmp_path / "cache")]
    with pytest.raises(InputError, match="--grid wide is not valid"):
        CliRunner().invoke(app, [*arguments, "--grid", "wide"], catch_exceptions=False)
    CliRunner().invoke(app, [*arguments, "--grid", "2"], catch_exceptions=False)
    assert open_track(tmp_path / "cache", "a").patches.shape == (3, 4, 16)
    full = CliRunner().invoke(app, [*arguments, "--grid", "full"], catch_exceptions=False)
    assert "N = 16 patches a frame (4 x 4)" in full.stdout
    with pytest.raises(InputError, match=r"k = 1 of N = 1 patches a frame, so it could select nothing"):
        CliRunner().invoke(app, [*arguments, "--grid", "1"], catch_exceptions=False)


def test_repeated_weights_are_several_encoders(index: Path, backbones: Path, tmp_path: Path) -> None:
    arguments = ["extract", str(index), "--out", str(tmp_path / "cache"), "--grid", "2"]
    for option, name in (("--visual", "dinov2"), ("--visual", "registers"), ("--audio", "wavlm")):
        arguments += [option, str(backbones / name)]
    outcome = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert outcome.exit_code == 0
    header = open_track(tmp_path / "cache", "a").header
    assert header.visual_parts == (TokenPart(width=16), TokenPart(width=16))
    assert header.audio_parts == (TokenPart(width=16, groups=3),)


def test_gpus_per_worker_requires_ray_and_a_gpu(index: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["extract", str(index), "--model", str(tiny_checkpoint), "--out", str(tmp_path / "cache")]
    with pytest.raises(InputError, match="--gpus-per-worker requires --ray"):
        CliRunner().invoke(app, [*arguments, "--gpus-per-worker", "0.5"], catch_exceptions=False)
    with pytest.raises(InputError, match="--gpus-per-worker is for --device cuda"):
        CliRunner().invoke(
            app, [*arguments, "--ray", "auto", "--gpus-per-worker", "0.5"], catch_exceptions=False
        )


def test_a_video_that_fails_is_reported(
    index: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auscan.datasets.features._read_crop", lambda path, detected, side: 1 / 0)
    arguments = ["extract", str(index), "--model", str(tiny_checkpoint), "--out", str(tmp_path / "cache")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 1
    assert "failed with an unexpected error, ZeroDivisionError" in result.stderr
    assert "0 frames written" in result.stdout
