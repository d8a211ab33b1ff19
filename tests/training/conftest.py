"""Small tables of scores and labels, and small data sets of pictures."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS


def _scores(tracks: dict[str, int], seed: int = 0, missing: float = 0.0) -> pd.DataFrame:
    """Random scores of each track from frame 1 on; a share `missing` of the frames has none."""
    random = np.random.default_rng(seed)
    rows = sum(tracks.values())
    values = random.random((rows, 12)).astype(np.float32)
    has_face = random.random(rows) >= missing
    values[~has_face] = np.nan
    table = pd.DataFrame(values, columns=list(AFFWILD2_AUS))
    table.insert(0, "track", np.repeat(list(tracks), list(tracks.values())))
    table.insert(1, "frame", np.concatenate([np.arange(1, count + 1) for count in tracks.values()]))
    table.insert(2, "has_face", has_face)
    return table


@pytest.fixture
def make_scores() -> Callable[..., pd.DataFrame]:
    """Return make_scores({track: frames}, seed, missing), which makes a table of scores."""
    return _scores


@pytest.fixture
def make_labels() -> Callable[..., pd.DataFrame]:
    """Return make_labels(rows, labels [R, 12], source), which makes index rows for `rows` (track, frame)."""

    def make(rows: pd.DataFrame, labels: NDArray[np.int8], source: list[str] | None = None) -> pd.DataFrame:
        table = pd.DataFrame(labels, columns=list(AFFWILD2_AUS))
        table.insert(0, "track", rows["track"].to_numpy())
        table.insert(1, "split", "val")
        table.insert(2, "source_video", rows["track"].to_numpy() if source is None else source)
        table.insert(3, "frame", rows["frame"].to_numpy())
        return table

    return make


@pytest.fixture(scope="session")
def make_pictures() -> Callable[..., tuple[Path, Path]]:
    """Return make_pictures(folder, model, visual, audio, grid), which returns index and cache folders."""
    spec = importlib.util.spec_from_file_location("make_pictures", Path(__file__).parent / "make_pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make: Callable[..., tuple[Path, Path]] = module.make_pictures
    return make


@pytest.fixture(scope="session")
def picture_folders(
    make_pictures: Callable[..., tuple[Path, Path]],
    tiny_checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """Index and cache of a picture data set with features of the tiny checkpoint."""
    return make_pictures(tmp_path_factory.mktemp("pictures"), str(tiny_checkpoint))


@pytest.fixture(scope="session")
def dino_folders(
    make_pictures: Callable[..., tuple[Path, Path]], backbones: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Index and cache of a picture data set with features of tiny DINOv2 and WavLM."""
    weights = (str(backbones / "registers"), str(backbones / "wavlm"))
    return make_pictures(tmp_path_factory.mktemp("pictures"), "base", *weights)
