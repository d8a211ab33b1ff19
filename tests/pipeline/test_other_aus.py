"""A checkpoint with five other AUs and intensities goes through the whole pipeline, with both engines."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from pandas.testing import assert_frame_equal

from auscan.core.config import Options
from auscan.core.errors import InputError
from auscan.inference.onnx_engine import OnnxEngine
from auscan.inference.torch_engine import TorchEngine
from auscan.media.stream import read_stream
from auscan.media.video import Frame
from auscan.pipeline.detect import detect, write_result
from auscan.pipeline.explain import explain
from auscan.pipeline.live import LiveDetector
from auscan.results.attributions import ATTRIBUTIONS_FILE
from auscan.results.read import read_result
from auscan.results.result import Result
from auscan.results.table import table_columns

NAMES = ("AU45", "AU12", "AU05", "AU25", "AU09")
FRAMES = 30


@pytest.fixture(scope="module")
def engine(other_aus_checkpoint: Path) -> TorchEngine:
    return TorchEngine(other_aus_checkpoint, "cpu")


@pytest.fixture(scope="module")
def clip(
    tmp_path_factory: pytest.TempPathFactory,
    write_clip: Callable[..., Path],
    face_images: Callable[[int], list[NDArray[np.uint8]]],
) -> Path:
    """A face that is absent for five frames, with noise."""
    images = face_images(FRAMES)
    images[18:23] = [np.full_like(images[0], 90)] * 5
    noise = (0.1 * np.random.default_rng(0).standard_normal(20_000)).astype(np.float32)
    return write_clip(tmp_path_factory.mktemp("other") / "talk.mp4", images, np.arange(FRAMES) / 25, noise)


@pytest.fixture(scope="module")
def result(clip: Path, engine: TorchEngine) -> Result:
    return detect(clip, model=engine, attributions=True)


def numbers(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return the AU columns of a table, [R, 15], NaN for unknown."""
    names = [f"{name}{kind}" for kind in ("", "_c", "_r") for name in NAMES]
    return table[names].to_numpy(np.float64, na_value=np.nan)


def test_the_columns_are_those_of_the_checkpoint_in_its_order(result: Result) -> None:
    assert list(result.table.columns) == table_columns(NAMES, intensity=True)
    assert result.info.au_names == NAMES
    assert set(result.events["AU"]) <= set(NAMES)
    assert len(result.events)


def test_labels_follow_the_thresholds_and_intensities_lie_between_0_and_5(
    result: Result, engine: TorchEngine
) -> None:
    faces = result.table[result.table["reason"] == ""]
    assert len(faces) > 10
    for name, threshold in zip(NAMES, engine.config.thresholds, strict=True):
        if name != "AU05":
            assert_array_equal(faces[f"{name}_c"], faces[name] >= np.float32(threshold))
    known = faces[["AU45_r", "AU12_r", "AU09_r"]].to_numpy()
    assert ((known > 0) & (known < 5)).all()
    assert (known.std(axis=0) > 1e-3).all()


def test_untrained_columns_and_frames_without_a_face_are_unknown(result: Result) -> None:
    """AU05 was never trained, of AU25 only the detection."""
    table = result.table
    assert table[["AU05", "AU05_c", "AU05_r", "AU25_r"]].isna().all(axis=None)
    absent = table[table["success"] == 0]
    assert len(absent) == 5
    assert np.isnan(numbers(absent)).all()
    assert table.loc[table["success"] == 1, ["AU45", "AU25", "AU45_r"]].notna().all(axis=None)


def test_live_equals_offline(clip: Path, engine: TorchEngine, result: Result) -> None:
    with LiveDetector(engine, lag_s=math.inf) as live:
        rows = []
        for item in read_stream(str(clip)):
            if isinstance(item, Frame):
                rows += live.push(item.image, item.time_s)
            else:
                live.push_audio(item)
        rows += live.finish()
    assert list(rows[0]) == list(result.table.columns)
    assert_allclose(numbers(pd.DataFrame(rows)), numbers(result.table), atol=1e-4)


def test_the_graphs_give_the_same_table(clip: Path, other_aus_graphs: Path, result: Result) -> None:
    other = detect(clip, model=OnnxEngine(other_aus_graphs, threads=1))
    assert list(other.table.columns) == list(result.table.columns)
    assert_allclose(numbers(other.table), numbers(result.table), atol=1e-4)


def test_a_written_result_is_read_with_its_aus_and_intensities(
    clip: Path, engine: TorchEngine, tmp_path: Path
) -> None:
    written = write_result(clip, tmp_path, engine, Options(overlay=True, report=True), "auscan detect")
    read = read_result(tmp_path)
    assert read.info.au_names == NAMES
    assert_frame_equal(read.table, written.table, check_dtype=False)
    report = (tmp_path / "report.html").read_text("utf-8")
    assert all(name in report for name in NAMES)
    assert "AU01" not in report


def test_explain_draws_the_aus_of_the_checkpoint_and_refuses_others(
    clip: Path, result: Result, tmp_path: Path
) -> None:
    result.save(tmp_path)
    file = tmp_path / ATTRIBUTIONS_FILE
    picture, other = (explain(clip, file, 3, au=name) for name in ("AU45", "AU09"))
    assert picture.shape == other.shape
    assert (picture != other).any()
    with pytest.raises(InputError, match=r"AU01.*AU45, AU12, AU05, AU25, AU09"):
        explain(clip, file, 3, au="AU01")


def test_a_clip_without_a_face_has_the_same_columns(
    tmp_path: Path, write_clip: Callable[..., Path], engine: TorchEngine
) -> None:
    grey = [np.full((96, 96, 3), 90, np.uint8)] * 4
    table = detect(write_clip(tmp_path / "grey.mp4", grey, np.arange(4) / 25), model=engine).table
    assert list(table.columns) == table_columns(NAMES, intensity=True)
    assert np.isnan(numbers(table)).all()
