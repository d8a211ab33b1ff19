"""A checkpoint folder that cannot be used says which file is at fault, what is wrong and what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auscan.core import folder as folders
from auscan.core.config import CheckpointConfig, nano
from auscan.core.errors import CheckpointError
from auscan.core.folder import CONFIG_FILE, find_checkpoint, read_config

CONFIG = CheckpointConfig(name="tiny", auscan_version="0.1.0", network=nano())


def write_config(folder: Path, text: str | bytes | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = CONFIG.model_dump_json() if text is None else text
    (folder / CONFIG_FILE).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that ships `nano` and `pico`."""
    monkeypatch.setattr(folders, "SHIPPED", tmp_path / "shipped")
    write_config(tmp_path / "shipped" / "pico")
    return write_config(tmp_path / "shipped" / "nano")


def test_a_shipped_name_is_found_whatever_the_working_folder(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder called nano in the working folder must not take the shipped model's place."""
    write_config(tmp_path / "here" / "nano")
    monkeypatch.chdir(tmp_path / "here")
    assert find_checkpoint("nano") == shipped


def test_a_folder_is_found_by_its_path_as_text_or_path(shipped: Path, tmp_path: Path) -> None:
    own = write_config(tmp_path / "mine")
    assert find_checkpoint(own) == own
    assert find_checkpoint(str(own)) == own


def test_a_missing_checkpoint_names_those_that_ship(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(tmp_path / "nowhere")
    assert "nowhere is neither a shipped model nor a folder" in str(caught.value)
    assert "nano, pico" in str(caught.value)


def test_a_folder_without_a_config_is_told_from_a_missing_one(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("size", ["base", "large"])
def test_a_size_that_nobody_trained_says_so(shipped: Path, size: str) -> None:
    with pytest.raises(CheckpointError, match="size to train, not a trained model"):
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


def test_a_config_that_is_missing_is_the_same_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=CONFIG_FILE):
        read_config(tmp_path)


def changed(change: Callable[[dict[str, Any]], None]) -> str:
    content = json.loads(CONFIG.model_dump_json())
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize("number", [2, 0, "1", None])
def test_another_format_number_asks_for_another_auscan(tmp_path: Path, number: object) -> None:
    """Named before any unknown key: a newer config is newer, not wrong."""
    text = changed(lambda content: content.update(format=number, brand_new=True))
    with pytest.raises(
        CheckpointError, match=f"has format {number!r}; this version of auscan reads format 1"
    ):
        read_config(write_config(tmp_path, text))


def test_a_run_that_is_not_packed_says_how(tmp_path: Path) -> None:
    """What one tries first after training."""
    folder = write_config(tmp_path / "best", '{"format": 1, "kind": "features"}')
    with pytest.raises(CheckpointError, match=r"Make one with: auscan pack .*best --out FOLDER"):
        read_config(folder)


def test_a_config_that_is_no_object_has_no_format(tmp_path: Path) -> None:
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
def test_a_wrong_setting_is_named_by_its_place(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], named: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"is not a config of auscan: {named}"):
        read_config(write_config(tmp_path, changed(change)))
