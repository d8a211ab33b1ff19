"""Training network: its parts are those of the shipped network; missing frames do not change other frames."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.config import AlignmentConfig, FusionConfig, NetworkConfig, TemporalConfig
from auscan.core.errors import InputError
from auscan.datasets.index import read_index
from auscan.model.migrate import from_format_1
from auscan.model.network import AudioInput
from auscan.training.build import parameter_table
from auscan.training.config import ControlConfig, ModelConfig
from auscan.training.controls import BiGru, LocalTransformer, Tcn, match_parameter_count, parameter_count
from auscan.training.module import (
    FeatureNetwork,
    FeatureSizes,
    build_network,
    network_config,
    pack_visible_frames,
)
from auscan.training.predict import score_tracks
from auscan.training.tracks import LabelledTrack, load_tracks, sample_audio
from auscan.training.windows import Batch, collate, slice_track

MODEL = ModelConfig(
    size="nano",
    alignment=AlignmentConfig(width=16, au_width=4, heads=2, active_patches=3),
    fusion=FusionConfig(heads=2),
    temporal=TemporalConfig(blocks=2, head_width=8, state_width=4),
)
SIZES = FeatureSizes(width=12, grid=2, audio_width=6)
CONTROLS = [
    ControlConfig(),
    ControlConfig(visual="global"),
    ControlConfig(fusion="symmetric"),
    ControlConfig(fusion="concat"),
    ControlConfig(fusion="none"),
    ControlConfig(temporal="tcn"),
    ControlConfig(temporal="transformer"),
    ControlConfig(temporal="bigru"),
    ControlConfig(temporal="none"),
    ControlConfig(guide="plain"),
    ControlConfig(visual="all"),
    ControlConfig(late_path=False),
]


def name_of(controls: ControlConfig) -> str:
    return "-".join(str(value) for value in controls.model_dump(exclude_defaults=True).values()) or "method"


def build(controls: ControlConfig = CONTROLS[0]) -> FeatureNetwork:
    """Build a network in which every part contributes to the output."""
    torch.manual_seed(0)
    network = build_network(SIZES, MODEL.model_copy(update={"controls": controls}))
    for weight in network.parameters():
        if not weight.any():
            weight.data = 0.3 * torch.randn(weight.shape)
    return network.eval()


@pytest.fixture(scope="module")
def tracks(
    make_features: Callable[..., tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> list[LabelledTrack]:
    """Tracks 900 and mute902 with missing frames, 903 without."""
    index, cache = make_features(tmp_path_factory.mktemp("features"))
    return load_tracks(read_index(index), cache, ["train"])


@pytest.mark.parametrize("controls", CONTROLS, ids=name_of)
def test_windows_and_whole_tracks_have_the_same_logits(
    tracks: list[LabelledTrack], controls: ControlConfig
) -> None:
    network = build(controls)
    for track in (tracks[0], tracks[-1]):
        whole = network.predict_track(track.features).probabilities
        with torch.no_grad():
            logits = network(slice_track(track, slice(0, len(track.labels)), audio_margin_s=1.0)).logits[0]
        has_face = track.features.has_image
        np.testing.assert_allclose(whole[has_face], torch.sigmoid(logits)[has_face].numpy(), atol=1e-5)
        assert np.isnan(whole[~has_face]).all()
        assert not logits[~has_face].any()


@pytest.mark.parametrize("controls", CONTROLS, ids=name_of)
def test_the_logits_of_a_window_do_not_depend_on_its_batch(
    tracks: list[LabelledTrack], controls: ControlConfig
) -> None:
    """Padding of frames and of audio must not change them."""
    network = build(controls)
    long, short = slice_track(tracks[0], slice(0, 90), 0.6), slice_track(tracks[1], slice(10, 33), 0.6)
    with torch.no_grad():
        alone, together = network(short).logits[0], network(collate([long, short])).logits[1, :23]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("controls", CONTROLS, ids=name_of)
def test_every_trained_weight_has_a_gradient(tracks: list[LabelledTrack], controls: ControlConfig) -> None:
    network = build(controls)
    output = network(slice_track(tracks[0], slice(0, 60), 0.6))
    loss = output.logits.square().sum()
    loss = loss + output.opening.square().sum()
    if output.views is not None:
        loss = loss + (output.views.faces * output.views.regions).sum()
    loss.backward()
    trained = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    assert [name for name, weight in trained.items() if weight.grad is None] == []
    frozen = {name for name, _ in network.named_parameters()} - trained.keys()
    switched_off = {"plain": "audio_condition", False: "late_path"}
    expected = [switched_off[each] for each in (controls.guide, controls.late_path) if each in switched_off]
    assert all(any(part in name for part in expected) for name in frozen)
    assert bool(frozen) == bool(expected)


def test_features_of_frames_without_a_face_are_not_used(tracks: list[LabelledTrack]) -> None:
    network, batch = build(), slice_track(tracks[0], slice(0, 60), 0.6)
    changed = replace(batch, face=batch.face.clone(), patches=batch.patches.clone())
    changed.face[~batch.has_face] = 9.0
    changed.patches[~batch.has_face] = 9.0
    with torch.no_grad():
        torch.testing.assert_close(network(changed).logits, network(batch).logits)


def test_missing_frames_are_skipped_as_at_inference(tracks: list[LabelledTrack]) -> None:
    """At inference a track has no rows for missing frames; times and audio are unchanged."""
    network, batch = build(), slice_track(tracks[0], slice(0, 60), 0.6)
    has_face = batch.has_face[0]
    rows = {
        name: getattr(batch, name)[:, has_face]
        for name in ("face", "patches", "times_s", "labels", "covers", "intensities", "own_audio", "has_face")
    }
    with torch.no_grad():
        dense = network(replace(batch, **rows)).logits[0]
        torch.testing.assert_close(network(batch).logits[0, has_face], dense)


def test_a_window_without_any_face_has_logits_of_0(tracks: list[LabelledTrack]) -> None:
    batch = slice_track(tracks[0], slice(0, 20), 0.6)
    output = build()(replace(batch, has_face=torch.zeros_like(batch.has_face)))
    assert not output.logits.any()
    assert output.views is not None
    assert output.views.faces.shape == (0, 12, 16)


def test_visible_frames_come_first_and_in_order() -> None:
    has_face = torch.tensor([[False, True, False, True], [True, False, False, False]])
    order, valid = pack_visible_frames(has_face)
    assert order[0].tolist() == [1, 3]
    assert order[1, 0] == 0
    assert valid.tolist() == [[True, True], [True, False]]


def test_views_are_spread_evenly_and_never_repeated(tracks: list[LabelledTrack]) -> None:
    network = build()
    few, many = slice_track(tracks[0], slice(0, 3), 0.6), slice_track(tracks[0], slice(0, 60), 0.6)
    few = replace(few, has_face=torch.ones_like(few.has_face))
    views = network(collate([few, many])).views
    assert views is not None
    assert len(views[0]) == len(torch.unique(views[0], dim=0)) == 3 + 4


@pytest.mark.parametrize("controls", CONTROLS[1:9], ids=name_of)
def test_controls_have_about_as_many_weights_at_real_sizes(controls: ControlConfig) -> None:
    sizes, model = FeatureSizes(width=768, grid=4, audio_width=768), ModelConfig(size="base")
    with torch.device("meta"):
        method, other = (
            build_network(sizes, model.model_copy(update={"controls": each}))
            for each in (ControlConfig(), controls)
        )
    for part in ("alignment", "temporal.fusion", "temporal.memory"):
        wanted, got = (parameter_count(network.get_submodule(part)) for network in (method, other))
        if not (part == "temporal.fusion" and controls.fusion == "none"):
            assert got == pytest.approx(wanted, rel=0.03)


def test_the_parameter_table_lists_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    model = MODEL.model_copy(update={"controls": ControlConfig(fusion="none")})
    text = parameter_table(build_network(SIZES, model), SIZES, model)
    assert [line.split()[0] for line in text.splitlines()[1:]] == [
        "alignment",
        "fusion",
        "memory",
        "head",
        "total",
        "k",
    ]
    assert text.splitlines()[2].split()[1] == "0"
    assert text.splitlines()[-1] == "k = 3 of N = 4 patches (2 x 2) are active"
    model = MODEL.model_copy(update={"controls": ControlConfig(visual="global")})
    assert "k = 0 of N = 4" in parameter_table(build_network(SIZES, model), SIZES, model)


@pytest.mark.parametrize(("grid", "active"), [(2, 1), (4, 4), (7, 12), (16, 64)])
def test_a_new_network_keeps_a_quarter_of_the_patches(grid: int, active: int) -> None:
    """Of every size and grid. The stored settings have the number and do not depend on the default."""
    sizes = SIZES.model_copy(update={"grid": grid})
    for size in ("nano", "base", "large"):
        config = network_config(sizes, ModelConfig(size=size))
        assert config.alignment.active_patches == active
    half = MODEL.model_copy(update={"alignment": AlignmentConfig(heads=2, active_share=0.5)})
    assert network_config(sizes, half).alignment.active_patches == round(0.5 * grid**2)


@pytest.mark.parametrize("active", [4, 5, 64])
def test_a_new_network_that_would_keep_all_patches_is_refused(active: int) -> None:
    alignment = AlignmentConfig(width=16, au_width=4, heads=2, active_patches=active)
    model = MODEL.model_copy(update={"alignment": alignment})
    expected = rf"active_patches {active} keeps k = {active} .* N = 4 \(grid 2 x 2\).* below 4, or omit it"
    with pytest.raises(InputError, match=expected):
        build_network(SIZES, model)
    build_network(SIZES, model.model_copy(update={"controls": ControlConfig(visual="global")}))
    earlier = FeatureNetwork(SIZES, model.network(), model.controls)  # as a stored one is loaded
    assert earlier.alignment.active == 4


def test_one_patch_leaves_nothing_to_select() -> None:
    sizes = SIZES.model_copy(update={"grid": 1})
    with pytest.raises(InputError, match=r"active_share 0\.25 keeps k = 1 .* N = 1 .*larger --grid"):
        build_network(sizes, ModelConfig(size="nano"))


def test_match_parameter_count_finds_the_nearest_width() -> None:
    layer = match_parameter_count(lambda width: nn.Linear(width, 1, bias=False), target=100, step=8)
    assert parameter_count(layer) in (96, 104)
    assert (
        parameter_count(
            match_parameter_count(lambda width: nn.Linear(width, 1, bias=False), target=3, step=8)
        )
        == 8
    )


@pytest.mark.parametrize(("kind", "reach"), [(Tcn, 2 * (1 + 2 + 4 + 8)), (LocalTransformer, 2 * 64)])
def test_temporal_controls_without_a_state_do_not_exceed_their_reach(
    kind: type[nn.Module], reach: int
) -> None:
    """Two blocks of the TCN are four filters of five frames; each of two transformer blocks attends to 64
    frames on either side.
    """
    torch.manual_seed(0)
    memory = kind(16, TemporalConfig(blocks=2, head_width=8), 8).eval()
    for weight in memory.parameters():
        weight.data = 0.3 * torch.randn(weight.shape)
    x, times_s = torch.randn(1, 300, 16), torch.arange(300.0, dtype=torch.float64)[None] / 30
    other = x.clone()
    other[0, 150] += 1.0
    with torch.no_grad():
        moved = (memory(x, None, times_s) - memory(other, None, times_s)).abs().amax(-1)[0] > 1e-7
    far = moved.nonzero().flatten()
    assert 150 - reach <= int(far.min()) < 150 < int(far.max()) <= 150 + reach
    assert moved[150 - reach // 4]


def test_the_gru_covers_a_whole_track() -> None:
    torch.manual_seed(0)
    memory = BiGru(16, TemporalConfig(blocks=1), 8).eval()
    memory.out.weight.data = torch.randn_like(memory.out.weight)
    x, times_s = torch.randn(1, 50, 16), torch.arange(50.0, dtype=torch.float64)[None] / 30
    other = x.clone()
    other[0, 0] += 1.0
    with torch.no_grad():
        moved: Tensor = (memory(x, None, times_s) - memory(other, None, times_s)).abs().amax(-1)[0]
    assert moved[20] > 0


def test_the_scan_is_conditioned_on_audio_only_if_configured(tracks: list[LabelledTrack]) -> None:
    batch: Batch = slice_track(tracks[0], slice(0, 30), 0.6)
    sound = AudioInput(batch.audio.float(), batch.audio_times_s, batch.audio_valid)
    embedding = torch.randn(1, 30, 16)
    for controls, conditioned in ((ControlConfig(), True), (ControlConfig(guide="plain"), False)):
        fused = build(controls).temporal.fuse_audio(embedding, batch.times_s, sound)
        assert (fused.audio_condition is not None) is conditioned
    plain = ControlConfig(fusion="none", guide="plain")
    fused = build(plain).temporal.fuse_audio(embedding, batch.times_s, sound)
    assert torch.equal(fused.x, embedding)
    assert fused.audio_logits is not None


def test_the_late_path_can_be_switched_off(tracks: list[LabelledTrack]) -> None:
    batch = slice_track(tracks[0], slice(0, 30), 0.6)
    sound = AudioInput(batch.audio.float(), batch.audio_times_s, batch.audio_valid)
    fused = build(ControlConfig(late_path=False)).temporal.fuse_audio(
        torch.randn(1, 30, 16), batch.times_s, sound
    )
    assert fused.audio_logits is None


@pytest.mark.parametrize("temporal", ["mamba", "tcn", "transformer", "bigru", "none"])
def test_every_temporal_model_gets_the_same_audio_condition(
    tracks: list[LabelledTrack], temporal: Literal["mamba", "tcn", "transformer", "bigru", "none"]
) -> None:
    """A control without it would lose to the method for another reason than its memory."""
    batch = slice_track(tracks[0], slice(0, 30), 0.6)
    sound = AudioInput(batch.audio.float(), batch.audio_times_s, batch.audio_valid)
    network, embedding = build(ControlConfig(fusion="none", temporal=temporal)), torch.randn(1, 30, 16)
    fused = network.temporal.fuse_audio(embedding, batch.times_s, sound)
    added = network.temporal.audio_condition.proj(fused.audio_condition)
    torch.testing.assert_close(fused.x, embedding + added)


def test_the_method_consists_of_the_parts_of_the_shipped_network() -> None:
    """The weights of a run must fit the network that `auscan detect` builds."""
    from auscan.model.alignment import GranularityAlignment
    from auscan.model.network import TemporalStage

    config: NetworkConfig = MODEL.network()
    network = build()
    stage = TemporalStage(config, SIZES.audio_width)
    stage.load_state_dict(network.temporal.state_dict())
    alignment = GranularityAlignment(SIZES.width, SIZES.grid**2, config.alignment, 12)
    alignment.load_state_dict(network.alignment.state_dict())


@pytest.mark.parametrize(
    ("controls", "stored", "name"),
    [
        (CONTROLS[0], "memory.blocks.0.ahead_scan.in_proj", "memory.blocks.0.forward_scan.in_proj"),
        (CONTROLS[0], "memory.blocks.1.back_scan.norm", "memory.blocks.1.backward_scan.norm"),
        (ControlConfig(temporal="tcn"), "memory.guide_proj", "audio_condition.proj"),
        (ControlConfig(fusion="symmetric"), "fusion.face_asks.gate", "fusion.face_attention.gate"),
        (ControlConfig(fusion="symmetric"), "fusion.voice_asks.gate", "fusion.audio_attention.gate"),
        (ControlConfig(fusion="symmetric"), "fusion.voice_in", "fusion.audio_in"),
        (ControlConfig(fusion="symmetric"), "fusion.voice_out", "fusion.audio_out"),
    ],
)
def test_weights_of_runs_of_format_1_are_converted(controls: ControlConfig, stored: str, name: str) -> None:
    network = build(controls)
    weights = network.state_dict()
    value = weights.pop(f"temporal.{name}.weight")
    converted = from_format_1({**weights, f"temporal.{stored}.weight": value}, network)
    assert torch.equal(converted[f"temporal.{name}.weight"], value)
    network.load_state_dict(converted)


def test_the_statistics_of_the_audio_are_those_of_the_training_tracks(tracks: list[LabelledTrack]) -> None:
    network = build()
    tokens = torch.cat(list(sample_audio(tracks)))
    network.temporal.norm_audio.fit(tokens)
    normed = network.temporal.norm_audio(tokens)
    torch.testing.assert_close(normed.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(normed.std(0, correction=0), torch.ones(6), atol=1e-4, rtol=0)


@pytest.mark.parametrize("context", [1, 16, 1000])
def test_a_chunk_does_not_depend_on_the_others(tracks: list[LabelledTrack], context: int) -> None:
    network, track = build(), tracks[0]
    table = score_tracks(network, [track], context, audio_margin_s=0.6)
    scores = table[list(AFFWILD2_AUS)].to_numpy(np.float32)
    has_face = track.features.has_image
    assert np.isnan(scores[~has_face]).all()
    with torch.no_grad():
        for start in (0, 48, 112):
            part = slice(start, start + context) if context < 1000 else slice(0, len(has_face))
            alone = torch.sigmoid(network(slice_track(track, part, 0.6)).logits[0]).numpy()
            np.testing.assert_allclose(scores[part][has_face[part]], alone[has_face[part]], atol=1e-5)
    whole = score_tracks(network, [track], None, audio_margin_s=0.6)[list(AFFWILD2_AUS)].to_numpy(np.float32)
    if context == 1000:
        np.testing.assert_allclose(scores[has_face], whole[has_face], atol=1e-5)
    else:
        assert np.abs(scores[has_face] - whole[has_face]).max() > 1e-3
