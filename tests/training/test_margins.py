"""Margins: a window has the logits it has within the whole track, and only its own frames are trained on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from auscan.core.config import AlignmentConfig, FusionConfig, TemporalConfig
from auscan.core.errors import InputError
from auscan.datasets.index import read_index
from auscan.model.mamba import BiMamba
from auscan.training.config import ControlConfig, DropoutConfig, ModelConfig, check_train_config
from auscan.training.epoch import EpochBatches
from auscan.training.module import FeatureNetwork, FeatureSizes, build_network
from auscan.training.tracks import LabelledTrack, load_tracks
from auscan.training.windows import (
    Window,
    WindowBatches,
    collate,
    slice_track,
    slice_track_with_margin,
)

MODEL = ModelConfig(
    size="nano",
    alignment=AlignmentConfig(width=16, au_width=4, heads=2, active_patches=3),
    fusion=FusionConfig(heads=2),
    temporal=TemporalConfig(blocks=2, head_width=8, state_width=4),
)
SIZES = FeatureSizes(width=12, grid=2, audio_width=6)


def build(controls: ControlConfig | None = None) -> FeatureNetwork:
    """Build a network in which every part contributes to the output."""
    torch.manual_seed(0)
    model = MODEL if controls is None else MODEL.model_copy(update={"controls": controls})
    network = build_network(SIZES, model)
    for weight in network.parameters():
        if not weight.any():
            weight.data = 0.3 * torch.randn(weight.shape)
    return network.eval()


@pytest.fixture(scope="module")
def tracks(
    make_features: Callable[..., tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> list[LabelledTrack]:
    """Tracks 900 and mute902, with missing frames."""
    index, cache = make_features(tmp_path_factory.mktemp("features"))
    return load_tracks(read_index(index), cache, ["train"])


@pytest.mark.parametrize("controls", [None, ControlConfig(guide="plain"), ControlConfig(fusion="concat")])
@pytest.mark.parametrize("window", [Window(0, 50, 80), Window(0, 0, 25), Window(0, 110, 130)])
def test_with_margins_over_the_whole_track_a_window_has_the_logits_of_the_whole_track(
    tracks: list[LabelledTrack],
    window: Window,
    controls: ControlConfig | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Independent of the chunks in which the margins are scanned."""
    monkeypatch.setattr("auscan.training.module.CHUNK_FRAMES", 13)
    network, track = build(controls), tracks[0]
    batch = slice_track_with_margin(track, window, 1000, 0.6)
    with torch.no_grad():
        whole = network(slice_track(track, slice(0, len(track.labels)), 0.6)).logits[0]
        within = network(batch).logits[0]
        alone = network(slice_track(track, slice(window.start, window.stop), 0.6)).logits[0]
    part = slice(window.start, window.stop)
    torch.testing.assert_close(within[part], whole[part], atol=1e-5, rtol=1e-4)
    assert not within[: window.start].any()
    assert not within[window.stop :].any()
    assert (alone - whole[part]).abs().max() > 1e-3, "frames beyond the window change the logits"


def test_windows_with_margins_do_not_depend_on_their_batch(tracks: list[LabelledTrack]) -> None:
    network = build()
    one, other = (
        slice_track_with_margin(tracks[0], Window(0, 40, 60), 30, 0.6),
        slice_track_with_margin(tracks[-1], Window(3, 5, 17), 8, 0.6),
    )
    with torch.no_grad():
        together = network(collate([one, other]))
        for row, alone in enumerate((one, other)):
            logits = network(alone).logits[0]
            torch.testing.assert_close(together.logits[row, : len(logits)], logits, atol=1e-5, rtol=1e-4)
    assert together.views is not None
    assert len(together.views.faces) == 8


def test_margins_carry_no_gradient_and_no_label(tracks: list[LabelledTrack]) -> None:
    batch = slice_track_with_margin(tracks[0], Window(0, 40, 60), 30, 0.6)
    assert batch.in_window is not None
    assert batch.in_window[0].nonzero()[:, 0].tolist() == list(range(30, 50))
    np.testing.assert_array_equal(batch.labels[0, 30:50], tracks[0].labels[40:60])
    assert (batch.labels[0, :30] == -1).all()
    assert (batch.labels[0, 50:] == -1).all()
    assert batch.face is not None
    face = batch.face.float().requires_grad_(True)
    build()(replace(batch, face=face)).logits.square().sum().backward()
    assert face.grad is not None
    moved = face.grad[0].abs().sum(1) > 0
    has_face = batch.has_face[0] & batch.in_window[0]
    assert torch.equal(moved, has_face)


def test_gradients_within_a_window_are_those_of_the_window_alone() -> None:
    """Without margins both implementations agree."""
    torch.manual_seed(0)
    memory = BiMamba(16, 6, TemporalConfig(blocks=2, head_width=8, state_width=4))
    for weight in memory.parameters():
        weight.data += 0.1 * torch.randn(weight.shape)
    x, audio_condition = torch.randn(20, 16, requires_grad=True), torch.randn(20, 6)
    times_s = torch.arange(20, dtype=torch.float64) / 30
    (one,) = torch.autograd.grad(memory(x[None], audio_condition[None], times_s[None]).square().sum(), x)
    out = memory.forward_long(x, audio_condition, times_s, grad_window=slice(0, 20))
    (other,) = torch.autograd.grad(out.square().sum(), x)
    torch.testing.assert_close(one, other)


def test_a_window_with_face_dropout_still_has_a_graph(tracks: list[LabelledTrack]) -> None:
    batch = slice_track_with_margin(tracks[0], Window(0, 40, 44), 20, 0.6)
    assert batch.in_window is not None
    output = build()(replace(batch, has_face=batch.has_face & ~batch.in_window))
    assert not output.logits.any()
    output.logits.sum().backward()


def test_face_dropout_stays_within_the_window(tracks: list[LabelledTrack]) -> None:
    windows = WindowBatches(tracks, [Window(0, 40, 60)], 0.2, margin=30)
    config = DropoutConfig(no_sound=0, no_face=1, no_face_length=0.5)
    batch = EpochBatches(windows, [0] * 50, config, augment=False, seed=(0,))[range(50)]
    lost = windows.window(0).has_face & ~batch.has_face
    assert lost.any(1).sum() > 30
    assert batch.in_window is not None
    assert not (lost & ~batch.in_window).any()
    assert lost.sum(1).max() <= 10


@pytest.mark.parametrize("controls", [{"temporal": "tcn"}, {"fusion": "symmetric"}])
def test_margins_need_a_temporal_model_with_a_state(controls: dict[str, str]) -> None:
    content = {
        "out": "run",
        "data": {"index": "i", "cache": "c", "margin": 100},
        "model": {"controls": controls},
    }
    with pytest.raises(InputError, match=r"data\.margin needs temporal: mamba"):
        check_train_config(content, "settings")
