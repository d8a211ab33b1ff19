"""Known covers of a data set reach its index, at their frames."""

from pathlib import Path

import pandas as pd
import pytest

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.datasets.index import FRAME_SCHEMA, cover_columns, read_index
from auscan.datasets.prepare import prepare
from tests.datasets.conftest import touch_pictures, write_labels

FRAMES = 4


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a data set of two tracks with FRAMES frames each."""
    for name in ("903", "904"):
        labels = tmp_path / "data" / "AU_Detection_Challenge" / "Train_Set" / f"{name}.txt"
        write_labels(labels, [",".join("0" * len(AFFWILD2_AUS))] * FRAMES)
        touch_pictures(tmp_path / "data" / "cropped_aligned" / name, range(1, FRAMES + 1))
    return tmp_path / "data"


def write_covers(root: Path, rows: list[tuple[str, int, int]]) -> None:
    """Write covers of (track, frame, value) with the same value for every AU but the last, which is -1."""
    columns = [{"track": t, "frame": f, **dict.fromkeys(cover_columns(AFFWILD2_AUS), v)} for t, f, v in rows]
    pd.DataFrame(columns).assign(AU26_covered=-1).to_parquet(root / "covers.parquet")


def test_covers_stand_at_their_frames_and_others_are_unknown(root: Path, tmp_path: Path) -> None:
    write_covers(root, [("903", 4, 0), ("903", 2, 1), ("elsewhere", 1, 1)])
    summary = prepare(root, tmp_path / "index")
    frames = read_index(tmp_path / "index").frames
    first = frames[frames["track"] == "903"]
    assert first["AU12_covered"].tolist() == [-1, 1, -1, 0]
    assert first["AU26_covered"].tolist() == [-1] * FRAMES
    assert (frames.loc[frames["track"] == "904", cover_columns(AFFWILD2_AUS)] == -1).all(axis=None)
    assert frames.dtypes[cover_columns(AFFWILD2_AUS)].eq("int8").all()
    assert summary["unused"] == []


def test_an_au_without_a_column_is_unknown(root: Path, tmp_path: Path) -> None:
    write_covers(root, [("903", 1, 1)])
    table = pd.read_parquet(root / "covers.parquet")
    table.drop(columns="AU04_covered").to_parquet(root / "covers.parquet")
    prepare(root, tmp_path / "index")
    row = read_index(tmp_path / "index").frames.query("track == '903' and frame == 1").iloc[0]
    assert row["AU04_covered"] == -1
    assert row["AU12_covered"] == 1


def test_other_covers_make_another_digest(root: Path, tmp_path: Path) -> None:
    digests = set()
    for value in (0, 1):
        write_covers(root, [("903", 2, value)])
        digests.add(prepare(root, tmp_path / "index")["digest"])
    assert len(digests) == 2


def test_an_index_without_covers_has_no_columns_for_them(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "index")
    assert read_index(tmp_path / "index").frames.columns.tolist() == FRAME_SCHEMA.names


@pytest.mark.parametrize(
    ("rows", "message"),
    [([("903", 1, 2)], "values other than"), ([("903", 1, 1), ("903", 1, 0)], "frame 1 of 903 twice")],
)
def test_wrong_values_and_repeated_frames_are_refused(
    root: Path, tmp_path: Path, rows: list[tuple[str, int, int]], message: str
) -> None:
    write_covers(root, rows)
    with pytest.raises(InputError, match=message):
        prepare(root, tmp_path / "index")


def test_a_missing_column_and_a_damaged_file_are_refused(root: Path, tmp_path: Path) -> None:
    write_covers(root, [("903", 1, 1)])
    table = pd.read_parquet(root / "covers.parquet")
    table.drop(columns="frame").to_parquet(root / "covers.parquet")
    with pytest.raises(InputError, match="no column frame"):
        prepare(root, tmp_path / "index")
    table[["track", "frame"]].to_parquet(root / "covers.parquet")
    with pytest.raises(InputError, match="no column of an AU"):
        prepare(root, tmp_path / "index")
    (root / "covers.parquet").write_bytes(b"not a table")
    with pytest.raises(InputError, match="cannot be read"):
        prepare(root, tmp_path / "index")
