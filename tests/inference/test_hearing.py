"""Who hears what is worked out twice, in numpy and in torch; both must agree."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from auscan.core.config import FusionConfig
from auscan.inference.hearing import who_hears_what
from auscan.model.fusion import AsymmetricFusion, audio_at_frames, blend, tokens_before


@pytest.mark.parametrize("reach_s", [0.1, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_numpy_and_torch_agree_on_who_hears_what(seed: int, reach_s: float) -> None:
    """Frames before, in and after sound with a gap, some on tokens, some on the edge of the reach."""
    random = np.random.default_rng(seed)
    token_s = 7200.0 + 0.02 * np.arange(60) + np.where(np.arange(60) > 30, 0.7, 0.0)
    frame_s = np.sort(
        np.concatenate(
            [random.uniform(7198.5, 7203.5, 60), token_s[::7], token_s[::9] + reach_s, token_s[::9] - reach_s]
        )
    )
    fusion = AsymmetricFusion(8, 6, FusionConfig(heads=2, reach_s=reach_s))
    ours = who_hears_what(frame_s, token_s, reach_s, fusion.window)

    times, tokens = torch.from_numpy(frame_s)[None], torch.from_numpy(token_s)[None]
    valid = torch.ones_like(tokens, dtype=torch.bool)
    first = tokens_before(times - reach_s, tokens, valid) - 1
    theirs = fusion._window(times, first, tokens, valid)
    assert_array_equal(ours.window, theirs.place[0])
    assert_array_equal(ours.audible, theirs.audible[0])
    assert_allclose(ours.offset_s, theirs.offset_s[0], atol=1e-6)
    assert ours.audible.any()
    assert not ours.audible.any(1).all()

    sound = torch.randn(1, 60, 6, dtype=torch.float64)
    guide, heard = audio_at_frames(sound, tokens, valid, times)
    places = torch.from_numpy(ours.neighbours)[None], torch.from_numpy(ours.weights.astype(np.float64))[None]
    assert_allclose(blend(sound, *places), guide, atol=1e-6)
    assert_array_equal(ours.weights.any(1), heard[0])
