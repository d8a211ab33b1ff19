"""A packed checkpoint has the same logits in the inference engine as the trained network."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from auscan.batch.extract import Extraction
from auscan.core.aus import AFFWILD2_AUS
from auscan.core.checkpoint_folder import CARD_FILE, read_config
from auscan.core.config import (
    Calibration,
    CheckpointConfig,
    HubAudioConfig,
    HubVisualConfig,
    NetworkConfig,
    OperatingPoints,
)
from auscan.core.errors import InputError
from auscan.datasets.frozen_encoders import Encoders, load_encoders
from auscan.datasets.index import read_index
from auscan.encoders.visual import pool_patches
from auscan.inference.engine import AudioTokens
from auscan.inference.load import load_engine
from auscan.inference.score_track import calibrate, score_track, trained_intensities
from auscan.model.checkpoint import load_checkpoint, save_checkpoint
from auscan.model.network import AuscanNetwork
from auscan.training.config import check_train_config
from auscan.training.find_encoders import find_encoders
from auscan.training.loop import train
from auscan.training.pack import pack
from auscan.training.run import load_trained
from auscan.training.thresholds import Decision
from auscan.training.windows import Batch

MODEL = {
    "size": "nano",
    "alignment": {"width": 16, "au_width": 4, "heads": 2, "active_patches": 3},
    "fusion": {"heads": 2},
    "temporal": {"blocks": 1, "head_width": 8, "state_width": 4},
}
LOOP = {"epochs": 1, "batch": 4, "device": "cpu"}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)


def run(folders: tuple[Path, Path], out: Path, **model: Any) -> Path:
    """Train a run of one epoch; returns its folder."""
    index, cache = map(str, folders)
    content = {
        "out": str(out),
        "data": {"index": index, "cache": cache, "length": 6, "stride": 6},
        "model": {**MODEL, **model},
        "loop": LOOP,
        "optimizer": {"rate": 1e-2, "average": 0.0},
    }
    train(check_train_config(content, "settings"))
    return out


def logits_of_both(
    run: Path, packed: Path, start: Encoders, crop_size: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Logits [T, A] of some crops and audio, from the trained network and from the checkpoint's engine."""
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 255, (10, crop_size, crop_size, 3)).astype(np.uint8)
    times_s = np.arange(10) / 30
    engine = load_engine(packed)
    samples = rng.normal(size=8000).astype(np.float32)
    tokens = engine.encode_audio(samples)
    token_s = (np.arange(len(tokens)) + 0.5) / 50
    visual = engine.encode_faces(crops, [0] * len(crops), {})
    packed_logits = score_track(
        engine, visual.embedding, visual.au_tokens, times_s, AudioTokens(tokens, token_s)
    ).logits

    network, trained_config = load_trained(run / "best")
    pictures = torch.from_numpy(crops)
    with torch.no_grad():
        face, patches = start.visual(pictures)
        batch = Batch(
            face=face[None],
            patches=pool_patches(patches, trained_config.sizes.grid)[None],
            crops=pictures[None],
            has_face=torch.ones(1, 10, dtype=torch.bool),
            times_s=torch.from_numpy(times_s)[None],
            labels=torch.zeros(1, 10, 12, dtype=torch.int8),
            covers=torch.full((1, 10, 12), -1, dtype=torch.int8),
            intensities=torch.full((1, 10, 12), torch.nan),
            own_audio=torch.ones(1, 10, dtype=torch.bool),
            tracks=("some",),
            audio=start.audio(torch.from_numpy(samples)[None]),
            audio_times_s=torch.from_numpy(token_s)[None],
            audio_valid=torch.ones(1, len(tokens), dtype=torch.bool),
        )
        trained_logits = network(batch).logits[0].numpy()
    return trained_logits, packed_logits


@pytest.mark.parametrize("grid", [2, None])
def test_a_run_from_features_is_packed_with_its_encoders(
    make_pictures: Callable[..., tuple[Path, Path]], tiny_checkpoint: Path, tmp_path: Path, grid: int | None
) -> None:
    """With an averaged grid and with the encoder's own."""
    folders = make_pictures(tmp_path / "data", str(tiny_checkpoint), grid=grid)
    trained = run(folders, tmp_path / "run")
    thresholds = tuple(np.linspace(0.2, 0.8, 12).tolist())
    config = pack(
        trained, tmp_path / "packed", Decision(AFFWILD2_AUS, thresholds), "mine", model=str(tiny_checkpoint)
    )
    assert config.network.grid == grid
    assert (config.name, config.thresholds) == ("mine", thresholds)
    assert read_config(tmp_path / "packed") == config
    patches = 4 if grid == 2 else 16
    card = (tmp_path / "packed" / CARD_FILE).read_text()
    assert f"- Active patches: k = 3 of N = {patches}.\n" in card
    assert "- Training crops: 32 px, not known to be enlarged.\n" in card
    start = load_encoders(str(tiny_checkpoint))
    trained_logits, packed_logits = logits_of_both(trained, tmp_path / "packed", start, 32)
    np.testing.assert_allclose(packed_logits, trained_logits, atol=1e-4)
    assert np.ptp(trained_logits) > 0.05
    packed, _ = load_checkpoint(tmp_path / "packed")
    initial, _ = load_checkpoint(tiny_checkpoint)
    assert torch.equal(packed.visual.points.weight, initial.visual.points.weight)
    assert config.has_pose_occlusion
    assert torch.equal(packed.visual.pose_occlusion.weight, initial.visual.pose_occlusion.weight)
    assert load_encoders(str(tmp_path / "packed")).digest == start.digest


def test_a_run_with_intensities_is_packed_with_them(
    make_pictures: Callable[..., tuple[Path, Path]],
    add_intensities: Callable[[Path], None],
    tiny_checkpoint: Path,
    tmp_path: Path,
) -> None:
    folders = make_pictures(tmp_path / "data", str(tiny_checkpoint))
    add_intensities(folders[0])
    config = pack(run(folders, tmp_path / "run"), tmp_path / "packed", model=str(tiny_checkpoint))
    assert config.network.intensity
    unknown = tuple(name for name in AFFWILD2_AUS if name not in ("AU01", "AU25"))
    assert config.untrained_intensities == unknown
    assert (
        f"- Intensities: 0 to 5, without {', '.join(unknown)}."
        in (tmp_path / "packed" / CARD_FILE).read_text()
    )
    engine = load_engine(tmp_path / "packed")
    visual = engine.encode_faces(np.zeros((3, 32, 32, 3), np.uint8), [0] * 3, {})
    scores = score_track(engine, visual.embedding, visual.au_tokens, np.arange(3) / 30, None)
    assert scores.intensity is not None
    known = ~np.isnan(trained_intensities(scores.intensity, engine.config)).all(axis=0)
    assert [name for name, each in zip(AFFWILD2_AUS, known, strict=True) if each] == ["AU01", "AU25"]


def test_a_packed_checkpoint_is_calibrated_and_has_the_same_predictions(
    picture_folders: tuple[Path, Path], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """The file's thresholds apply to raw scores, those of the checkpoint to calibrated ones."""
    rising = tuple(np.linspace(0.1, 0.9, 12).tolist())
    calibration = Calibration(scale=tuple(np.linspace(0.3, 2, 12).tolist()), shift=(-0.5,) * 12)
    points = OperatingPoints(balanced=(0.3,) * 12, precise=(0.9,) * 12, sensitive=(0.1,) * 12)
    trained = run(picture_folders, tmp_path / "run")
    decision = Decision(AFFWILD2_AUS, rising, (), calibration, points)
    config = pack(trained, tmp_path / "packed", decision, model=str(tiny_checkpoint))
    assert (config.calibration, config.operating_points) == (calibration, points)
    logits = np.random.default_rng(0).normal(0, 2, (200, 12))
    before = calibrate(logits, None) >= np.asarray(rising)
    np.testing.assert_array_equal(calibrate(logits, calibration) >= np.asarray(config.thresholds), before)


@pytest.mark.parametrize("learn", ["all", "blocks"])
def test_a_run_from_crops_is_packed_with_its_trained_encoder(
    picture_folders: tuple[Path, Path], tiny_checkpoint: Path, tmp_path: Path, learn: str
) -> None:
    encoder = {"start": str(tiny_checkpoint), "learn": learn, "rate_factor": 1.0}
    trained = run(picture_folders, tmp_path / "run", encoder=encoder)
    pack(trained, tmp_path / "packed")
    start = load_encoders(str(tiny_checkpoint))
    trained_logits, packed_logits = logits_of_both(trained, tmp_path / "packed", start, 32)
    np.testing.assert_allclose(packed_logits, trained_logits, atol=1e-4)
    encoders = find_encoders(str(trained))
    assert encoders.digest == load_encoders(str(tmp_path / "packed")).digest != start.digest
    packed, _ = load_checkpoint(tmp_path / "packed")
    assert not packed.visual.points.weight.any(), "the points layer was trained on other tokens"
    assert not read_config(tmp_path / "packed").has_pose_occlusion, "and so was the head-pose layer"


def test_lora_weights_are_merged(dino_folders: tuple[Path, Path], backbones: Path, tmp_path: Path) -> None:
    weights = {"visual": str(backbones / "registers"), "audio": str(backbones / "wavlm")}
    encoder = {"start": "base", **weights, "learn": "lora", "rank": 2, "rate_factor": 10.0}
    trained = run(dino_folders, tmp_path / "run", encoder=encoder)
    pack(trained, tmp_path / "packed")
    card = (tmp_path / "packed" / CARD_FILE).read_text()
    assert "- Training crops: pictures of 40 px enlarged to 224 px; `auscan detect` cuts 224 px from" in card
    start = load_encoders("base", **weights)
    assert not read_config(tmp_path / "packed").has_pose_occlusion, "no layer was trained for it"
    trained_logits, packed_logits = logits_of_both(trained, tmp_path / "packed", start, 224)
    np.testing.assert_allclose(packed_logits, trained_logits, atol=1e-4)
    packed, _ = load_checkpoint(tmp_path / "packed")
    assert packed.visual.encoder.state_dict().keys() == start.visual.state_dict().keys()
    assert load_encoders(str(tmp_path / "packed")).digest != start.digest


def test_controls_cannot_be_packed_but_their_encoder_can_be_used(
    picture_folders: tuple[Path, Path], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """A cache made with it can be used for training and packing."""
    controls, encoder = {"temporal": "none", "fusion": "none"}, {"start": str(tiny_checkpoint)}
    first = run(picture_folders, tmp_path / "first", encoder=encoder, controls=controls)
    with pytest.raises(InputError, match=r"controls \(fusion: none, temporal: none\), which a checkpoint"):
        pack(first, tmp_path / "packed")
    encoders = find_encoders(str(first))
    assert encoders.digest != load_encoders(str(tiny_checkpoint)).digest
    Extraction(read_index(picture_folders[0]), encoders, tmp_path / "cache", 2).run_here()
    AcceleratorState._reset_state(reset_partial_state=True)
    second = run((picture_folders[0], tmp_path / "cache"), tmp_path / "second")
    with pytest.raises(InputError, match="has no encoder of its own"):
        find_encoders(str(second))
    config = pack(second, tmp_path / "packed", model=str(first / "best"))
    assert config.name == "packed"
    assert load_encoders(str(tmp_path / "packed")).digest == encoders.digest


def test_a_run_of_0_1_0_that_selects_nothing_is_not_packed(
    picture_folders: tuple[Path, Path], tmp_path: Path
) -> None:
    trained = run(picture_folders, tmp_path / "run") / "best"
    config = json.loads((trained / "config.json").read_text())
    config["network"]["alignment"]["active_patches"] = 64
    (trained / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"best keeps k = 64 patches .* N = 4, so it selects nothing"):
        pack(trained, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_encoders_that_did_not_make_the_features_are_refused(
    picture_folders: tuple[Path, Path], tmp_path: Path
) -> None:
    trained = run(picture_folders, tmp_path / "run")
    with pytest.raises(InputError, match="encoders of nano did not make the features of this run"):
        pack(trained, tmp_path / "packed", model="nano")
    assert not (tmp_path / "packed").exists()


def test_an_averaged_grid_is_stored_in_the_checkpoint(tiny_config: NetworkConfig, tmp_path: Path) -> None:
    network = AuscanNetwork(tiny_config.model_copy(update={"grid": 2})).eval()
    assert network.visual.alignment.position.shape[0] == 4
    save_checkpoint(
        tmp_path, network, CheckpointConfig(name="a", auscan_version="0", network=network.config), ""
    )
    again, _ = load_checkpoint(tmp_path)
    crops = torch.randint(0, 255, (1, 3, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        visual, before = again.visual(crops), network.visual(crops)
    assert visual.last_patches.shape == (1, 4, 16)
    torch.testing.assert_close(visual.aligned.embedding, before.aligned.embedding)
    with pytest.raises(ValueError, match="patch grid 9 is finer"):
        AuscanNetwork(tiny_config.model_copy(update={"grid": 9}))


@pytest.fixture(scope="module")
def clip_and_wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Folders of tiny CLIP and wav2vec 2.0 with the preprocessing that they need, as on the hub."""
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        CLIPVisionModel,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Model,
    )

    folder = tmp_path_factory.mktemp("clip_and_wav2vec2")
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    convolutions = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = CLIPVisionModel(CLIPVisionConfig(image_size=32, patch_size=8, **size))
        wav2vec2 = Wav2Vec2Model(Wav2Vec2Config(**size, **convolutions))
    clip.save_pretrained(folder / "clip")
    edges = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**edges).save_pretrained(folder / "clip")
    wav2vec2.save_pretrained(folder / "wav2vec2")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder / "wav2vec2")
    return str(folder / "clip"), str(folder / "wav2vec2")


@pytest.mark.parametrize("learn", [None, "blocks", "lora"])
def test_other_hub_encoders_are_packed_with_their_preprocessing(
    make_pictures: Callable[..., tuple[Path, Path]],
    clip_and_wav2vec2: tuple[str, str],
    tmp_path: Path,
    learn: str | None,
) -> None:
    """Extract, train, pack; the checkpoint needs neither the folders nor their preprocessor_config.json."""
    visual, audio = clip_and_wav2vec2
    folders = make_pictures(tmp_path / "data", "base", visual, audio)
    encoder = {"start": "base", "visual": visual, "audio": audio, "learn": learn, "blocks": 1, "rank": 2}
    trained = run(folders, tmp_path / "run", **({} if learn is None else {"encoder": encoder}))
    pack(trained, tmp_path / "packed", visual=visual, audio=audio)
    network = read_config(tmp_path / "packed").network
    assert isinstance(network.visual, HubVisualConfig)
    assert isinstance(network.audio, HubAudioConfig)
    assert (network.visual.kind, network.visual.crop_size) == ("clip", 32)
    assert network.visual.mean == (0.48145466, 0.4578275, 0.40821073)
    assert (network.audio.kind, network.audio.normalise) == ("wav2vec2", "file")
    assert network.normalises_file
    start = load_encoders("base", visual, audio)
    assert (load_encoders(str(tmp_path / "packed")).digest == start.digest) is (learn is None)
    trained_logits, packed_logits = logits_of_both(trained, tmp_path / "packed", start, 32)
    np.testing.assert_allclose(packed_logits, trained_logits, atol=1e-4)
