"""Damaged model files are refused; files of a folder without SHA256SUMS are not verified.

The error of an invalid checkpoint folder names the file, the problem and what to do.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auscan.core import checkpoint_folder as folders
from auscan.core.checkpoint_folder import (
    CHECKSUM_COMMAND,
    CHECKSUMS_FILE,
    CONFIG_FILE,
    SHIPPED_CHECKPOINTS,
    find_checkpoint,
    hash_model,
    read_config,
    verify_checksums,
    write_checksums,
)
from auscan.core.config import CheckpointConfig, nano
from auscan.core.errors import CheckpointError
from auscan.faces import detector
from auscan.inference.load import load_engine

NAMES = ("config.json", "model.safetensors", "visual.onnx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three model files with checksums, and a file without."""
    for number, name in enumerate((*NAMES, "README.md")):
        (tmp_path / name).write_bytes(bytes([number]) * 1000)
    write_checksums(tmp_path)
    return tmp_path


def flip_a_bit(file: Path, offset: int = 500, bit: int = 3) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 1 << bit
    file.write_bytes(data)


def test_intact_files_pass_and_the_model_card_may_change(folder: Path) -> None:
    flip_a_bit(folder / "README.md")
    verify_checksums(folder, NAMES)
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize("name", NAMES)
def test_one_flipped_bit_is_found_and_named(folder: Path, name: str) -> None:
    flip_a_bit(folder / name)
    verify_checksums(folder, [other for other in NAMES if other != name])
    with pytest.raises(CheckpointError, match=name) as caught:
        verify_checksums(folder, NAMES)
    assert "damaged or changed" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_anywhere_in_the_checksum_file_is_found(folder: Path) -> None:
    intact = (folder / CHECKSUMS_FILE).read_bytes()
    for offset in range(len(intact)):
        for bit in (0, 5):
            (folder / CHECKSUMS_FILE).write_bytes(intact)
            flip_a_bit(folder / CHECKSUMS_FILE, offset, bit)
            if (folder / CHECKSUMS_FILE).read_bytes().lower().split() != intact.split():
                with pytest.raises(CheckpointError):
                    verify_checksums(folder, NAMES)


def test_a_file_without_a_checksum_is_refused(folder: Path) -> None:
    (folder / "read.onnx").write_bytes(b"added later")
    with pytest.raises(CheckpointError, match=r"read\.onnx"):
        verify_checksums(folder, ["read.onnx"])


def test_files_of_a_folder_without_checksums_are_not_verified(folder: Path) -> None:
    (folder / CHECKSUMS_FILE).unlink()
    flip_a_bit(folder / "visual.onnx")
    verify_checksums(folder, NAMES)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"one-word-only\n"])
def test_an_invalid_checksum_file_is_refused(folder: Path, content: bytes) -> None:
    (folder / CHECKSUMS_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a list of SHA-256 checksums"):
        verify_checksums(folder, NAMES)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed.")
def test_the_checksum_file_is_the_one_of_sha256sum(folder: Path) -> None:
    checked = subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS_FILE], cwd=folder, timeout=60)
    assert checked.returncode == 0
    ours = (folder / CHECKSUMS_FILE).read_text("utf-8")
    subprocess.run(CHECKSUM_COMMAND, cwd=folder, shell=True, check=True, timeout=60)
    assert sorted((folder / CHECKSUMS_FILE).read_text("utf-8").splitlines()) == sorted(ours.splitlines())


def test_every_shipped_model_has_valid_checksums() -> None:
    for folder in (
        *(path.parent for path in SHIPPED_CHECKPOINTS.glob("*/config.json")),
        detector.NETWORK_FILE.parent,
    ):
        files = [file.name for pattern in ("*.safetensors", "*.onnx") for file in folder.glob(pattern)]
        assert files
        assert (folder / CHECKSUMS_FILE).is_file()
        verify_checksums(folder, files)


@pytest.mark.parametrize("name", ["config.json", "visual.onnx", "sweep_1_back.onnx", "SHA256SUMS"])
def test_the_shipped_model_with_a_flipped_bit_is_not_loaded(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(find_checkpoint("nano"), tmp_path / "nano"))
    assert load_engine(folder).config == read_config(folder)
    flip_a_bit(folder / name, offset=40)
    with pytest.raises(CheckpointError):
        load_engine(folder)


def test_a_damaged_face_detector_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (detector.NETWORK_FILE, detector.NETWORK_FILE.with_name(CHECKSUMS_FILE)):
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(detector, "NETWORK_FILE", tmp_path / detector.NETWORK_FILE.name)
    detector.FaceDetector()
    flip_a_bit(tmp_path / detector.NETWORK_FILE.name, offset=4_000_000)
    with pytest.raises(CheckpointError, match=r"centerface\.onnx"):
        detector.FaceDetector()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed.")
def test_the_hash_of_a_model_is_that_of_its_checksum_file(folder: Path) -> None:
    """The hash of the model in a manifest can be compared with the output of sha256sum."""
    intact = hash_model(folder)
    printed = subprocess.run(
        ["sha256sum", CHECKSUMS_FILE], cwd=folder, capture_output=True, text=True, check=True
    )
    assert printed.stdout.split()[0] == intact
    for name in NAMES:
        flip_a_bit(folder / name)
        with pytest.raises(CheckpointError, match=f"{name} does not match its checksum"):
            hash_model(folder)
        flip_a_bit(folder / name)
    (folder / CHECKSUMS_FILE).unlink()
    assert hash_model(folder) == intact
    flip_a_bit(folder / "visual.onnx")
    assert hash_model(folder) != intact


CONFIG = CheckpointConfig(name="tiny", auscan_version="0.1.0", network=nano())


def write_config(folder: Path, text: str | bytes | None = None) -> Path:
    """Write config.json into a new folder; by default a valid one."""
    folder.mkdir(parents=True, exist_ok=True)
    content = CONFIG.to_json() if text is None else text
    (folder / CONFIG_FILE).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the shipped checkpoints by `nano` and `pico`."""
    monkeypatch.setattr(folders, "SHIPPED_CHECKPOINTS", tmp_path / "shipped")
    write_config(tmp_path / "shipped" / "pico")
    return write_config(tmp_path / "shipped" / "nano")


def test_a_shipped_name_is_found_from_any_working_folder(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder named nano in the working folder must not replace the shipped model."""
    write_config(tmp_path / "here" / "nano")
    monkeypatch.chdir(tmp_path / "here")
    assert find_checkpoint("nano") == shipped


def test_a_folder_is_found_by_its_path_as_text_or_path(shipped: Path, tmp_path: Path) -> None:
    own = write_config(tmp_path / "mine")
    assert find_checkpoint(own) == own
    assert find_checkpoint(str(own)) == own


def test_the_error_of_a_missing_checkpoint_names_the_shipped_ones(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(tmp_path / "nowhere")
    assert "nowhere is neither a shipped model nor a folder" in str(caught.value)
    assert "nano, pico" in str(caught.value)


def test_a_folder_without_a_config_has_its_own_error(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("size", ["base", "large"])
def test_a_size_without_trained_weights_has_its_own_error(shipped: Path, size: str) -> None:
    with pytest.raises(CheckpointError, match="model size without trained weights"):
        find_checkpoint(size)


def test_a_config_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_config(write_config(tmp_path)) == CONFIG


@pytest.mark.parametrize(
    "text",
    [b"", b'{"format": 1, "na', b"weights", b"\xff\xfe\x00broken"],
    ids=["empty", "cut", "text", "bytes"],
)
def test_a_broken_config_file_is_one_error_with_its_path(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(CheckpointError, match="cannot be read as JSON") as caught:
        read_config(write_config(tmp_path, text))
    assert str(tmp_path / CONFIG_FILE) in str(caught.value)


def test_a_missing_config_is_the_same_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=CONFIG_FILE):
        read_config(tmp_path)


def changed(change: Callable[[dict[str, Any]], None]) -> str:
    """Return the text of config.json after a change of its content."""
    content = json.loads(CONFIG.to_json())
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize("number", [3, 0, "1", None])
def test_another_format_number_requires_another_version(tmp_path: Path, number: object) -> None:
    """The format is checked before unknown keys, because a newer format may have new keys."""
    text = changed(lambda content: content.update(format=number, brand_new=True))
    with pytest.raises(
        CheckpointError, match=f"has format {number!r}; this version of auscan reads formats 1 to 2"
    ):
        read_config(write_config(tmp_path, text))


def test_the_error_of_an_unpacked_training_run_names_auscan_pack(tmp_path: Path) -> None:
    """Users try to load the output of `auscan train` directly."""
    folder = write_config(tmp_path / "best", '{"format": 1, "kind": "features"}')
    with pytest.raises(CheckpointError, match=r"Create one with: auscan pack .*best --out FOLDER"):
        read_config(folder)


def test_a_config_that_is_not_an_object_has_no_format(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has format None"):
        read_config(write_config(tmp_path, "[1, 2]"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda content: content.update(typo=1), "typo: Extra inputs"),
        (lambda content: content["network"]["visual"].update(typo=1), r"network\.visual\.conv\.typo: Extra"),
        (lambda content: content["network"]["audio"].update(kind="mp3"), r"network\.audio: .*mp3"),
        (lambda content: content.pop("name"), "name: Field required"),
        (lambda content: content.update(thresholds=[]), "thresholds: "),
        (lambda content: content.update(network="nano"), "network: "),
    ],
    ids=["unknown", "nested", "kind", "missing", "thresholds", "network"],
)
def test_a_wrong_setting_is_named_by_its_path(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], named: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"is not a valid checkpoint config: {named}"):
        read_config(write_config(tmp_path, changed(change)))


@pytest.mark.parametrize(
    "bomb", ["[" * 200_000, '{"format": ' + "9" * 10_000 + "}"], ids=["depth", "integer"]
)
def test_a_json_bomb_in_the_config_is_a_checkpoint_error(tmp_path: Path, bomb: str) -> None:
    write_config(tmp_path, bomb)
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        read_config(tmp_path)


def test_checksums_that_are_no_file_are_refused(folder: Path) -> None:
    checksums = folder / folders.CHECKSUMS_FILE
    checksums.unlink()
    checksums.mkdir()
    with pytest.raises(CheckpointError, match="is not a file"):
        folders.verify_checksums(folder, [folders.CONFIG_FILE])
    checksums.rmdir()
    checksums.symlink_to("nowhere")
    with pytest.raises(CheckpointError, match="is not a file"):
        folders.verify_checksums(folder, [folders.CONFIG_FILE])
