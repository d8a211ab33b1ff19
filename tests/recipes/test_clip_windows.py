"""Test the windows of stage 2: the sound of a window is that of its clip, at its time."""

import numpy as np
import pytest
import torch

from recipes.nano.data.real_clips import ClipTrack
from recipes.nano.data.teacher_labels import NANO_AUS
from recipes.nano.train.clip_windows import (
    ClipSettings,
    ClipWindows,
    CropFeatures,
    EncodedTrack,
    token_offsets_s,
)


def encoded(person: str, frames: int, starts_s: float = 0.0) -> EncodedTrack:
    """Make a track whose audio tokens, embeddings and labels tell their times."""
    times_s = starts_s + np.arange(frames) / 25
    labels = np.ones((frames, len(NANO_AUS)), np.int8)
    soft = np.ones((frames, len(NANO_AUS)), np.float32)
    nothing = np.zeros(0, np.float32)
    track = ClipTrack(
        person, person, np.zeros((frames, 2, 2), np.uint8), times_s, labels, soft, soft, nothing, 0.2
    )
    tokens = torch.stack(
        [0.2 + token_offsets_s(2 * frames), torch.full((2 * frames,), hash(person) % 1000)], 1
    )
    features = CropFeatures(torch.from_numpy(times_s)[:, None], torch.zeros(frames, len(NANO_AUS), 1))
    return EncodedTrack(track, [features, features], [tokens])


def test_the_tokens_of_a_window_with_its_own_sound_carry_their_times() -> None:
    windows = ClipWindows([encoded("a", 300), encoded("b", 200, 1.0)], [], ClipSettings())
    heard = 0
    for step in range(12):
        window = windows.window(step, with_audio=True)
        assert torch.equal(window.features.embedding[..., 0], window.times_s)
        for row in np.flatnonzero(window.is_own_audio):
            valid = window.audio.valid[row]
            heard += int(valid.sum())
            assert torch.allclose(
                window.audio.tokens[row, valid, 0].double(), window.audio.times_s[row, valid]
            )
            first, last = window.audio.times_s[row, valid][[0, -1]]
            assert first <= max(0.25, float(window.times_s[row, 0]) - 0.9)
            assert last >= min(float(window.times_s[row, -1]), last)
    assert heard > 1000


def test_windows_of_long_and_of_short_tracks_are_not_mixed() -> None:
    tracks = [encoded("a", 300), *(encoded(f"word {k}", 30) for k in range(9))]
    windows = ClipWindows(tracks, [], ClipSettings())
    shapes = {tuple(windows.window(step, True).times_s.shape) for step in range(16)}
    assert shapes == {(8, 128), (32, 30)}


def test_the_sound_of_someone_else_is_never_the_own_and_rare() -> None:
    tracks = [encoded("a", 300), encoded("b", 300)]
    windows, own, none, other = ClipWindows(tracks, [], ClipSettings()), 0, 0, 0
    for step in range(60):
        window = windows.window(step, True)
        has_sound = window.audio.valid.any(dim=1)
        own += int(window.is_own_audio.sum())
        none += int((~has_sound).sum())
        other += int((has_sound & ~window.is_own_audio).sum())
    total = own + none + other
    assert none / total == pytest.approx(0.35, abs=0.06)  # half of the others are of the same person
    assert other / total == pytest.approx(0.05, abs=0.03)


def test_rendered_tracks_have_their_share_and_people_count_by_the_root_of_their_frames() -> None:
    real = [encoded("a", 400), *(encoded("b", 100) for _ in range(16))]
    windows = ClipWindows(real, [encoded("r", 300)], ClipSettings(rendered_windows=0.05))
    numbers, weights = windows.pools[0]
    by_number = dict(zip(numbers, weights, strict=True))
    assert by_number[17] == pytest.approx(0.05)
    assert sum(by_number[k] for k in range(1, 17)) / by_number[0] == pytest.approx(2)
