"""Windows cover every frame, keep missing frames in position, and have the audio of their time."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auscan.core.errors import InputError
from auscan.datasets.index import Index, read_index
from auscan.training.config import DataConfig, FoldConfig
from auscan.training.tracks import (
    LabelledTrack,
    load_tracks,
    split_by_fold,
    with_shuffled_labels,
)
from auscan.training.windows import (
    WindowBatches,
    collate,
    slice_track,
    training_windows,
    window_starts,
)


@pytest.fixture(scope="module")
def folders(make_features: Callable[..., tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory):
    return make_features(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def index(folders: tuple[Path, Path]) -> Index:
    return read_index(folders[0])


@pytest.fixture(scope="module")
def tracks(index: Index, folders: tuple[Path, Path]) -> list[LabelledTrack]:
    return load_tracks(index, folders[1], ["train"])


@given(rows=st.integers(1, 900), length=st.integers(1, 400), stride=st.integers(1, 400))
def test_windows_cover_the_track_and_the_last_ends_with_it(rows: int, length: int, stride: int) -> None:
    starts = window_starts(rows, length, min(stride, length))
    assert starts == sorted(set(starts))
    covered = {row for start in starts for row in range(start, min(start + length, rows))}
    assert covered == set(range(rows))
    assert starts[-1] + min(length, rows) == rows


def test_windows_without_a_labelled_crop_are_left_out(tracks: list[LabelledTrack]) -> None:
    data = DataConfig(index=Path("i"), cache=Path("c"), length=20, stride=20)
    labels = tracks[0].labels.copy()
    labels[:20] = -1
    before, after = (
        training_windows(tracks, data),
        training_windows([replace(tracks[0], labels=labels)], data),
    )
    assert before[0].start == 0
    assert after[0].start == 20
    with pytest.raises(InputError, match="both a label and a crop"):
        training_windows([replace(tracks[0], labels=np.full_like(labels, -1))], data)


def test_whole_tracks_are_windows_on_request(tracks: list[LabelledTrack]) -> None:
    windows = training_windows(tracks, DataConfig(index=Path("i"), cache=Path("c"), length=None))
    assert [(w.start, w.stop) for w in windows] == [(0, len(track.labels)) for track in tracks]


def test_rows_of_a_window_keep_features_labels_times_and_audio_together(tracks: list[LabelledTrack]) -> None:
    track = tracks[0]
    batch = slice_track(track, slice(40, 70), audio_margin_s=0.2)
    np.testing.assert_array_equal(batch.labels[0], track.labels[40:70])
    np.testing.assert_array_equal(batch.face[0], track.features.face[40:70])
    np.testing.assert_array_equal(batch.has_face[0], track.features.has_image[40:70])
    assert not batch.has_face.all(), "the track has missing frames"
    assert batch.times_s[0, 0] == pytest.approx(40 / 30)
    audio_times_s = batch.audio_times_s[0]
    assert audio_times_s[0] == pytest.approx(40 / 30 - 0.2, abs=0.021)
    assert audio_times_s[-1] == pytest.approx(69 / 30 + 0.2, abs=0.021)
    first = int(np.argmin(np.abs(track.features.audio_times_s() - float(audio_times_s[0]))))
    np.testing.assert_array_equal(batch.audio[0, 0], track.features.audio[first])


def test_shorter_windows_are_padded_with_rows_without_a_face(tracks: list[LabelledTrack]) -> None:
    mute = next(track for track in tracks if track.name.startswith("mute"))
    batch = collate([slice_track(tracks[0], slice(0, 30), 0.2), slice_track(mute, slice(0, 10), 0.2)])
    assert batch.face.shape[:2] == (2, 30)
    assert not batch.has_face[1, 10:].any()
    assert (batch.labels[1, 10:] == -1).all()
    assert not batch.audio_valid[1].any()
    assert batch.audio_valid[0].all()


def test_folds_keep_the_persons_of_a_video_together(tracks: list[LabelledTrack]) -> None:
    for held_out in range(3):
        training, validation = split_by_fold(tracks, FoldConfig(count=3, held_out=held_out))
        assert not {t.source_video for t in training} & {t.source_video for t in validation}
        assert len(training) + len(validation) == len(tracks)


def test_shuffled_labels_are_a_permutation_of_the_labels(tracks: list[LabelledTrack]) -> None:
    shuffled = with_shuffled_labels(tracks, seed=0)
    before, after = (np.concatenate([t.labels for t in each]) for each in (tracks, shuffled))
    assert (before != after).any()
    np.testing.assert_array_equal(np.unique(before, axis=0), np.unique(after, axis=0))
    assert [len(t.labels) for t in shuffled] == [len(t.labels) for t in tracks]


def test_features_that_do_not_fit_the_index_are_refused(
    index: Index, folders: tuple[Path, Path], make_features: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"no track in nowhere\. It has test, train, val"):
        load_tracks(index, folders[1], ["nowhere"])
    _, other = make_features(tmp_path, {"903": ("val", 91), "904": ("val", 30)})
    with pytest.raises(InputError, match=r"features of 903 .* do not match the rows"):
        load_tracks(index, other, ["val"])
    with pytest.raises(InputError, match="no features of track 905"):
        load_tracks(index, other, ["test"])


def test_batches_contain_the_requested_windows(tracks: list[LabelledTrack]) -> None:
    data = DataConfig(index=Path("i"), cache=Path("c"), length=20, stride=20)
    windows = training_windows(tracks, data)
    batch = WindowBatches(tracks, windows, 0.1)[[2, 0]]
    wanted = windows[2]
    labels = tracks[wanted.track].labels[wanted.start : wanted.stop]
    np.testing.assert_array_equal(batch.labels[0], labels)
