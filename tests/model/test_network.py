"""Test the joined network: its stages, missing audio, chunks, padding and gradients."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from auscan.core.config import HubAudioConfig, HubVisualConfig, NetworkConfig, base, large
from auscan.encoders.visual import HubVisualEncoder
from auscan.faces.align import SIDE, TEMPLATE
from auscan.model.alignment import contrast_loss
from auscan.model.head import ActionUnitHead, IntensityHead, to_intensity
from auscan.model.network import POINT_SCALE_PX, AudioInput, AuscanNetwork

BATCH, FRAMES, RATE_HZ, START_S = 2, 20, 25.0, 3600.0
AU_COUNT = 12
SECONDS = FRAMES / RATE_HZ
AUDIO_WEIGHTS = ("audio.", "temporal.fusion.", "audio_condition")


def random_crops(frames: int = FRAMES, side: int = 32, seed: int = 0) -> Tensor:
    """Return crops [B, T, S, S, 3] uint8: constant noise plus noise per frame, so that frames are similar."""
    random = torch.Generator().manual_seed(seed)
    still = torch.randint(0, 120, (BATCH, 1, side, side, 3), generator=random)
    moving = torch.randint(0, 120, (BATCH, frames, side, side, 3), generator=random)
    return (still + moving).to(torch.uint8)


def frame_times_s(frames: int = FRAMES) -> Tensor:
    """Return uneven frame times [B, T] float64 after one hour."""
    random = torch.Generator().manual_seed(1)
    jitter = torch.rand(BATCH, frames, generator=random, dtype=torch.float64) * 0.3
    return START_S + (torch.arange(frames, dtype=torch.float64) + jitter) / RATE_HZ


def random_audio(network: AuscanNetwork, seed: int = 0) -> AudioInput:
    """Return the audio tokens of noise that starts with the first frame."""
    random = torch.Generator().manual_seed(seed)
    tokens = network.audio(0.1 * torch.randn(BATCH, round(SECONDS * 16_000), generator=random))
    times_s = START_S + (torch.arange(tokens.shape[1], dtype=torch.float64) + 0.5) * 0.02
    return AudioInput(tokens, times_s.expand(BATCH, -1), torch.ones(tokens.shape[:2], dtype=torch.bool))


def is_audio_weight(name: str) -> bool:
    """Return whether a weight is used for audio only."""
    return any(part in name for part in AUDIO_WEIGHTS)


def perturb(network: AuscanNetwork, chosen: Callable[[str], bool]) -> list[str]:
    """Add large random numbers to the chosen weights and return their names."""
    random = torch.Generator().manual_seed(5)
    names = []
    for name, weight in network.named_parameters():
        if chosen(name):
            weight.data = weight.data + torch.randn(weight.shape, generator=random)
            names.append(name)
    return names


@torch.no_grad()
def test_crops_and_audio_become_twelve_logits_a_frame(tiny_network: AuscanNetwork) -> None:
    logits = tiny_network(random_crops(), frame_times_s(), random_audio(tiny_network))
    assert logits.shape == (BATCH, FRAMES, AU_COUNT)
    assert logits.isfinite().all()


@torch.no_grad()
def test_without_audio_no_audio_weight_changes_the_logits(tiny_network: AuscanNetwork) -> None:
    """A clip without audio must be scored from the face alone, bit for bit."""
    crops, times_s = random_crops(), frame_times_s()
    before = tiny_network(crops, times_s)
    names = perturb(tiny_network, is_audio_weight)
    for part in AUDIO_WEIGHTS:
        assert any(part in name for name in names)
    assert torch.equal(tiny_network(crops, times_s), before)


@torch.no_grad()
@pytest.mark.parametrize("part", AUDIO_WEIGHTS)
def test_with_audio_every_audio_weight_changes_the_logits(tiny_network: AuscanNetwork, part: str) -> None:
    """Counterpart of the test above, which would also pass if these weights were never used."""
    crops, times_s = random_crops(), frame_times_s()
    before = tiny_network(crops, times_s, random_audio(tiny_network))
    perturb(tiny_network, lambda name: part in name)
    after = tiny_network(crops, times_s, random_audio(tiny_network))
    assert (after - before).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("part", ["visual.", "temporal.memory.", "temporal.head."])
def test_without_audio_the_visual_weights_change_the_logits(tiny_network: AuscanNetwork, part: str) -> None:
    crops, times_s = random_crops(), frame_times_s()
    before = tiny_network(crops, times_s)
    perturb(tiny_network, lambda name: name.startswith(part) and not is_audio_weight(name))
    assert (tiny_network(crops, times_s) - before).abs().max() > 1e-3


@torch.no_grad()
def test_audio_without_a_valid_token_equals_no_audio(tiny_network: AuscanNetwork) -> None:
    """A training batch mixes clips with and without audio, so a mask of False must be equivalent to None."""
    crops, times_s, sound = random_crops(), frame_times_s(), random_audio(tiny_network)
    nothing = AudioInput(sound.tokens, sound.times_s, torch.zeros_like(sound.valid))
    assert_close(tiny_network(crops, times_s, nothing), tiny_network(crops, times_s), atol=1e-6, rtol=0)
    elsewhere = AudioInput(sound.tokens, sound.times_s + 60.0, sound.valid)
    assert_close(tiny_network(crops, times_s, elsewhere), tiny_network(crops, times_s), atol=1e-6, rtol=0)


@torch.no_grad()
def test_delayed_audio_changes_the_logits(tiny_network: AuscanNetwork) -> None:
    crops, times_s, sound = random_crops(), frame_times_s(), random_audio(tiny_network)
    late = AudioInput(sound.tokens, sound.times_s + 0.2, sound.valid)
    apart = tiny_network(crops, times_s, late) - tiny_network(crops, times_s, sound)
    assert apart.abs().max() > 1e-3


@torch.no_grad()
def test_a_frame_depends_on_the_frames_before_and_after(tiny_network: AuscanNetwork) -> None:
    """A change of one frame must affect all frames, which is only possible through the temporal model."""
    crops, times_s = random_crops(), frame_times_s()
    before = tiny_network(crops, times_s)
    for touched in (2, FRAMES - 3):
        changed = crops.clone()
        changed[:, touched] = 255 - changed[:, touched]
        moved = (tiny_network(changed, times_s) - before).abs().amax(dim=(0, 2))
        assert (moved > 1e-6).all()


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 7, 2048])
@pytest.mark.parametrize("with_sound", [False, True])
def test_a_long_track_gives_the_same_logits_in_chunks(
    tiny_network: AuscanNetwork, chunk: int, with_sound: bool
) -> None:
    crops, times_s = random_crops(), frame_times_s()
    sound = random_audio(tiny_network) if with_sound else None
    whole = tiny_network(crops, times_s, sound)
    aligned = tiny_network.visual(crops).aligned
    for clip in range(BATCH):
        own = (
            AudioInput(*(getattr(sound, n)[clip : clip + 1] for n in AudioInput.__slots__)) if sound else None
        )
        logits = tiny_network.temporal.forward_long(
            aligned.embedding[clip], aligned.au_tokens[clip], times_s[clip], own, chunk
        ).logits
        assert_close(logits, whole[clip], atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("cut", [1, 7, 19])
def test_encoding_crops_in_chunks_changes_nothing(tiny_network: AuscanNetwork, cut: int) -> None:
    crops = random_crops()
    whole = tiny_network.visual(crops)
    first = tiny_network.visual(crops[:, :cut])
    second = tiny_network.visual(crops[:, cut:], first.last_patches)
    for part in ("embedding", "au_tokens", "patch_weights"):
        joined = torch.cat([getattr(first.aligned, part), getattr(second.aligned, part)], dim=1)
        assert_close(joined, getattr(whole.aligned, part), atol=1e-5, rtol=1e-5)
    for part in ("points", "pose_occlusion"):
        joined = torch.cat([getattr(first, part), getattr(second, part)], dim=1)
        assert_close(joined, getattr(whole, part), atol=1e-4, rtol=1e-5)
    assert_close(second.last_patches, whole.last_patches, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_padding_at_the_end_of_a_clip_leaves_its_logits(tiny_network: AuscanNetwork) -> None:
    """Clips of a training batch differ in length."""
    crops, times_s, sound = random_crops(), frame_times_s(), random_audio(tiny_network)
    aligned = tiny_network.visual(crops).aligned
    short = FRAMES - 6
    alone = tiny_network.temporal(
        aligned.embedding[:, :short], aligned.au_tokens[:, :short], times_s[:, :short], sound
    ).logits
    valid = (torch.arange(FRAMES) < short).expand(BATCH, -1)
    padded = tiny_network.temporal(aligned.embedding, aligned.au_tokens, times_s, sound, valid).logits
    assert_close(padded[:, :short], alone, atol=1e-5, rtol=1e-5)
    unmasked = tiny_network.temporal(aligned.embedding, aligned.au_tokens, times_s, sound).logits
    assert not torch.allclose(unmasked[:, :short], alone, atol=1e-4)


def test_every_weight_learns_from_labels_intensities_points_pose_and_alignment(
    build_network: Callable[..., AuscanNetwork], tiny_config: NetworkConfig
) -> None:
    """A weight without a gradient would be unused."""
    network = build_network(tiny_config.model_copy(update={"intensity": True})).train()
    random, output = torch.Generator().manual_seed(2), network.visual(random_crops())
    aligned = output.aligned
    scores = network.temporal(aligned.embedding, aligned.au_tokens, frame_times_s(), random_audio(network))
    loss = torch.zeros(())
    for prediction in (*scores, output.points, output.pose_occlusion):
        loss = loss + (prediction * torch.randn(prediction.shape, generator=random)).sum()
    faces, regions = network.visual.alignment.contrast(aligned.face[:, 0], aligned.local[:, 0])
    loss = loss + contrast_loss(
        faces, regions, torch.zeros(len(faces), len(faces), AU_COUNT, dtype=torch.bool)
    )
    opening = network.temporal.opening(aligned.embedding, random_audio(network).tokens)
    loss = loss + sum((each * torch.randn(each.shape, generator=random)).sum() for each in opening)
    loss.backward()
    idle = [name for name, weight in network.named_parameters() if weight.grad is None]
    still = [name for name, weight in network.named_parameters() if not weight.grad.any()]
    assert (idle, still) == ([], [])


@torch.no_grad()
@pytest.mark.parametrize("side", [32, 64])
def test_points_are_the_template_moved_by_the_network_in_crop_pixels(
    build_network: Callable[..., AuscanNetwork], tiny_config: NetworkConfig, side: int
) -> None:
    visual = tiny_config.visual.model_copy(update={"crop_size": side})
    network = build_network(tiny_config.model_copy(update={"visual": visual}))
    shift = torch.randn(10, generator=torch.Generator().manual_seed(0))
    network.visual.points.weight.zero_()
    network.visual.points.bias.copy_(shift)
    points = network.visual(random_crops(side=side)).points
    assert points.shape == (BATCH, FRAMES, 5, 2)
    expected = torch.from_numpy(TEMPLATE) * side / SIDE + POINT_SCALE_PX * shift.view(5, 2)
    assert_close(points[1, 3], expected)


@torch.no_grad()
def test_pose_and_occlusion_are_in_degrees_and_a_share(tiny_network: AuscanNetwork) -> None:
    tiny_network.visual.pose_occlusion.weight.zero_()
    tiny_network.visual.pose_occlusion.bias.copy_(torch.tensor([1.5, -0.5, -1.0]))
    pose_occlusion = tiny_network.visual(random_crops()).pose_occlusion
    assert pose_occlusion.shape == (BATCH, FRAMES, 3)
    assert_close(pose_occlusion[1, 3], torch.tensor([45.0, -15.0, 0.2689414]))


@torch.no_grad()
def test_each_logit_depends_on_its_own_token_and_the_state() -> None:
    torch.manual_seed(0)
    head = ActionUnitHead(width=8, au_width=4, au_count=12)
    state, au_tokens = torch.randn(3, 8), torch.randn(3, AU_COUNT, 4)
    before = head(state, au_tokens)
    assert before.shape == (3, AU_COUNT)
    moved_token = au_tokens.clone()
    moved_token[:, 5] += 1.0
    moved = (head(state, moved_token) - before).abs().amax(0) > 1e-6
    assert moved.nonzero().flatten().tolist() == [5]
    assert ((head(state + 1.0, au_tokens) - before).abs().amax(0) > 1e-6).all()
    head.bias.data[2] = 7.0
    assert_close(head(state, au_tokens)[:, 2], before[:, 2] + 7.0)


def intensity_head(au_count: int = 3, own_weight: float = 9.0) -> IntensityHead:
    """Return a head with random weights and slopes; its own term is large, so that the limit matters."""
    torch.manual_seed(0)
    head = IntensityHead(width=8, au_width=4, au_count=au_count)
    head.weight.data = own_weight * torch.randn(au_count, 4)
    head.raw_slope.data += torch.randn(au_count)
    head.shift.data = torch.randn(au_count)
    return head


@torch.no_grad()
def test_intensity_rises_with_the_logit_of_its_au_and_lies_between_0_and_5() -> None:
    head, logits = intensity_head(), torch.linspace(-30, 30, 61)[:, None].expand(-1, 3)
    state, au_tokens = torch.randn(1, 8).expand(61, -1), torch.randn(1, 3, 4).expand(61, -1, -1)
    values = to_intensity(head(state, au_tokens, logits))
    assert ((values >= 0) & (values <= 5)).all()
    assert (values.diff(dim=0) > 0)[20:40].all()
    assert (values.diff(dim=0) >= 0).all()
    assert values[0].max() < 0.2
    assert values[-1].min() > 4.8
    other = logits.clone()
    other[:, 0] += 1.0
    moved = (to_intensity(head(state, au_tokens, other)) - values).abs().amax(0) > 1e-6
    assert moved.tolist() == [True, False, False]


@torch.no_grad()
def test_the_own_term_of_an_intensity_is_bounded_whatever_the_face() -> None:
    """So a detected AU cannot have an intensity near 0, unless the threshold itself has."""
    head = intensity_head()
    intensity_logits = head(100 * torch.randn(500, 8), 100 * torch.randn(500, 3, 4), torch.zeros(500, 3))
    own = intensity_logits - head.shift
    assert own.abs().max() <= 1.0 + 1e-6
    assert own.max() > 0.99
    assert own.min() < -0.99


def test_intensity_gives_no_gradient_to_the_detection_logit() -> None:
    head, logits = intensity_head(), torch.zeros(5, 3, requires_grad=True)
    state, au_tokens = torch.randn(5, 8, requires_grad=True), torch.randn(5, 3, 4, requires_grad=True)
    head(state, au_tokens, logits).sum().backward()
    assert logits.grad is None
    assert state.grad is not None
    assert au_tokens.grad is not None
    assert state.grad.any()
    assert au_tokens.grad.any()


@torch.no_grad()
def test_a_network_with_intensities_has_the_logits_of_one_without(
    build_network: Callable[..., AuscanNetwork], tiny_config: NetworkConfig
) -> None:
    plain = build_network()
    network = build_network(tiny_config.model_copy(update={"intensity": True}))
    added = network.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert added
    assert all(name.startswith("temporal.intensity_head.") for name in added)
    crops, times_s, sound = random_crops(), frame_times_s(), random_audio(network)
    assert torch.equal(network(crops, times_s, sound), plain(crops, times_s, sound))


@torch.no_grad()
@pytest.mark.parametrize("with_sound", [True, False])
def test_intensities_of_a_long_track_equal_those_of_a_clip(
    build_network: Callable[..., AuscanNetwork], tiny_config: NetworkConfig, with_sound: bool
) -> None:
    network = build_network(tiny_config.model_copy(update={"intensity": True}))
    times_s, sound = frame_times_s()[:1], random_audio(network)
    own = AudioInput(*(getattr(sound, name)[:1] for name in AudioInput.__slots__)) if with_sound else None
    aligned = network.visual(random_crops()[:1]).aligned
    whole = network.temporal(aligned.embedding, aligned.au_tokens, times_s, own)
    chunked = network.temporal.forward_long(
        aligned.embedding[0], aligned.au_tokens[0], times_s[0], own, chunk_frames=7
    )
    assert whole.intensity_logits is not None
    assert chunked.intensity_logits is not None
    assert_close(chunked.intensity_logits, whole.intensity_logits[0], atol=1e-4, rtol=0)


def with_backbones(config: NetworkConfig, folder: Path, visual: str = "dinov2") -> NetworkConfig:
    """Return the config with small local backbones instead of those from the hub."""
    dinov2 = HubVisualConfig(crop_size=28, source=str(folder / visual))
    wavlm = HubAudioConfig(source=str(folder / "wavlm"))
    return config.model_copy(update={"visual": dinov2, "audio": wavlm})


@torch.no_grad()
@pytest.mark.parametrize("size", [base, large])
@pytest.mark.parametrize("visual", ["dinov2", "registers"])
def test_base_and_large_can_be_built_and_run(
    backbones: Path, size: Callable[[], NetworkConfig], visual: str
) -> None:
    network = AuscanNetwork(with_backbones(size(), backbones, visual)).eval()
    assert isinstance(network.visual.encoder, HubVisualEncoder)
    logits = network(random_crops(3, side=28), frame_times_s(3), random_audio(network))
    assert logits.shape == (BATCH, 3, AU_COUNT)


def test_the_config_of_a_network_contains_the_settings_of_its_backbones(
    backbones: Path, tiny_config: NetworkConfig
) -> None:
    config = AuscanNetwork(with_backbones(tiny_config, backbones)).config
    kinds: list[Any] = [config.visual, config.audio]
    assert [part.arch["model_type"] for part in kinds] == ["dinov2", "wavlm"]
    assert [part.arch["hidden_size"] for part in kinds] == [16, 16]
