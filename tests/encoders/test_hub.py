"""Test loading of backbones from a folder, from the hub and from stored settings."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from auscan.core.config import ConvVisualConfig, HubAudioConfig, HubVisualConfig
from auscan.core.errors import CheckpointError
from auscan.encoders.audio import HubAudioEncoder
from auscan.encoders.hub import load_backbone, split_source, with_arch
from auscan.encoders.visual import ConvEncoder, HubVisualEncoder


@pytest.mark.parametrize("source", ["facebook/dinov2-base", "nobody/nothing", "no such folder"])
def test_weights_that_cannot_be_loaded_are_one_error_that_names_them(source: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_backbone(source, None, "visual")
    assert repr(source) in str(caught.value)
    assert "folder written by save_pretrained" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_encoders_raise_the_same_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing"):
        HubVisualEncoder(HubVisualConfig(source=str(tmp_path / "missing")))
    with pytest.raises(CheckpointError, match="missing"):
        HubAudioEncoder(HubAudioConfig(source=str(tmp_path / "missing")))


@pytest.mark.parametrize(
    ("file", "content"),
    [("model.safetensors", b"not weights at all"), ("model.safetensors", None), ("config.json", b"{")],
)
def test_a_folder_with_a_broken_file_is_the_same_error(
    backbones: Path, tmp_path: Path, file: str, content: bytes | None
) -> None:
    folder = shutil.copytree(backbones / "dinov2", tmp_path / "broken")
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    with pytest.raises(CheckpointError, match="broken"):
        load_backbone(str(folder), None, "visual")


@pytest.mark.parametrize("name", ["dinov2", "registers", "wavlm"])
def test_the_stored_settings_alone_rebuild_the_backbone(backbones: Path, name: str) -> None:
    """The settings pass through JSON, as in a checkpoint, and the source no longer exists."""
    if name == "wavlm":
        encoder = HubAudioEncoder(HubAudioConfig(source=str(backbones / name)))
        config = with_arch(HubAudioConfig(source="gone"), encoder)
    else:
        encoder = HubVisualEncoder(HubVisualConfig(source=str(backbones / name)))
        config = with_arch(HubVisualConfig(source="gone"), encoder)
    stored = type(config).model_validate_json(config.model_dump_json())
    again = type(encoder)(stored)
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in encoder.state_dict().items()
    }
    assert type(again.backbone) is type(encoder.backbone)
    assert not again.backbone.training


def test_the_stored_settings_do_not_contain_the_local_folder(backbones: Path) -> None:
    encoder = HubVisualEncoder(HubVisualConfig(source=str(backbones / "dinov2")))
    config = with_arch(HubVisualConfig(), encoder)
    assert str(backbones) not in json.dumps(config.model_dump())


def test_an_encoder_without_a_backbone_has_no_settings_to_store() -> None:
    config = ConvVisualConfig(crop_size=32, widths=(8, 8), blocks=(1, 1))
    assert with_arch(config, ConvEncoder(config)) is config


def test_the_compact_encoders_do_not_load_transformers() -> None:
    """The import takes seconds and would slow down every call of the shipped model."""
    code = """
import sys
from auscan.core.config import ConvVisualConfig, LogMelAudioConfig
from auscan.encoders.audio import build_audio_encoder
from auscan.encoders.visual import build_visual_encoder
build_visual_encoder(ConvVisualConfig()), build_audio_encoder(LogMelAudioConfig())
sys.exit("transformers" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("facebook/dinov2-base", ("facebook/dinov2-base", None)),
        ("facebook/dinov2-base@v1", ("facebook/dinov2-base", "v1")),
        ("facebook/dinov2-base@refs/pr/5", ("facebook/dinov2-base", "refs/pr/5")),
    ],
)
def test_a_revision_follows_an_at_sign(source: str, parts: tuple[str, str | None]) -> None:
    assert split_source(source) == parts


def test_a_folder_may_have_an_at_in_its_name(backbones: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(backbones / "dinov2", tmp_path / "mine@home"))
    assert split_source(str(folder)) == (str(folder), None)
    encoder = HubVisualEncoder(HubVisualConfig(source=str(folder)))
    assert with_arch(HubVisualConfig(source=str(folder)), encoder).source == str(folder)


def test_the_requested_revision_and_only_safetensors_reach_transformers(
    backbones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Dinov2Model, PreTrainedConfig

    requested = []
    loaded = Dinov2Model.from_pretrained(backbones / "dinov2", output_loading_info=True)

    def from_pretrained(name: str, **how: Any) -> object:
        requested.append((name, how["revision"], how["use_safetensors"], how["trust_remote_code"]))
        return loaded

    monkeypatch.setattr(Dinov2Model, "from_pretrained", from_pretrained)
    monkeypatch.setattr(
        PreTrainedConfig, "get_config_dict", lambda name, revision: ({"model_type": "dinov2"}, {})
    )
    load_backbone("somebody/something@abc", None, "visual")
    load_backbone("somebody/something", None, "visual")
    assert requested == [
        ("somebody/something", "abc", True, False),
        ("somebody/something", "main", True, False),
    ]


COMMITS = "1" * 40, "2" * 40


def fill_cache(cache: Path, backbones: Path) -> None:
    """Fill a hub cache with two commits of somebody/sight; the main branch is at the second one."""
    repo = cache / "models--somebody--sight"
    for commit in COMMITS:
        shutil.copytree(backbones / "dinov2", repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMITS[1])


@pytest.mark.parametrize(
    ("requested", "kept"), [("", COMMITS[1]), ("@main", COMMITS[1]), (f"@{COMMITS[0]}", COMMITS[0])]
)
def test_a_checkpoint_stores_the_commit_that_was_loaded(
    backbones: Path, tmp_path: Path, requested: str, kept: str
) -> None:
    """With the real transformers and a cache on disk, in a separate process."""
    fill_cache(tmp_path, backbones)
    code = f"""
from auscan.core.config import HubVisualConfig
from auscan.encoders.hub import with_arch
from auscan.encoders.visual import HubVisualEncoder
config = HubVisualConfig(source="somebody/sight{requested}")
stored = with_arch(config, HubVisualEncoder(config))
again = with_arch(stored, HubVisualEncoder(stored))
print(stored.source, again.source)
"""
    env = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"somebody/sight@{kept}"] * 2


def test_a_revision_that_is_not_there_is_the_same_error(backbones: Path) -> None:
    with pytest.raises(CheckpointError, match="somebody/sight@nowhere"):
        load_backbone("somebody/sight@nowhere", None, "visual")


def test_pickled_weights_are_not_read_from_a_folder(backbones: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = Path(shutil.copytree(backbones / "dinov2", tmp_path / "pickled"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="pickled"):
        load_backbone(str(folder), None, "visual")
