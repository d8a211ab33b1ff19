"""What nano is held against is nano with a door closed, before training and after."""

import numpy as np
import pytest
import torch

from auscan.core.config import nano
from auscan.model.network import AuscanNetwork, Sound
from recipes.nano.train.clip_stage import SHARPER, VARIES, shape_loss
from recipes.nano.train.face_stage import close_doors


def network(variant: str) -> AuscanNetwork:
    """With weights that would let everything through; a fresh network does not listen."""
    torch.manual_seed(0)
    made = AuscanNetwork(nano()).eval()
    torch.nn.init.normal_(made.temporal.fusion.out.weight, std=0.2)
    close_doors(made, variant)
    return made


def learn_a_little(made: AuscanNetwork) -> None:
    crops = torch.randint(0, 255, (2, 6, 112, 112, 3), dtype=torch.uint8)
    learning = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        made(
            crops, torch.arange(6.0, dtype=torch.float64).expand(2, -1) / 25, sound()
        ).square().mean().backward()
        learning.step()


def sound() -> Sound:
    times_s = (torch.arange(40, dtype=torch.float64) + 0.5).expand(2, -1) / 50
    return Sound(torch.randn(2, 40, 96), times_s, torch.ones(2, 40, dtype=torch.bool))


@pytest.mark.parametrize(("variant", "reads"), [("full", True), ("whole-face-only", False)])
def test_only_the_full_network_reads_patches(variant: str, reads: bool) -> None:
    made = network(variant)
    learn_a_little(made)
    face, patches = torch.randn(1, 3, 256), torch.randn(1, 3, 49, 256)
    with torch.no_grad():
        one, other = (made.visual.alignment(face, each) for each in (patches, patches.flip(2)))
    assert torch.equal(one.au_tokens, other.au_tokens) != reads
    assert torch.equal(one.embedding, other.embedding) != reads


@pytest.mark.parametrize(("variant", "hears"), [("full", True), ("no-audio", False)])
def test_only_the_full_network_hears(variant: str, hears: bool) -> None:
    made = network(variant)
    learn_a_little(made)
    embedding, au_tokens = torch.randn(2, 20, 128), torch.randn(2, 20, 12, 32)
    times_s = torch.arange(20.0, dtype=torch.float64).expand(2, -1) / 25
    with torch.no_grad():
        heard, silent = (made.temporal(embedding, au_tokens, times_s, each) for each in (sound(), None))
    assert torch.allclose(heard, silent, atol=1e-6) != hears


def test_the_shape_loss_is_one_less_the_correlation_where_the_teacher_varies() -> None:
    random = np.random.default_rng(0)
    logits, soft = random.normal(size=(2, 50, 12)), random.random((2, 50, 12))
    labels = random.integers(-1, 2, (2, 50, 12))
    soft[0, :, :4] = 0.5 + 0.01 * VARIES  # here the teacher says the same all the time
    labels[1, 20:, 5] = -1  # and here it says too little
    wanted = []
    for clip in range(2):
        for column in range(12):
            known = labels[clip, :, column] >= 0
            if known.sum() > 30 and soft[clip, known, column].std() > VARIES:
                said = 1 / (1 + np.exp(-SHARPER * logits[clip, known, column]))
                score = np.log(soft[clip, known, column] / (1 - soft[clip, known, column]))
                wanted.append(1 - np.corrcoef(said, score)[0, 1])
    loss = shape_loss(*(torch.from_numpy(each) for each in (logits, labels, soft)))
    assert len(wanted) < 24 - 4
    assert loss.item() == pytest.approx(np.mean(wanted), abs=1e-6)
