"""Spoilt labels and the text files around them."""

from pathlib import Path

import numpy as np
import pytest

from auscan.core.aus import AU_NAMES
from auscan.datasets.lists import kind_of, read_counts, read_list, read_template
from auscan.datasets.synth.annotation import (
    HEADER,
    UNLABELLED,
    missing_images,
    spoil,
    write_annotation,
    write_test_files,
)


def rows(count: int = 400) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (count, len(AU_NAMES))).astype(np.int8)


@pytest.mark.parametrize("surplus", [-1, 0, 1, 2])
def test_the_end_is_off_by_as_much_as_asked_and_what_is_labelled_is_true(surplus: int) -> None:
    true = rows()
    kept = spoil(np.random.default_rng(1), true, surplus, partly=False)
    assert len(kept) == len(true) + surplus
    shared = min(len(kept), len(true))
    known = kept[:shared] != -1
    assert np.array_equal(kept[:shared][known], true[:shared][known])


def test_unlabelled_rows_come_in_stretches_and_whole() -> None:
    kept = spoil(np.random.default_rng(1), rows(4000), 0, partly=False)
    gone = (kept == -1).all(axis=1)
    assert np.array_equal(gone, (kept == -1).any(axis=1))
    assert 0.5 * UNLABELLED < gone.mean() <= UNLABELLED
    assert (np.diff(gone.astype(int)) == 1).sum() < gone.sum() / 4


def test_rows_may_be_known_in_part() -> None:
    kept = spoil(np.random.default_rng(1), rows(), 0, partly=True)
    unknown = (kept == -1).sum(axis=1)
    assert ((unknown > 0) & (unknown < len(AU_NAMES))).any()


def test_pictures_are_missing_never_seldom_or_mostly() -> None:
    random, yaw = np.random.default_rng(0), np.zeros(1000)
    none, few, many = (missing_images(random, 1000, yaw, how) for how in ("none", "few", "many"))
    assert not none.any()
    assert 0 < few.mean() < 0.05
    assert 0.4 < many.mean() < 0.95


def test_profiles_have_no_picture_and_no_track_is_without_any() -> None:
    gone = missing_images(np.random.default_rng(0), 50, np.full(50, 68.0), "few")
    assert gone.sum() == 49 or gone.sum() == 48
    assert not gone.all()


def test_an_annotation_file_is_what_aff_wild2_has(tmp_path: Path) -> None:
    path = tmp_path / "Train_Set" / "900.txt"
    write_annotation(path, np.array([[0, 1] * 6, [-1] * 12], np.int8))
    assert path.read_bytes() == (
        b"AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26\n0,1,0,1,0,1,0,1,0,1,0,1\n"
        b"-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1\n"
    )


def test_the_test_sets_files_are_read_as_what_they_are(tmp_path: Path) -> None:
    counts = {"900_left": 3, "video900": 2}
    write_test_files(tmp_path, counts, np.random.default_rng(0))
    by_kind: dict[str, list[Path]] = {}
    for path in sorted(tmp_path.rglob("*.txt")):
        by_kind.setdefault(kind_of(path), []).append(path)
    assert {kind: len(paths) for kind, paths in by_kind.items()} == {"list": 1, "counts": 1, "template": 2}
    assert read_list(by_kind["list"][0]) == list(counts)
    assert read_counts(by_kind["counts"][0]) == counts
    for path in by_kind["template"]:
        assert read_template(path).numbers == {"900_left": [1, 2, 3], "video900": [1, 2]}
        assert path.read_text().startswith(f"image_location,{HEADER}\n900_left/00001.jpg,")
