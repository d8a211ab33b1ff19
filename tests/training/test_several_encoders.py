"""Several encoders at once, and groups of audio layers: extracted, trained, packed and run alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torch.testing import assert_close

from auscan.core.checkpoint_folder import WEIGHTS_FILE, read_config
from auscan.core.config import (
    CheckpointConfig,
    HubVisualConfig,
    NetworkConfig,
    SeveralAudioConfig,
    SeveralVisualConfig,
    TokenPart,
)
from auscan.core.errors import InputError
from auscan.datasets.cache import open_track
from auscan.datasets.frozen_encoders import Encoders, load_encoders
from auscan.encoders.visual import HubVisualEncoder, pool_patches
from auscan.inference.engine import AudioLevel, AudioTokens
from auscan.inference.export import export, graph_specs, write_graph
from auscan.inference.load import load_engine
from auscan.inference.onnx_engine import open_graph
from auscan.inference.score_track import score_track
from auscan.model.network import AuscanNetwork
from auscan.training.build import parameter_table
from auscan.training.config import ModelConfig, check_train_config
from auscan.training.loop import train
from auscan.training.module import FeatureSizes, build_network
from auscan.training.pack import pack
from auscan.training.run import load_trained
from auscan.training.windows import Batch

MODEL = {
    "size": "nano",
    "alignment": {"width": 16, "au_width": 4, "heads": 2},
    "fusion": {"heads": 2},
    "temporal": {"blocks": 1, "head_width": 8, "state_width": 4},
}
FRAMES, RATE_HZ = 10, 30
LEVEL = AudioLevel(0.1, 0.5)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of tiny random models of other sizes: DINOv2 and CLIP, WavLM (do_normalize) and Whisper."""
    import transformers as hf

    root = tmp_path_factory.mktemp("weights")
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.2}
    convolutions = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    whisper = {"d_model": 8, "encoder_layers": 4, "decoder_layers": 1, "encoder_attention_heads": 2}
    whisper |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 64}
    whisper |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    models = {
        "dinov2": hf.Dinov2Model(hf.Dinov2Config(mlp_ratio=2, image_size=48, patch_size=8, **size)),
        "clip": hf.CLIPVisionModel(
            hf.CLIPVisionConfig(
                image_size=32, patch_size=8, intermediate_size=32, **{**size, "hidden_size": 8}
            )
        ),
        "wavlm": hf.WavLMModel(hf.WavLMConfig(intermediate_size=32, **size, **convolutions)),
        "whisper": hf.WhisperForConditionalGeneration(hf.WhisperConfig(init_std=0.2, **whisper)),
    }
    for name, model in models.items():
        model.save_pretrained(root / name)
    edges = {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}}
    hf.BitImageProcessorPil(**edges).save_pretrained(root / "dinov2")
    hf.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(root / "wavlm")
    return {name: str(root / name) for name in models}


def run(folders: tuple[Path, Path], out: Path, **model: Any) -> Path:
    """Train a run of one epoch; then set its layer weights, which start equal, to random ones."""
    index, cache = map(str, folders)
    content = {
        "out": str(out),
        "data": {"index": index, "cache": cache, "length": 6, "stride": 6},
        "model": {**MODEL, **model},
        "loop": {"epochs": 1, "batch": 4, "device": "cpu"},
        "optimizer": {"rate": 1e-2, "average": 0.0},
    }
    train(check_train_config(content, "settings"))
    stored = load_file(out / "best" / WEIGHTS_FILE)
    for name, value in stored.items():
        if name.endswith("group_weights"):
            stored[name] = torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    save_file(stored, out / "best" / WEIGHTS_FILE)
    return out


def trained_logits(run: Path, start: Encoders, crops: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Logits [T, A] of the trained network, given the tokens of its encoders."""
    network, config = load_trained(run / "best")
    pictures, times_s = torch.from_numpy(crops), torch.arange(FRAMES, dtype=torch.float64) / RATE_HZ
    with torch.no_grad():
        face, patches = start.visual(pictures)
        tokens = torch.from_numpy(start.encode_audio(samples, LEVEL))[None]
        count = tokens.shape[1]
        return (
            network(
                Batch(
                    face=face[None],
                    patches=pool_patches(patches, config.sizes.grid)[None],
                    crops=pictures[None],
                    has_face=torch.ones(1, FRAMES, dtype=torch.bool),
                    times_s=times_s[None],
                    labels=torch.zeros(1, FRAMES, 12, dtype=torch.int8),
                    covers=torch.full((1, FRAMES, 12), -1, dtype=torch.int8),
                    intensities=torch.full((1, FRAMES, 12), torch.nan),
                    audio=tokens,
                    audio_times_s=(torch.arange(count, dtype=torch.float64)[None] + 0.5) / 50,
                    audio_valid=torch.ones(1, count, dtype=torch.bool),
                    own_audio=torch.ones(1, FRAMES, dtype=torch.bool),
                    tracks=("one",),
                )
            )
            .logits[0]
            .numpy()
        )


def packed_logits(packed: Path, crops: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Logits [T, A] of the packed checkpoint, from crops and samples."""
    engine = load_engine(packed)
    tokens = engine.encode_audio(samples, LEVEL)
    visual = engine.encode_faces(crops, [0] * len(crops), {})
    audio = AudioTokens(tokens, (np.arange(len(tokens)) + 0.5) / 50)
    return score_track(engine, visual.embedding, visual.au_tokens, np.arange(FRAMES) / RATE_HZ, audio).logits


@pytest.mark.parametrize("learn", [None, "blocks", "lora"])
def test_several_encoders_go_through_extract_train_and_pack(
    make_pictures: Callable[..., tuple[Path, Path]],
    weights: dict[str, str],
    tmp_path: Path,
    learn: str | None,
) -> None:
    """The checkpoint needs no folder of weights, and computes what was trained."""
    visual = [weights["dinov2"], weights["clip"]]
    audio = [weights["wavlm"], weights["whisper"]]
    folders = make_pictures(tmp_path / "data", "base", visual, audio, 4)
    header = open_track(folders[1], "900").header
    assert header.visual_parts == (TokenPart(width=16), TokenPart(width=8))
    assert header.audio_parts == (TokenPart(width=16, groups=3), TokenPart(width=8, groups=4))
    assert (header.width, header.audio_width) == (24, 80)
    encoder = {"start": "base", "visual": visual, "audio": audio, "learn": learn, "blocks": 1, "rank": 2}
    trained = run(folders, tmp_path / "run", **({} if learn is None else {"encoder": encoder}))
    pack(trained, tmp_path / "packed", visual=visual, audio=audio)
    network = read_config(tmp_path / "packed").network
    assert isinstance(network.visual, SeveralVisualConfig)
    assert isinstance(network.audio, SeveralAudioConfig)
    assert [each.kind for each in network.visual.members] == ["dinov2", "clip"]
    assert [(each.kind, each.normalise) for each in network.audio.members] == [
        ("wavlm", "file"),
        ("whisper", "no"),
    ]
    assert (network.visual.crop_size, network.normalises_file, network.grid) == (48, True, None)
    start = load_encoders("base", visual, audio)
    assert (load_encoders(str(tmp_path / "packed")).digest == start.digest) is (learn is None)
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 255, (FRAMES, 48, 48, 3)).astype(np.uint8)
    samples = rng.normal(size=8000).astype(np.float32)
    expected = trained_logits(trained, start, crops, samples)
    packed = packed_logits(tmp_path / "packed", crops, samples)
    np.testing.assert_allclose(packed, expected, atol=1e-4)
    assert np.ptp(expected) > 0.05
    assert np.abs(packed_logits(tmp_path / "packed", crops, 0.0 * samples) - packed).max() > 1e-4
    assert np.abs(packed_logits(tmp_path / "packed", crops[::-1].copy(), samples) - packed).max() > 1e-4


def test_audio_encoders_that_scale_sound_differently_cannot_be_exported(
    make_pictures: Callable[..., tuple[Path, Path]], weights: dict[str, str], tmp_path: Path
) -> None:
    """A graph has one input for all of them."""
    sources = weights["clip"], [weights["wavlm"], weights["whisper"]]
    trained = run(make_pictures(tmp_path / "data", "base", *sources), tmp_path / "run")
    pack(trained, tmp_path / "packed", visual=sources[0], audio=sources[1])
    crops = np.zeros((2, 32, 32, 3), np.uint8)
    with pytest.raises(InputError, match=r"scale sound differently \(wavlm: file, whisper: no\)"):
        export(tmp_path / "packed", tmp_path / "graphs", crops)
    assert not (tmp_path / "graphs").exists()


def test_the_graphs_of_several_encoders_and_layer_groups_equal_pytorch(
    tiny_config: NetworkConfig, weights: dict[str, str], tmp_path: Path
) -> None:
    """Crops are resized and patches averaged within the graph."""
    torch.manual_seed(0)
    encoders = load_encoders("base", [weights["dinov2"], weights["clip"]], weights["wavlm"]).config
    config = tiny_config.model_copy(update={"visual": encoders.visual, "audio": encoders.audio})
    network = AuscanNetwork(config).eval()
    specs = graph_specs(network, CheckpointConfig(name="a", auscan_version="0", network=network.config))
    for name in ("visual", "audio"):
        inputs = {key: example for key, (example, _) in specs[name].inputs.items()}
        with torch.no_grad():
            outputs = specs[name].module(*inputs.values())
        expected = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        write_graph(tmp_path / f"{name}.onnx", specs[name])
        graph = open_graph(tmp_path / f"{name}.onnx", 1)
        found = graph.run(list(specs[name].outputs), {key: each.numpy() for key, each in inputs.items()})
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)


def test_projections_and_layer_weights_are_trained() -> None:
    """From cached tokens, as the other weights."""
    torch.manual_seed(0)
    sizes = FeatureSizes(
        width=7,
        grid=2,
        audio_width=15,
        visual_parts=(TokenPart(width=4), TokenPart(width=3)),
        audio_parts=(TokenPart(width=3, groups=4), TokenPart(width=3)),
    )
    model = ModelConfig.model_validate({**MODEL, "alignment": {"width": 16, "au_width": 4, "heads": 2}})
    network = build_network(sizes, model)
    generator = torch.Generator().manual_seed(1)
    batch = Batch(
        face=torch.randn(2, FRAMES, 7, generator=generator),
        patches=torch.randn(2, FRAMES, 4, 7, generator=generator),
        crops=None,
        has_face=torch.ones(2, FRAMES, dtype=torch.bool),
        times_s=torch.arange(FRAMES, dtype=torch.float64).expand(2, -1) / RATE_HZ,
        labels=torch.zeros(2, FRAMES, 12, dtype=torch.int8),
        covers=torch.full((2, FRAMES, 12), -1, dtype=torch.int8),
        intensities=torch.full((2, FRAMES, 12), torch.nan),
        audio=torch.randn(2, 17, 15, generator=generator),
        audio_times_s=(torch.arange(17, dtype=torch.float64).expand(2, -1) + 0.5) / 50,
        audio_valid=torch.ones(2, 17, dtype=torch.bool),
        own_audio=torch.ones(2, FRAMES, dtype=torch.bool),
        tracks=("one", "two"),
    )
    network(batch).logits.square().sum().backward()
    trained = [*network.visual_mix.named_parameters(), *network.audio_mix.named_parameters()]
    assert [name for name, _ in trained if name.endswith("group_weights")] == ["parts.0.group_weights"]
    for name, weight in trained:
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name
    table = parameter_table(network, sizes, model)
    assert [line.split()[0] for line in table.splitlines()[1:3]] == ["visual_mix", "audio_mix"]


def test_each_member_gets_the_crops_and_the_sound_that_it_expects(weights: dict[str, str]) -> None:
    """CLIP gets smaller crops, WavLM the sound scaled by the whole file, Whisper the sound as it is."""
    visual, audio = ([weights[name] for name in pair] for pair in (("dinov2", "clip"), ("wavlm", "whisper")))
    both = load_encoders("base", visual, audio)
    alone = [load_encoders("base", *pair) for pair in zip(visual, audio, strict=True)]
    crops = torch.from_numpy(np.random.default_rng(1).integers(0, 255, (2, 48, 48, 3)).astype(np.uint8))
    face, patches = both.visual(crops)
    small = F.interpolate(crops.permute(0, 3, 1, 2).float(), (32, 32), mode="bilinear", antialias=True)
    inputs = [crops, small.permute(0, 2, 3, 1)]
    for encoders, pixels, part in zip(alone, inputs, (slice(16), slice(16, 24)), strict=True):
        expected_face, fine = encoders.visual(pixels)
        assert_close(face[:, part], F.layer_norm(expected_face, expected_face.shape[-1:]))
        pooled = pool_patches(fine, 4)
        assert_close(patches[..., part], F.layer_norm(pooled, pooled.shape[-1:]))
    samples = np.random.default_rng(2).normal(0.1, 0.5, 6400).astype(np.float32)
    tokens = both.encode_audio(samples, LEVEL)
    np.testing.assert_allclose(tokens[:, :48], alone[0].encode_audio(LEVEL.scale(samples)), atol=1e-4)
    np.testing.assert_allclose(tokens[:, 48:], alone[1].encode_audio(samples), atol=1e-4)
    assert np.abs(tokens[:, :48] - alone[0].encode_audio(samples)).max() > 1e-3


def test_one_encoder_in_a_list_is_that_encoder(weights: dict[str, str]) -> None:
    listed = load_encoders("base", [weights["clip"]], [weights["whisper"]])
    single = load_encoders("base", weights["clip"], weights["whisper"])
    assert isinstance(listed.visual, HubVisualEncoder)
    assert isinstance(listed.config.visual, HubVisualConfig)
    assert listed.digest == single.digest
    assert listed.visual_parts == ()


def test_the_digest_depends_on_the_order_of_the_encoders(weights: dict[str, str]) -> None:
    visual = [weights["dinov2"], weights["clip"]]
    one, other = (load_encoders("base", each, weights["wavlm"]).digest for each in (visual, visual[::-1]))
    assert one != other


def test_a_run_from_features_without_groups_can_be_packed(
    make_pictures: Callable[..., tuple[Path, Path]], weights: dict[str, str], tmp_path: Path
) -> None:
    """As from features of auscan 0.1.0: the layers are summed with equal weights."""
    pair = weights["clip"], weights["wavlm"]
    old = load_encoders("base", *pair, layer_groups=None)
    folders = make_pictures(tmp_path / "data", "base", *pair, 2, old)
    trained = run(folders, tmp_path / "run")
    pack(trained, tmp_path / "packed", visual=pair[0], audio=pair[1])
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 255, (FRAMES, 32, 32, 3)).astype(np.uint8)
    samples = rng.normal(size=8000).astype(np.float32)
    expected = trained_logits(trained, old, crops, samples)
    np.testing.assert_allclose(packed_logits(tmp_path / "packed", crops, samples), expected, atol=1e-4)
