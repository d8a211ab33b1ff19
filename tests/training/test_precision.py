"""The network trains in float16, bfloat16 and float32, with patches dropped."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.config import AlignmentConfig, FusionConfig, TemporalConfig
from auscan.datasets.index import read_index
from auscan.model.alignment import GranularityAlignment
from auscan.training.config import LossConfig, ModelConfig
from auscan.training.losses import Criterion
from auscan.training.module import FeatureSizes, build_network
from auscan.training.tracks import load_tracks
from auscan.training.windows import collate, slice_track

MODEL = ModelConfig(
    size="nano",
    alignment=AlignmentConfig(width=16, au_width=4, heads=2, active_patches=2),
    fusion=FusionConfig(heads=2),
    temporal=TemporalConfig(blocks=1, head_width=8, state_width=4),
)
LOSSES = LossConfig(bce=1.0, asymmetric=0.5, soft_f1=0.5, alignment=0.1)
STEPS = 20


@pytest.mark.parametrize("bias", [0.0, -40.0], ids=["scores around 0", "scores that underflow"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_training_steps_are_finite_and_lower_the_loss(
    make_features: Callable[..., tuple[Path, Path]], tmp_path: Path, dtype: torch.dtype, bias: float
) -> None:
    """In float16 the sigmoid of -40 is 0, for active patches too."""
    index, cache = make_features(tmp_path)
    tracks = load_tracks(read_index(index), cache, ["train"])
    batch = collate([slice_track(track, slice(0, 60), 0.6) for track in tracks])
    torch.manual_seed(0)
    network = build_network(FeatureSizes.from_header(tracks[0].features.header), MODEL)
    assert isinstance(network.alignment, GranularityAlignment)
    network.alignment.score[2].bias.data.fill_(bias)
    selected: list[torch.Tensor] = []
    network.alignment.register_forward_hook(lambda module, inputs, out: selected.append(out.attention))
    criterion, losses = Criterion(LOSSES, torch.ones(12), AFFWILD2_AUS), []
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=dtype == torch.float16)
    for _ in range(STEPS):
        with nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype):
            output = network(batch)
            loss = criterion(output).total
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        for name, weight in network.named_parameters():
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert ((selected[-1] == 0).sum(-1) >= 1).all(), "each AU drops a patch"
    assert sum(losses[-3:]) < 0.95 * sum(losses[:3])
    assert all(weight.isfinite().all() for weight in network.parameters())
