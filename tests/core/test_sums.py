"""Model files that were damaged on their way are refused; folders without a record are read as before."""

import shutil
import subprocess
from pathlib import Path

import pytest

from auscan.core.errors import CheckpointError
from auscan.core.folder import SHIPPED, find_checkpoint, read_config
from auscan.core.sums import ANEW, SUMS_FILE, check_sums, hash_model, write_sums
from auscan.faces import detector
from auscan.inference.stages import load

NAMES = ("config.json", "model.safetensors", "visual.onnx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three model files on record, and a file that is none."""
    for number, name in enumerate((*NAMES, "README.md")):
        (tmp_path / name).write_bytes(bytes([number]) * 1000)
    write_sums(tmp_path)
    return tmp_path


def flip_a_bit(file: Path, place: int = 500, bit: int = 3) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1 << bit
    file.write_bytes(data)


def test_whole_files_pass_and_the_card_may_change(folder: Path) -> None:
    flip_a_bit(folder / "README.md")
    check_sums(folder, NAMES)
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize("name", NAMES)
def test_one_flipped_bit_is_found_and_named(folder: Path, name: str) -> None:
    flip_a_bit(folder / name)
    check_sums(folder, [other for other in NAMES if other != name])
    with pytest.raises(CheckpointError, match=name) as caught:
        check_sums(folder, NAMES)
    assert "damaged or changed" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_anywhere_in_the_record_is_found_too(folder: Path) -> None:
    record = (folder / SUMS_FILE).read_bytes()
    for place in range(len(record)):
        for bit in (0, 5):
            (folder / SUMS_FILE).write_bytes(record)
            flip_a_bit(folder / SUMS_FILE, place, bit)
            if (folder / SUMS_FILE).read_bytes().lower().split() != record.split():
                with pytest.raises(CheckpointError):
                    check_sums(folder, NAMES)


def test_a_file_that_the_record_leaves_out_is_not_trusted(folder: Path) -> None:
    (folder / "read.onnx").write_bytes(b"slipped in")
    with pytest.raises(CheckpointError, match=r"read\.onnx"):
        check_sums(folder, ["read.onnx"])


def test_a_folder_without_a_record_is_left_alone(folder: Path) -> None:
    (folder / SUMS_FILE).unlink()
    flip_a_bit(folder / "visual.onnx")
    check_sums(folder, NAMES)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"one-word-only\n"])
def test_a_record_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / SUMS_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match="is no list of sums"):
        check_sums(folder, NAMES)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="There is no sha256sum.")
def test_the_record_is_the_one_of_the_usual_tool(folder: Path) -> None:
    checked = subprocess.run(["sha256sum", "--check", "--strict", SUMS_FILE], cwd=folder, timeout=60)
    assert checked.returncode == 0
    ours = (folder / SUMS_FILE).read_text("utf-8")
    subprocess.run(ANEW, cwd=folder, shell=True, check=True, timeout=60)
    assert sorted((folder / SUMS_FILE).read_text("utf-8").splitlines()) == sorted(ours.splitlines())


def test_every_shipped_model_is_on_record_and_whole() -> None:
    for folder in (*(path.parent for path in SHIPPED.glob("*/config.json")), detector.NETWORK.parent):
        files = [file.name for pattern in ("*.safetensors", "*.onnx") for file in folder.glob(pattern)]
        assert files
        assert (folder / SUMS_FILE).is_file()
        check_sums(folder, files)


@pytest.mark.parametrize("name", ["config.json", "visual.onnx", "sweep_1_back.onnx", "SHA256SUMS"])
def test_the_shipped_model_with_a_flipped_bit_is_not_loaded(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(find_checkpoint("nano"), tmp_path / "nano"))
    assert load(folder).config == read_config(folder)
    flip_a_bit(folder / name, place=40)
    with pytest.raises(CheckpointError):
        load(folder)


def test_a_damaged_face_detector_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (detector.NETWORK, detector.NETWORK.with_name(SUMS_FILE)):
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(detector, "NETWORK", tmp_path / detector.NETWORK.name)
    detector.FaceDetector()
    flip_a_bit(tmp_path / detector.NETWORK.name, place=4_000_000)
    with pytest.raises(CheckpointError, match=r"centerface\.onnx"):
        detector.FaceDetector()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="There is no sha256sum.")
def test_the_sum_of_a_model_is_that_of_its_record_and_of_every_file(folder: Path) -> None:
    """What a result's manifest says of the model can be told with the usual tool."""
    whole = hash_model(folder)
    usual = subprocess.run(["sha256sum", SUMS_FILE], cwd=folder, capture_output=True, text=True, check=True)
    assert usual.stdout.split()[0] == whole
    for name in NAMES:
        flip_a_bit(folder / name)
        with pytest.raises(CheckpointError, match=f"{name} is not the file"):
            hash_model(folder)
        flip_a_bit(folder / name)
    (folder / SUMS_FILE).unlink()
    assert hash_model(folder) == whole
    flip_a_bit(folder / "visual.onnx")
    assert hash_model(folder) != whole
