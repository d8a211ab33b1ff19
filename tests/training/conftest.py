"""Small tables of scores and labels, and small data sets of pictures."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from numpy.typing import NDArray

from auscan.core.aus import AFFWILD2_AUS
from auscan.datasets.index import METADATA_KEY


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


def _add_intensities(index: Path) -> None:
    """Add intensities of AU25 (4 or 0.5, by its label) and of AU01 (2 or 0.2), and a column without any."""
    with pq.ParquetFile(index / "frames.parquet") as file:
        table, footer = file.read(), file.metadata.metadata[METADATA_KEY]
    for au, (active, inactive) in {"AU01": (2.0, 0.2), "AU25": (4.0, 0.5), "AU12": (np.nan, np.nan)}.items():
        labels = table[au].to_numpy()
        values = np.where(labels == 1, active, np.where(labels == 0, inactive, np.nan))
        table = table.append_column(f"{au}_r", pa.array(values.astype(np.float32), from_pandas=False))
    with pq.ParquetWriter(index / "frames.parquet", table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({METADATA_KEY: footer})


@pytest.fixture(scope="session")
def add_intensities() -> Callable[[Path], None]:
    """Return add_intensities(index), which adds columns of intensities to an index."""
    return _add_intensities
