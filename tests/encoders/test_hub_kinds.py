"""Test that every kind of hub encoder equals a plain transformers pipeline on the same crops and waveforms.

The weights are random and tiny, in folders that save_pretrained writes, with the preprocessor_config.json of
the kind. A plain pipeline is AutoImageProcessor or AutoFeatureExtractor and the model that wrote the folder.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP, HubAudioConfig, HubVisualConfig, TokenPart
from auscan.core.errors import CheckpointError
from auscan.encoders.audio import HubAudioEncoder
from auscan.encoders.hub import with_arch
from auscan.encoders.visual import MEAN_AND_STD, HubVisualEncoder
from auscan.inference.engine import measure_level
from auscan.media.audio import Waveform

SIDE = 32
WIDTH = 16
VISUAL = {
    "dinov2": "dinov2",
    "registers": "dinov2",
    "dinov3": "dinov3",
    "clip": "clip",
    "clip-vision": "clip",
    "siglip": "siglip",
    "siglip-no-head": "siglip",
    "vit": "vit",
}
"""Folder -> kind."""
AUDIO = ("wavlm", "wavlm-large", "hubert", "wav2vec2", "whisper")
PATCHES = 16
ODD_MEAN, ODD_STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
"""Values that are the default of no kind."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with one folder of weights for each name in VISUAL and AUDIO."""
    root = tmp_path_factory.mktemp("kinds")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, model in (_visual_models() | _audio_models()).items():
            model.save_pretrained(root / name)
    for name in VISUAL:
        write_image_processor(root / name)
    for name in AUDIO:
        write_feature_extractor(root / name, do_normalize=name in ("wavlm-large", "wav2vec2"))
    return root


def _visual_models() -> dict[str, Any]:
    import transformers as hf

    size = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE}
    size |= {"patch_size": 8, "initializer_range": 0.2}
    mlp = size | {"intermediate_size": 32}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text |= {"vocab_size": 64, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2}
    registers = hf.Dinov2WithRegistersConfig(num_register_tokens=3, mlp_ratio=2, **size)
    both = {"vision_config": mlp, "text_config": text}
    return {
        "dinov2": hf.Dinov2Model(hf.Dinov2Config(mlp_ratio=2, **size)),
        "registers": hf.Dinov2WithRegistersModel(registers),
        "dinov3": hf.DINOv3ViTModel(hf.DINOv3ViTConfig(num_register_tokens=4, **mlp)),
        "clip": hf.CLIPModel(hf.CLIPConfig(projection_dim=8, **both)),
        "clip-vision": hf.CLIPVisionModel(hf.CLIPVisionConfig(**mlp)),
        "siglip": hf.SiglipModel(hf.SiglipConfig(**both)),
        "siglip-no-head": hf.SiglipVisionModel(hf.SiglipVisionConfig(vision_use_head=False, **mlp)),
        "vit": hf.ViTForImageClassification(hf.ViTConfig(**mlp)),
    }


def _audio_models() -> dict[str, Any]:
    import transformers as hf

    size = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    size |= {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    size |= {"initializer_range": 0.2}
    whisper = hf.WhisperConfig(
        d_model=WIDTH,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        vocab_size=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        init_std=0.2,
    )
    large = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    return {
        "wavlm": hf.WavLMModel(hf.WavLMConfig(**size)),
        "wavlm-large": hf.WavLMModel(hf.WavLMConfig(**size, **large)),
        "hubert": hf.HubertForCTC(hf.HubertConfig(**size)),
        "wav2vec2": hf.Wav2Vec2ForCTC(hf.Wav2Vec2Config(**size)),
        "whisper": hf.WhisperForConditionalGeneration(whisper),
    }


def write_image_processor(folder: Path) -> None:
    """Write the preprocessor_config.json of the kind; odd values for ViT, to tell them from the defaults."""
    from transformers import BitImageProcessorPil, CLIPImageProcessorPil, ViTImageProcessorPil

    kind = VISUAL[folder.name]
    mean, std = MEAN_AND_STD[kind] if kind != "vit" else (ODD_MEAN, ODD_STD)
    how: dict[str, Any] = {"image_mean": list(mean), "image_std": list(std)}
    if kind in ("dinov2", "clip"):
        processor = BitImageProcessorPil if kind == "dinov2" else CLIPImageProcessorPil
        edges = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
        processor(**how, **edges).save_pretrained(folder)
    else:
        ViTImageProcessorPil(**how, size={"height": SIDE, "width": SIDE}).save_pretrained(folder)


def write_feature_extractor(folder: Path, do_normalize: bool) -> None:
    from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

    if folder.name == "whisper":
        WhisperFeatureExtractor().save_pretrained(folder)
    else:
        Wav2Vec2FeatureExtractor(do_normalize=do_normalize).save_pretrained(folder)


def visual_encoder(folder: Path, **settings: Any) -> HubVisualEncoder:
    return HubVisualEncoder(HubVisualConfig(source=str(folder), **settings))


def audio_encoder(folder: Path, **settings: Any) -> HubAudioEncoder:
    return HubAudioEncoder(HubAudioConfig(source=str(folder), **settings))


def random_crops(count: int = 3, side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, side, side, 3), dtype=torch.uint8, generator=generator)


def speech_like(samples: int) -> np.ndarray:
    """Return noise [M] float32 whose loudness changes, with an offset."""
    noise = np.random.default_rng(2).normal(0, 0.1, samples)
    return (noise * np.linspace(0.1, 1.0, samples) + 0.05).astype(np.float32)


def pipeline_tokens(folder: Path, crops: Tensor) -> tuple[Tensor, Tensor]:
    """Return class or pooled token and patches of the plain transformers pipeline."""
    from transformers import AutoImageProcessor, AutoModel, CLIPVisionModel, SiglipVisionModel

    classes = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel}
    model = classes.get(folder.name, AutoModel).from_pretrained(folder, dtype=torch.float32).eval()
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(
        list(crops.numpy()), return_tensors="pt"
    )
    with torch.no_grad():
        out = model(pixels["pixel_values"])
    tokens = out.last_hidden_state
    patches = tokens[:, -PATCHES:]
    kind = VISUAL[folder.name]
    if kind == "clip":
        return out.pooler_output, model.post_layernorm(patches)
    if kind == "siglip":
        return patches.mean(1) if out.pooler_output is None else out.pooler_output, patches
    return tokens[:, 0], patches


@pytest.mark.parametrize("name", VISUAL)
def test_visual_tokens_equal_those_of_a_plain_pipeline(folders: Path, name: str) -> None:
    """The crops have the size of the model, so that the image processor only rescales and normalises."""
    encoder, crops = visual_encoder(folders / name), random_crops()
    assert (encoder.kind, encoder.crop_size, encoder.patch_count) == (VISUAL[name], SIDE, PATCHES)
    with torch.no_grad():
        face, patches = encoder(crops)
    expected_face, expected_patches = pipeline_tokens(folders / name, crops)
    assert_close(face, expected_face, atol=1e-4, rtol=1e-4)
    assert_close(patches, expected_patches, atol=1e-4, rtol=1e-4)
    assert face.std() > 0.1


def pipeline_layers(folder: Path, samples: np.ndarray) -> Tensor:
    """Return the outputs [L + 1, Ta, D] of all layers of the plain transformers pipeline.

    The pipeline gets the zeros that centre the tokens on their 20 ms, after its normalisation.
    """
    from transformers import AutoFeatureExtractor, AutoModel

    extractor = AutoFeatureExtractor.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    how, count = {"sampling_rate": SAMPLE_RATE_HZ, "return_tensors": "pt"}, len(samples) // TOKEN_HOP
    with torch.no_grad():
        if folder.name == "whisper":
            padded = np.concatenate([np.zeros(TOKEN_HOP // 2, np.float32), samples])
            features = extractor(padded, **how)["input_features"]
            states = model.get_encoder()(features, output_hidden_states=True).hidden_states
            return torch.cat(states)[:, 1 : 1 + count]
        values = extractor(samples, **how)["input_values"]
        values = torch.nn.functional.pad(values, (40, 40 + TOKEN_HOP))
        return torch.cat(model(values, output_hidden_states=True).hidden_states)[:, :count]


@pytest.mark.parametrize("name", AUDIO)
def test_audio_tokens_equal_those_of_a_plain_pipeline(folders: Path, name: str) -> None:
    samples, encoder = speech_like(5 * SAMPLE_RATE_HZ), audio_encoder(folders / name)
    level = measure_level([Waveform(samples, 0.0)])
    tokens = encoder(torch.from_numpy(samples)[None], level)
    assert encoder.normalise == ("file" if name in ("wavlm-large", "wav2vec2") else "no")
    assert tokens.shape == (1, 250, WIDTH)
    assert_close(tokens[0], pipeline_layers(folders / name, samples).mean(0), atol=1e-4, rtol=1e-4)
    assert tokens.std() > 0.05


@pytest.mark.parametrize(("wanted", "sizes"), [(2, (2, 1)), (4, (1, 1, 1))])
@pytest.mark.parametrize("name", AUDIO)
def test_groups_are_means_of_normalised_layers_of_a_plain_pipeline(
    folders: Path, name: str, wanted: int, sizes: tuple[int, ...]
) -> None:
    """Three layers, with the input of the first; there are no more groups than layers."""
    samples, encoder = speech_like(2 * SAMPLE_RATE_HZ), audio_encoder(folders / name, layer_groups=wanted)
    tokens = encoder(torch.from_numpy(samples)[None], measure_level([Waveform(samples, 0.0)]))[0]
    layers = pipeline_layers(folders / name, samples)
    deviation = (layers.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    normed = (layers - layers.mean(-1, keepdim=True)) / deviation
    expected = torch.cat([group.mean(0) for group in normed.split(sizes)], dim=-1)
    assert tokens.shape == (100, len(sizes) * WIDTH)
    assert_close(tokens, expected, atol=1e-4, rtol=1e-4)
    assert encoder.parts == (TokenPart(width=WIDTH, groups=len(sizes)),)
    assert not [name for name, _ in encoder.named_parameters() if "layer_weights" in name]


def test_sound_longer_than_the_window_of_whisper_is_refused(folders: Path) -> None:
    """The segments of inference/engine.py are shorter."""
    encoder = audio_encoder(folders / "whisper")
    assert encoder(torch.zeros(1, 22 * SAMPLE_RATE_HZ)).shape == (1, 1100, WIDTH)
    with pytest.raises(ValueError, match="Whisper reads 480000"):
        encoder(torch.zeros(1, 30 * SAMPLE_RATE_HZ))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_spectrum_of_whisper_is_exact_under_autocast(folders: Path, dtype: torch.dtype) -> None:
    """The power of a loud tone exceeds the range of float16, and that of silence underflows."""
    log_mel = audio_encoder(folders / "whisper").log_mel
    assert log_mel is not None
    tone = torch.sin(0.3 * torch.arange(16_000))[None] * torch.linspace(0, 1, 16_000)
    expected = log_mel(tone)
    with torch.autocast("cpu", dtype):
        assert torch.equal(log_mel(tone), expected)


@pytest.mark.parametrize("name", VISUAL)
def test_a_stored_visual_config_needs_neither_the_folder_nor_its_preprocessing(
    folders: Path, name: str
) -> None:
    """The config passes through JSON, as in a checkpoint, and the source is not there any more."""
    config = HubVisualConfig(source=str(folders / name))
    encoder = HubVisualEncoder(config)
    stored = with_arch(config, encoder).model_copy(update={"source": "gone"})
    again = HubVisualEncoder(HubVisualConfig.model_validate_json(stored.model_dump_json()))
    again.load_state_dict(encoder.state_dict())
    crops = random_crops()
    for ours, theirs in zip(again(crops), encoder(crops), strict=True):
        assert_close(ours, theirs, rtol=0, atol=0)
    assert (stored.kind, stored.crop_size) == (VISUAL[name], SIDE)


@pytest.mark.parametrize("name", AUDIO)
def test_a_stored_audio_config_needs_neither_the_folder_nor_its_preprocessing(
    folders: Path, name: str
) -> None:
    config = HubAudioConfig(source=str(folders / name))
    encoder = HubAudioEncoder(config)
    stored = with_arch(config, encoder).model_copy(update={"source": "gone"})
    again = HubAudioEncoder(HubAudioConfig.model_validate_json(stored.model_dump_json()))
    again.load_state_dict(encoder.state_dict())
    sound = torch.from_numpy(speech_like(8000))[None]
    assert_close(again(sound), encoder(sound), rtol=0, atol=0)
    assert (
        (again.kind, again.normalise) == (stored.kind, stored.normalise) == (encoder.kind, encoder.normalise)
    )


def test_a_folder_without_preprocessing_has_the_values_of_its_kind(folders: Path, tmp_path: Path) -> None:
    """CLIP's pictures were normalised with ImageNet's mean before."""
    for name, kind in VISUAL.items():
        folder = shutil.copytree(folders / name, tmp_path / name)
        (folder / "preprocessor_config.json").unlink()
        encoder = visual_encoder(folder)
        mean, std = MEAN_AND_STD[kind]
        assert (encoder.preprocessing["mean"], encoder.preprocessing["std"]) == (mean, std)
        assert encoder.preprocessing["pixel_scale"] == 255.0
        assert encoder.crop_size == (224 if kind in ("dinov2", "dinov3") else SIDE)


def test_the_size_in_the_file_is_the_crop_size_unless_the_config_states_one(
    folders: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(folders / "clip", tmp_path / "clip")
    sizes = [
        ({"size": 48, "crop_size": 40}, 40),
        ({"size": {"shortest_edge": 48}, "crop_size": {"height": 40, "width": 40}}, 40),
        ({"size": {"height": 48, "width": 48}, "do_center_crop": False, "crop_size": 40}, 48),
        ({"size": {"shortest_edge": 48}}, 48),
        ({}, SIDE),
    ]
    for content, side in sizes:
        (folder / "preprocessor_config.json").write_text(json.dumps(content))
        assert visual_encoder(folder).crop_size == side
    encoder = visual_encoder(folder, crop_size=64)
    assert (encoder.crop_size, encoder.patch_count) == (64, 64)
    assert encoder(random_crops(side=64))[1].shape == (3, 64, WIDTH)


def test_rescaling_and_normalisation_that_the_file_switches_off_do_not_apply(
    folders: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(folders / "vit", tmp_path / "vit")
    content = {"do_rescale": False, "do_normalize": False, "image_mean": ODD_MEAN, "image_std": ODD_STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    crops = random_crops()
    assert_close(visual_encoder(folder).normalise(crops), crops.permute(0, 3, 1, 2).float())


def test_the_processor_config_of_newer_folders_is_read_too(folders: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folders / "siglip", tmp_path / "siglip")
    (folder / "preprocessor_config.json").unlink()
    nested = {"image_processor": {"image_mean": ODD_MEAN, "image_std": ODD_STD}, "tokenizer": {}}
    (folder / "processor_config.json").write_text(json.dumps(nested))
    assert visual_encoder(folder).preprocessing["mean"] == tuple(ODD_MEAN)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"size": {"height": 32, "width": 48}}',
        '{"image_std": [0, 1, 1]}',
        '{"image_mean": [0.5]}',
        '{"rescale_factor": 0}',
    ],
)
def test_preprocessing_that_cannot_be_applied_is_one_line_that_names_the_file(
    folders: Path, tmp_path: Path, content: str
) -> None:
    folder = shutil.copytree(folders / "vit", tmp_path / "vit")
    (folder / "preprocessor_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json .* cannot be") as caught:
        visual_encoder(folder)
    assert "\n" not in str(caught.value)


def rewrite(folder: Path, dtype: torch.dtype) -> None:
    """Rewrite the weights of a folder as another type."""
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value.to(dtype) for name, value in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": str(dtype).split(".")[1]}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["dinov2", "siglip", "wavlm", "whisper"])
def test_half_precision_folders_are_loaded_as_float32(
    folders: Path, tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    """bf16 DINOv2 and fp16 WavLM failed at the first crop or sample."""
    folder = shutil.copytree(folders / name, tmp_path / name)
    rewrite(folder, dtype)
    if name in VISUAL:
        encoder: torch.nn.Module = visual_encoder(folder)
        tokens = encoder(random_crops())[0]
        stored = with_arch(HubVisualConfig(source=str(folder)), encoder)
    else:
        encoder = audio_encoder(folder)
        tokens = encoder(torch.from_numpy(speech_like(6400))[None])
        stored = with_arch(HubAudioConfig(source=str(folder)), encoder)
    assert tokens.dtype == torch.float32
    assert {weight.dtype for weight in encoder.parameters()} == {torch.float32}
    assert stored.arch["dtype"] == "float32"


def test_nan_weights_are_one_line_that_names_a_weight(folders: Path, tmp_path: Path) -> None:
    for name, build in (("clip-vision", visual_encoder), ("hubert", audio_encoder)):
        folder = shutil.copytree(folders / name, tmp_path / name)
        weights = load_file(folder / "model.safetensors")
        broken = next(
            each
            for each in sorted(weights)
            if each.endswith("layers.1.layer_norm2.bias") or each.endswith("layers.1.final_layer_norm.bias")
        )
        weights[broken][0] = torch.nan
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=r"contain NaN .*layers\.1\.") as caught:
            build(folder)
        assert "\n" not in str(caught.value)


def test_a_missing_weight_is_one_line_and_not_a_random_number(folders: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folders / "vit", tmp_path / "vit")
    weights = load_file(folder / "model.safetensors")
    del weights[next(name for name in weights if name.endswith("layernorm.weight"))]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack 1 weights of ViTModel, such as layernorm\.weight"):
        visual_encoder(folder)


def test_a_config_of_other_sizes_is_one_line_that_names_the_folder(folders: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folders / "vit", tmp_path / "vit")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))
    with pytest.raises(CheckpointError, match=r"weights in the folder .*vit.* cannot be loaded") as caught:
        visual_encoder(folder)
    assert "\n" not in str(caught.value)


def test_weights_that_only_pretraining_uses_may_be_missing(folders: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folders / "wav2vec2", tmp_path / "wav2vec2")
    weights = load_file(folder / "model.safetensors")
    masks = [name for name in weights if name.endswith("masked_spec_embed")]
    save_file(
        {name: value for name, value in weights.items() if name not in masks},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    assert masks
    assert not audio_encoder(folder).backbone.masked_spec_embed.any()


def test_pickled_weights_are_one_line_that_says_how_to_convert_them(folders: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folders / "wavlm", tmp_path / "wavlm")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"pickled weights only \(pytorch_model\.bin\)") as caught:
        audio_encoder(folder)
    message = str(caught.value)
    assert "use_safetensors=False" in message
    assert "save_pretrained" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("model_type", "nearest"),
    [("dinov3_convnext", "dinov3"), ("siglip2_vision_model", "siglip"), ("vit_mae", "vit"), ("resnet", "")],
)
def test_another_model_type_is_one_line_that_names_the_nearest_kind(
    tmp_path: Path, model_type: str, nearest: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(CheckpointError, match=f"nearest supported kind is {nearest}") as caught:
        visual_encoder(tmp_path)
    assert "supported are dinov2, dinov3, clip, siglip, vit" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_encoder_of_the_other_input_is_named_as_such(folders: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is an encoder for audio \(model_type wavlm\)"):
        visual_encoder(folders / "wavlm")
    with pytest.raises(CheckpointError, match=r"is an encoder for pictures \(model_type clip\)"):
        audio_encoder(folders / "clip")


def test_another_sample_rate_or_stride_is_refused(folders: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folders / "hubert", tmp_path / "hubert")
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sampling_rate": 8000}))
    with pytest.raises(CheckpointError, match="expects audio at 8000 Hz"):
        audio_encoder(folder)
    file.unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"conv_stride": [5, 2, 2, 2, 2, 2, 1]}))
    with pytest.raises(CheckpointError, match="makes 100 tokens a second"):
        audio_encoder(folder)


def test_a_config_of_version_0_1_0_normalises_as_it_did(folders: Path) -> None:
    """Its arch is given and its new settings are not: ImageNet's mean, and loudness by segment."""
    arch = json.loads((folders / "dinov2" / "config.json").read_text())
    visual = HubVisualEncoder(
        HubVisualConfig.model_validate({"kind": "dinov2", "crop_size": 32, "arch": arch})
    )
    crops, (mean, std) = random_crops(), MEAN_AND_STD["dinov2"]
    expected = ((crops / 255.0 - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2)
    assert_close(visual.normalise(crops), expected, rtol=0, atol=0)
    for name, normalise in (("wavlm", "no"), ("wavlm-large", "segment")):
        arch = json.loads((folders / name / "config.json").read_text())
        audio = HubAudioEncoder(HubAudioConfig.model_validate({"kind": "wavlm", "arch": arch}))
        assert audio.normalise == normalise


def test_the_mel_frame_at_the_centre_of_a_whisper_token_lies_in_the_middle_of_its_20_ms(
    folders: Path,
) -> None:
    """Token i + 1 of Whisper is centred on mel frame 2 i + 2, and it is token i of the encoder."""
    encoder = audio_encoder(folders / "whisper")
    assert encoder.log_mel is not None
    heard: list[Tensor] = []
    encoder.log_mel.register_forward_hook(lambda module, inputs, output: heard.append(output[0]))
    for token in (0, 1, 23):
        click = torch.zeros(1, 50 * TOKEN_HOP)
        click[:, token * TOKEN_HOP + TOKEN_HOP // 2] = 1.0
        encoder(click)
        loudness = heard.pop().sum(0)
        middle = 2 * token + 2
        assert loudness.argmax() == middle
        assert_close(loudness[middle - 1], loudness[middle + 1], atol=1e-3, rtol=0)


@pytest.mark.parametrize("token", [0, 1, 23, 49])
@pytest.mark.parametrize("name", ["hubert", "wav2vec2"])
def test_a_short_sound_changes_the_token_of_its_own_time_most(folders: Path, name: str, token: int) -> None:
    encoder = audio_encoder(folders / name)
    sound = 0.1 * torch.randn(1, 50 * TOKEN_HOP, generator=torch.Generator().manual_seed(0))
    touched = sound.clone()
    start = token * TOKEN_HOP + TOKEN_HOP // 4
    touched[:, start : start + TOKEN_HOP // 2] *= -1.0
    moved = (encoder(touched) - encoder(sound)).norm(dim=-1)[0]
    assert moved.argmax() == token


def test_whisper_reads_a_segment_with_its_context_and_refuses_more_than_30_s(folders: Path) -> None:
    encoder = audio_encoder(folders / "whisper")
    tokens = encoder(torch.zeros(1, 22 * SAMPLE_RATE_HZ))
    assert tokens.shape == (1, 1100, WIDTH)
    assert tokens.isfinite().all()
    assert encoder(torch.zeros(1, 319)).shape == (1, 0, WIDTH)
    with pytest.raises(ValueError, match="encode longer audio in segments"):
        encoder(torch.zeros(1, 30 * SAMPLE_RATE_HZ))


@pytest.mark.parametrize("name", ["dinov3", "clip", "siglip", "siglip-no-head", "vit"])
def test_the_last_block_and_the_final_layers_are_found_for_fine_tuning(folders: Path, name: str) -> None:
    encoder = visual_encoder(folders / name)
    assert len(encoder.blocks) == 2
    for layer in (encoder.blocks[-1], *encoder.final_layers):
        layer.requires_grad_(True)
    face, patches = encoder(random_crops())
    (face.square().sum() + patches.square().sum()).backward()
    learned = [weight for weight in encoder.parameters() if weight.requires_grad]
    assert learned
    assert all(weight.grad is not None for weight in learned)
