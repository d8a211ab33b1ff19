"""Test that variants of nano do not use the parts they leave out, and that the correlation loss is exact."""

import numpy as np
import pytest
import torch

from auscan.core.config import nano
from auscan.model.network import AudioInput, AuscanNetwork
from recipes.nano.train.clip_stage import LOGIT_SCALE, MIN_SPREAD, correlation_loss
from recipes.nano.train.face_stage import freeze_variant


def network(variant: str) -> AuscanNetwork:
    """Build a network with random fusion output; a new network ignores audio."""
    torch.manual_seed(0)
    model = AuscanNetwork(nano()).eval()
    torch.nn.init.normal_(model.temporal.fusion.out.weight, std=0.2)
    freeze_variant(model, variant)
    return model


def train_two_steps(model: AuscanNetwork) -> None:
    crops = torch.randint(0, 255, (2, 6, 112, 112, 3), dtype=torch.uint8)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        model(
            crops, torch.arange(6.0, dtype=torch.float64).expand(2, -1) / 25, sound()
        ).square().mean().backward()
        optimizer.step()


def sound() -> AudioInput:
    times_s = (torch.arange(40, dtype=torch.float64) + 0.5).expand(2, -1) / 50
    return AudioInput(torch.randn(2, 40, 96), times_s, torch.ones(2, 40, dtype=torch.bool))


@pytest.mark.parametrize(("variant", "uses_patches"), [("full", True), ("whole-face-only", False)])
def test_only_the_full_network_uses_patches(variant: str, uses_patches: bool) -> None:
    model = network(variant)
    train_two_steps(model)
    face, patches = torch.randn(1, 3, 256), torch.randn(1, 3, 49, 256)
    with torch.no_grad():
        one, other = (model.visual.alignment(face, each) for each in (patches, patches.flip(2)))
    assert torch.equal(one.au_tokens, other.au_tokens) != uses_patches
    assert torch.equal(one.embedding, other.embedding) != uses_patches


@pytest.mark.parametrize(("variant", "uses_audio"), [("full", True), ("no-audio", False)])
def test_only_the_full_network_uses_audio(variant: str, uses_audio: bool) -> None:
    model = network(variant)
    train_two_steps(model)
    embedding, au_tokens = torch.randn(2, 20, 128), torch.randn(2, 20, 12, 32)
    times_s = torch.arange(20.0, dtype=torch.float64).expand(2, -1) / 25
    with torch.no_grad():
        with_audio, without_audio = (
            model.temporal(embedding, au_tokens, times_s, each).logits for each in (sound(), None)
        )
    assert torch.allclose(with_audio, without_audio, atol=1e-6) != uses_audio


def test_the_correlation_loss_is_one_minus_the_correlation_if_the_teacher_varies() -> None:
    random = np.random.default_rng(0)
    logits, soft = random.normal(size=(2, 50, 12)), random.random((2, 50, 12))
    labels = random.integers(-1, 2, (2, 50, 12))
    soft[0, :, :4] = 0.5 + 0.01 * MIN_SPREAD  # the teacher hardly varies
    labels[1, 20:, 5] = -1  # too few labels
    expected = []
    for clip in range(2):
        for column in range(12):
            known = labels[clip, :, column] >= 0
            if known.sum() > 30 and soft[clip, known, column].std() > MIN_SPREAD:
                predicted = 1 / (1 + np.exp(-LOGIT_SCALE * logits[clip, known, column]))
                score = np.log(soft[clip, known, column] / (1 - soft[clip, known, column]))
                expected.append(1 - np.corrcoef(predicted, score)[0, 1])
    loss = correlation_loss(*(torch.from_numpy(each) for each in (logits, labels, soft)))
    assert len(expected) < 24 - 4
    assert loss.item() == pytest.approx(np.mean(expected), abs=1e-6)
