"""Fine-tuning from crops: first the same tokens as the cache, then a trained encoder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from auscan.core.errors import InputError
from auscan.datasets.cache import quantise, restore
from auscan.datasets.frozen_encoders import load_encoders
from auscan.datasets.index import read_index
from auscan.training.config import EncoderConfig, TrainConfig, check_train_config
from auscan.training.encoder import CropEncoder, augment_crops
from auscan.training.loop import Trainer, train
from auscan.training.module import FeatureSizes, build_network
from auscan.training.predict import score_tracks
from auscan.training.run import load_trained
from auscan.training.scores import read_scores
from auscan.training.tracks import LabelledTrack, load_tracks
from auscan.training.windows import collate, slice_track

MODEL = {
    "size": "nano",
    "alignment": {"width": 16, "au_width": 4, "heads": 2, "active_patches": 3},
    "fusion": {"heads": 2},
    "temporal": {"blocks": 1, "head_width": 8, "state_width": 4},
}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)


def make_config(
    folders: tuple[Path, Path], out: Path, encoder: dict[str, Any], **changes: Any
) -> TrainConfig:
    index, cache = map(str, folders)
    content: dict[str, Any] = {
        "out": str(out),
        "data": {"index": index, "cache": cache, "length": 6, "stride": 6},
        "model": {**MODEL, "encoder": encoder},
        "loop": {"epochs": 3, "batch": 2, "device": "cpu", "log_every": 1},
        "optimizer": {"rate": 5e-3, "average": 0.5},
    }
    for key, value in changes.items():
        content[key] = {**content.get(key, {}), **value}
    return check_train_config(content, "settings")


def tracks_of(folders: tuple[Path, Path], crop_size: int | None) -> list[LabelledTrack]:
    return load_tracks(read_index(folders[0]), folders[1], ["train"], crop_size)


def same_weights(one: Path, other: Path) -> bool:
    a, b = (load_file(folder / "model.safetensors") for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def round_as_cached(face: torch.Tensor, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round face to float16 and patches to int8 with a scale, as the cache does."""
    return face.half(), torch.from_numpy(restore(*quantise(patches.half().numpy())))


@pytest.mark.parametrize("kind", ["conv", "dinov2"])
def test_before_training_crops_yield_the_logits_of_their_features(
    kind: str, request: pytest.FixtureRequest, tiny_checkpoint: Path, backbones: Path
) -> None:
    """Rows, order, missing frames and the averaged grid agree with the cache, whose tokens are rounded."""
    if kind == "conv":
        folders, start = request.getfixturevalue("picture_folders"), load_encoders(str(tiny_checkpoint))
    else:
        weights = (str(backbones / "registers"), str(backbones / "wavlm"))
        folders, start = request.getfixturevalue("dino_folders"), load_encoders("base", *weights)
    model = make_config(folders, Path("run"), {"start": "any"}).model
    features, crops = tracks_of(folders, None), tracks_of(folders, start.crop_size)
    sizes = FeatureSizes.from_header(features[0].features.header)
    torch.manual_seed(0)
    plain = build_network(sizes, model).eval()
    whole = build_network(sizes, model, encoder=CropEncoder(start.visual, sizes.grid, model.encoder)).eval()
    whole.load_state_dict(plain.state_dict(), strict=False)
    assert whole.encoder is not None
    whole.encoder.register_forward_hook(lambda module, inputs, tokens: round_as_cached(*tokens))
    batches = [
        collate([slice_track(each[0], slice(2, 12), 0.1), slice_track(each[1], slice(0, 7), 0.1)])
        for each in (features, crops)
    ]
    with torch.no_grad():
        torch.testing.assert_close(whole(batches[1]).logits, plain(batches[0]).logits, atol=1e-3, rtol=1e-3)
    lines = [
        network.predict_track(track.features, track.crops).probabilities
        for network, track in ((plain, features[0]), (whole, crops[0]))
    ]
    np.testing.assert_allclose(lines[1], lines[0], atol=5e-3)
    assert np.isnan(lines[1][~features[0].features.has_image]).all()


def test_the_encoder_learns_a_cue_that_is_only_in_the_pictures(
    picture_folders: tuple[Path, Path], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    encoder = {"start": str(tiny_checkpoint), "rate_factor": 1.0, "augment": False}
    lines: list[str] = []
    config = make_config(
        picture_folders, tmp_path / "run", encoder, loop={"epochs": 12}, data={"length": 1, "stride": 1}
    )
    outcome = train(config, lines.append)
    assert outcome.best > 0.8, "always predicting active scores about 0.67"
    assert any("encoder" in line and "are trained" in line for line in lines)
    network, trained_config = load_trained(tmp_path / "run" / "best")
    assert trained_config.encoder == config.model.encoder
    start = load_encoders(str(tiny_checkpoint)).visual.state_dict()
    for name, value in network.encoder.visual.state_dict().items():
        moved = not torch.equal(value, start[name])
        assert moved is not ("running" in name or "tracked" in name), name
    table = score_tracks(
        network, load_tracks(read_index(picture_folders[0]), picture_folders[1], ["val"], 32), None, 0.6
    )
    scores = read_scores(outcome.scores["val"])
    np.testing.assert_allclose(table["AU01"], scores["AU01"], atol=1e-6)


@pytest.mark.parametrize("step", [1, 4])
def test_a_run_from_crops_interrupted_after_a_save_ends_the_same(
    picture_folders: tuple[Path, Path],
    tiny_checkpoint: Path,
    tmp_path: Path,
    step: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Including augmentation, batch norm and the encoder's own learning rate."""
    encoder, changes = {"start": str(tiny_checkpoint)}, {"loop": {"save_every": 1, "epochs": 2}}
    train(make_config(picture_folders, tmp_path / "alone", encoder, **changes))
    AcceleratorState._reset_state(reset_partial_state=True)
    save = Trainer._save

    def interrupt(self: Trainer) -> None:
        save(self)
        if self.progress.step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(make_config(picture_folders, tmp_path / "stopped", encoder, **changes))
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.manual_seed(step)  # the state of the global generator must not matter
    train(make_config(picture_folders, tmp_path / "stopped", encoder, **changes))
    assert same_weights(tmp_path / "alone" / "last", tmp_path / "stopped" / "last")


def test_a_run_from_crops_that_was_killed_ends_the_same(
    picture_folders: tuple[Path, Path], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    encoder, changes = {"start": str(tiny_checkpoint)}, {"loop": {"save_every": 1, "epochs": 4}}
    train(make_config(picture_folders, tmp_path / "alone", encoder, **changes))
    config, file = make_config(picture_folders, tmp_path / "killed", encoder, **changes), tmp_path / "k.yaml"
    file.write_text(config.model_dump_json())  # JSON is YAML
    process = subprocess.Popen(
        [sys.executable, "-c", "from auscan.cli.main import main; main()", "train", str(file)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    log = tmp_path / "killed" / "log.jsonl"
    while process.poll() is None and not (log.exists() and '"step": 3,' in log.read_text()):
        time.sleep(0.002)
    process.kill()
    _, stderr = process.communicate()
    assert process.returncode == -signal.SIGKILL, stderr.decode()
    AcceleratorState._reset_state(reset_partial_state=True)
    train(config)
    for name in ("best", "last"):
        assert same_weights(tmp_path / "alone" / name, tmp_path / "killed" / name)


def test_only_the_last_blocks_or_the_lora_weights_are_trained(backbones: Path, tiny_checkpoint: Path) -> None:
    weights = (str(backbones / "registers"), str(backbones / "wavlm"))

    def learning(start: Any, **settings: Any) -> set[str]:
        encoder = CropEncoder(start.visual, 2, EncoderConfig(start="any", **settings))
        return {name for name, weight in encoder.named_parameters() if weight.requires_grad}

    last = learning(load_encoders("base", *weights), learn="blocks", blocks=1)
    assert last
    assert all("encoder.layer.1." in name or ".layernorm." in name for name in last)
    added = learning(load_encoders("base", *weights), learn="lora", rank=2)
    assert added
    assert all("lora_" in name for name in added)
    conv = learning(load_encoders(str(tiny_checkpoint)), learn="blocks", blocks=1)
    assert {name.split(".")[1] for name in conv} == {"layers", "pool", "norm_global", "norm_patches"}
    assert all(name.startswith("visual.layers.5.") for name in conv if ".layers." in name)
    assert learning(load_encoders(str(tiny_checkpoint))) > conv
    with pytest.raises(InputError, match="blocks is 9, but the encoder has 3"):
        learning(load_encoders(str(tiny_checkpoint)), learn="blocks", blocks=9)
    with pytest.raises(InputError, match="lora supports encoders from transformers only"):
        learning(load_encoders(str(tiny_checkpoint)), learn="lora")


@pytest.mark.parametrize("learn", ["all", "lora"])
def test_dinov2_trains_in_the_same_loop_and_is_found_again(
    dino_folders: tuple[Path, Path], backbones: Path, tmp_path: Path, learn: str
) -> None:
    weights = {"visual": str(backbones / "registers"), "audio": str(backbones / "wavlm")}
    encoder = {"start": "base", **weights, "learn": learn, "rank": 2}
    config = make_config(dino_folders, tmp_path / "run", encoder, loop={"epochs": 1})
    outcome = train(config)
    network, trained_config = load_trained(tmp_path / "run" / "last")
    assert trained_config.network.visual.arch is not None, "the hub is not used again"
    assert outcome.best_step > 0
    assert network.encoder is not None


def test_features_of_other_encoders_are_refused(
    picture_folders: tuple[Path, Path], dino_folders: tuple[Path, Path], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"come from base, not from the initial weights of model\.encoder"):
        train(make_config(dino_folders, tmp_path, {"start": str(tiny_checkpoint)}))


def test_augmentation_depends_on_the_generator_and_is_the_same_within_a_window(
    picture_folders: tuple[Path, Path],
) -> None:
    track = tracks_of(picture_folders, 32)[0]
    batch = collate([slice_track(track, slice(0, 1), 0.1)] * 40)
    one, same, other = (augment_crops(batch, np.random.default_rng(seed)).crops for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert (one != batch.crops).flatten(1).any(1).all(), "each window is augmented"
    assert len(torch.unique(one.flatten(1), dim=0)) == 40, "with its own random parameters"
    constant = slice_track(track, slice(0, 12), 0.1)
    constant.crops[:] = constant.crops[:, :1]
    moved = augment_crops(constant, np.random.default_rng(3)).crops[0]
    has_face = constant.has_face[0]
    assert (moved[~has_face] == constant.crops[0, ~has_face]).all(), "frames without a picture are unchanged"
    differences = (moved[has_face].float() - moved[has_face][:1].float()).abs().mean((1, 2, 3))
    assert differences.max() < 15, "frames of a window differ only by noise"


def test_recomputed_activations_give_the_same_gradients(backbones: Path) -> None:
    """And the blocks stay in evaluation mode otherwise: no path is dropped."""
    crops = torch.randint(0, 256, (3, 70, 70, 3), dtype=torch.uint8)
    gradients = []
    for recompute in (False, True):
        visual = load_encoders("base", str(backbones / "dinov2"), str(backbones / "wavlm")).visual
        settings = EncoderConfig(start="base", recompute=recompute)
        encoder = CropEncoder(visual, 2, settings).train()
        face, patches = encoder(crops)
        (face.square().sum() + patches.square().sum()).backward()
        gradients.append([weight.grad for weight in encoder.parameters() if weight.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_activations_of_a_convolutional_encoder_cannot_be_recomputed(tiny_checkpoint: Path) -> None:
    visual = load_encoders(str(tiny_checkpoint)).visual
    with pytest.raises(InputError, match="recompute supports encoders from transformers only"):
        CropEncoder(visual, 2, EncoderConfig(start="nano", recompute=True))
