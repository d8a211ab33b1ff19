"""Tables of scores and labels are read and written unchanged; invalid ones are refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auscan.core.aus import AFFWILD2_AUS, au_columns
from auscan.core.errors import InputError
from auscan.datasets.index import FRAME_SCHEMA
from auscan.training.scores import (
    LABEL_COLUMNS,
    SCORE_COLUMNS,
    check_scores,
    read_labels,
    read_scores,
    write_scores,
)

Make = Callable[..., pd.DataFrame]


def test_scores_are_read_as_they_were_written(tmp_path: Path, make_scores: Make) -> None:
    scores = make_scores({"a": 5, "b_left": 3}, missing=0.3)
    write_scores(tmp_path / "new" / "scores.parquet", scores)
    again = read_scores(tmp_path / "new" / "scores.parquet")
    assert tuple(again.columns) == (*SCORE_COLUMNS, *AFFWILD2_AUS)
    pd.testing.assert_frame_equal(again, scores, check_dtype=False)
    assert again["AU01"].dtype == np.float32


def test_scores_are_sorted_by_track_and_frame_and_lose_other_columns(make_scores: Make) -> None:
    scores = make_scores({"a": 3, "b": 2})
    shuffled = scores.assign(fold=1).iloc[::-1]
    pd.testing.assert_frame_equal(check_scores(shuffled, "x"), check_scores(scores, "x"))


def test_track_names_that_look_like_numbers_stay_text(tmp_path: Path, make_scores: Make) -> None:
    scores = make_scores({"903": 2})
    scores["track"] = scores["track"].astype("category")
    write_scores(tmp_path / "s.parquet", scores)
    assert read_scores(tmp_path / "s.parquet")["track"].tolist() == ["903", "903"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="has_face"), "lacks the columns has_face"),
        (lambda t: t.drop(columns=list(AFFWILD2_AUS)), "lacks the columns of the AUs"),
        (lambda t: t.assign(has_face=[True, True, None, True]), "without track or has_face"),
        (lambda t: t.assign(track=["a", None, "a", "a"]), "without track or has_face"),
        (lambda t: t.assign(frame=t["frame"] - 1), "whole number from 1"),
        (lambda t: t.assign(frame=t["frame"] + 0.5), "whole number from 1"),
        (lambda t: t.assign(AU04=t["AU04"] * 9 - 4), "outside 0 to 1"),
        (lambda t: pd.concat([t, t.iloc[[1]]]), "frame 2 of track a twice"),
    ],
)
def test_invalid_scores_are_refused_with_the_reason(
    change: Callable[[pd.DataFrame], pd.DataFrame], message: str, make_scores: Make, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        write_scores(tmp_path / "s.parquet", change(make_scores({"a": 4})))
    assert not (tmp_path / "s.parquet").exists()


def test_an_invalid_file_of_scores_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_scores(tmp_path / "scores.parquet")
    (tmp_path / "scores.parquet").write_text("track,frame")
    with pytest.raises(InputError, match="cannot be read as scores"):
        read_scores(tmp_path / "scores.parquet")
    pd.DataFrame({"track": ["a"]}).to_parquet(tmp_path / "scores.parquet")
    with pytest.raises(InputError, match="cannot be read as scores"):
        read_scores(tmp_path / "scores.parquet")


def test_labels_are_those_of_the_split(tmp_path: Path, make_scores: Make, make_labels: Make) -> None:
    rows = make_scores({"a": 2, "b": 2, "c": 2})
    labels = make_labels(rows, np.zeros((6, 12), np.int8))
    labels["split"] = ["train", "train", "val", "val", "test", "test"]
    labels.loc[labels["split"] == "test", list(labels.columns[4:])] = -1
    labels["track"] = labels["track"].astype("category")
    labels.to_parquet(tmp_path / "frames.parquet")
    assert read_labels(tmp_path, "val")["track"].tolist() == ["b", "b"]
    assert set(read_labels(tmp_path, "all")["track"]) == {"a", "b"}
    with pytest.raises(InputError, match=r"no split 'dev'\. It has test, train, val"):
        read_labels(tmp_path, "dev")
    with pytest.raises(InputError, match="No frame of split 'test'"):
        read_labels(tmp_path, "test")
    with pytest.raises(InputError, match="does not exist"):
        read_labels(tmp_path / "nowhere", "val")


def test_an_index_has_every_column_that_labels_are_read_from() -> None:
    assert set(LABEL_COLUMNS) <= set(FRAME_SCHEMA.names)


def test_the_aus_are_those_of_the_columns_in_their_order(tmp_path: Path, make_scores: Make) -> None:
    scores = make_scores({"a": 3})[["AU12", "frame", "track", "has_face", "AU01"]].assign(AU45=0.5)
    write_scores(tmp_path / "s.parquet", scores)
    assert au_columns(read_scores(tmp_path / "s.parquet").columns) == ("AU12", "AU01", "AU45")
