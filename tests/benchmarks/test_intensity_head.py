"""The benchmark of the intensity head computes its figures correctly, and its head learns."""

import numpy as np
import pytest
import torch

from benchmarks.accuracy.intensity_head import Stills, agreement, contradictions, estimate, fit_head


def test_agreement_is_icc_3_1_correlation_and_mean_absolute_error() -> None:
    truth = np.random.default_rng(0).uniform(0, 4, (50, 2)).astype(np.float32)
    table = agreement(("AU45", "AU12"), np.stack([truth[:, 0] + 1, 4 - truth[:, 1]], axis=1), truth)
    assert table.loc["AU45"].tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert table.loc["AU12", ["ICC", "r"]].tolist() == pytest.approx([-1, -1], abs=1e-5)


def test_contradictions_are_shares_of_active_and_of_inactive_aus() -> None:
    active = np.array([[True, True, False], [True, True, False]])
    found = contradictions(active, np.float32([[0.4, 0.5, 2.9], [3.0, 5.0, 3.0]]))
    assert list(found.values()) == [0.25, 0.5]


def test_a_head_learns_intensities_that_the_detection_logit_does_not_contain() -> None:
    random = torch.Generator().manual_seed(0)
    state, au_tokens = torch.randn(400, 8, generator=random), torch.randn(400, 2, 4, generator=random)
    logits = 4 * torch.randn(400, 2, generator=random)
    truth = 5 * torch.sigmoid(0.7 * logits - 1 + 0.8 * torch.sign(au_tokens[..., 0]))
    stills = Stills(state, au_tokens, logits, truth)
    estimated = estimate(fit_head(stills), stills)
    error = np.abs(estimated - truth.numpy()).mean()
    without = (5 * torch.sigmoid(0.7 * logits - 1) - truth).abs().mean().item()
    assert error < 0.5 * without
