"""Order and augmentation of an epoch depend on the seed only, not on batches or processes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from auscan.datasets.index import read_index
from auscan.training.config import DropoutConfig
from auscan.training.epoch import EpochBatches, EpochOrder, drop_modalities, process_batches
from auscan.training.tracks import LabelledTrack, load_tracks
from auscan.training.windows import (
    Batch,
    Window,
    WindowBatches,
    collate,
    slice_track,
)


@pytest.fixture(scope="module")
def tracks(
    make_features: Callable[..., tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> list[LabelledTrack]:
    index, cache = make_features(tmp_path_factory.mktemp("features"))
    return load_tracks(read_index(index), cache, ["train"])


def assert_same(one: Batch, other: Batch) -> None:
    for each in fields(Batch):
        value, expected = getattr(one, each.name), getattr(other, each.name)
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, expected, rtol=0, atol=0, equal_nan=True)
        else:
            assert value == expected


def test_an_epoch_follows_from_seed_and_number_alone() -> None:
    sources = list("aaaaaaaabbbcc")
    order = EpochOrder(sources, 0.5, seed=3)
    assert order.epoch(4) == EpochOrder(sources, 0.5, seed=3).epoch(4)
    assert order.epoch(4) != order.epoch(5)
    assert order.epoch(4) != EpochOrder(sources, 0.5, seed=4).epoch(4)
    assert len(order.epoch(4)) == len(sources)


def test_balance_goes_from_every_window_to_every_source_video() -> None:
    sources = list("aaaaaaaaaaaaaaaabbbbc")
    assert sorted(EpochOrder(sources, 1.0, 0).epoch(7)) == list(range(21))
    equal = Counter(sources[window] for window in EpochOrder(sources, 0.0, 0).epoch(7))
    assert equal == {"a": 7, "b": 7, "c": 7}
    between = Counter(sources[window] for window in EpochOrder(sources, 0.5, 0).epoch(7))
    assert between["a"] > between["b"] > between["c"] >= 3


def test_modality_dropout_removes_audio_and_faces_from_its_share_of_windows(
    tracks: list[LabelledTrack],
) -> None:
    window = slice_track(tracks[0], slice(0, 60), 0.2)
    config = DropoutConfig(no_sound=0.25, other_sound=0.0, no_face=0.5, no_face_length=0.2)
    dropped = collate([drop_modalities(window, lambda: window, config, rng(seed)) for seed in range(400)])
    assert (~dropped.audio_valid.any(1)).float().mean().item() == pytest.approx(0.25, abs=0.06)
    lost = (window.has_face & ~dropped.has_face).sum(1)
    assert (lost > 0).float().mean().item() == pytest.approx(0.5, abs=0.08)
    assert lost.max() <= 12
    none = DropoutConfig(no_sound=0, other_sound=0, no_face=0)
    assert_same(window, drop_modalities(window, lambda: window, none, rng(0)))


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_audio_of_another_window_is_shifted_to_the_windows_own_time(tracks: list[LabelledTrack]) -> None:
    window, other = (slice_track(tracks[0], part, 0.2) for part in (slice(90, 120), slice(0, 30)))
    config = DropoutConfig(no_sound=0, other_sound=1, no_face=0)
    swapped = drop_modalities(window, lambda: other, config, rng(0))
    torch.testing.assert_close(swapped.audio, other.audio)
    assert swapped.audio_times_s[0, 0] == pytest.approx(90 / 30, abs=0.25)


def test_modality_dropout_does_not_depend_on_the_batch(tracks: list[LabelledTrack]) -> None:
    """Nor on the length of the other windows in the batch, to which it may be padded."""
    windows = [Window(0, 0, 40), Window(0, 40, 60), Window(1, 0, 50), Window(1, 10, 60)]
    dropout = DropoutConfig(no_sound=0.3, other_sound=0.3, no_face=1.0)
    batches = EpochBatches(WindowBatches(tracks, windows, 0.1), [2, 0, 3, 1], dropout, False, (0, 3, 5))
    together = batches[range(4)]
    apart = collate([batches[[place]] for place in range(4)])
    assert_same(together, apart)
    assert (together.has_face.sum(1) < batches[range(4)].labels.shape[1]).all()


def test_processes_share_the_positions_of_one_process_with_larger_batches() -> None:
    first, second = (process_batches(process, 2, 12, batch=3) for process in (0, 1))
    both = [[*one, *other] for one, other in zip(first, second, strict=True)]
    assert both == [list(batch) for batch in process_batches(0, 1, 12, batch=6)]
