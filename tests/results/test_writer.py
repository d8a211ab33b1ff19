"""A table that is written while it grows is the table, and half of it is nothing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from auscan.results.table import build_table, read_result_table, table_metadata
from auscan.results.writer import TableWriter

THRESHOLDS = (0.5,) * 12
ABOUT = table_metadata("talk.mp4", "nano", THRESHOLDS, ("AU23",), "0.1.0")


def test_pieces_are_read_back_as_one_table(tmp_path: Path) -> None:
    whole = build_table(np.arange(10) / 25, [], THRESHOLDS)
    with TableWriter(tmp_path / "new", ABOUT) as writer:
        for start in range(0, 10, 4):
            writer.write(whole[start : start + 4].reset_index(drop=True))
    pd.testing.assert_frame_equal(read_result_table(tmp_path / "new" / "aus.parquet"), whole)
    assert pq.ParquetFile(tmp_path / "new" / "aus.parquet").num_row_groups == 3
    text = pd.read_csv(tmp_path / "new" / "aus.csv")
    assert list(text.columns) == list(whole.columns)
    assert text["frame"].tolist() == list(range(10))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["aus.csv", "aus.parquet"]


def test_a_run_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    def run() -> None:
        with TableWriter(tmp_path, ABOUT) as writer:
            writer.write(build_table(np.arange(3) / 25, [], THRESHOLDS))
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert list(tmp_path.iterdir()) == []
