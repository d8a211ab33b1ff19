"""Models on the Hub: push, load by revision, checksums, offline, errors; and saving to a folder.

Each step runs in its own Python, because huggingface_hub reads its environment when it is imported. The Hub
is a stub on this machine (hub_stub.py).
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from auscan.core import checkpoint_folder
from auscan.core.checkpoint_folder import (
    CHECKSUMS_FILE,
    CONFIG_FILE,
    find_checkpoint,
    hash_model,
    pin_checkpoint,
    read_config,
    with_revision,
    write_checksums,
)
from auscan.core.errors import CheckpointError, InputError, OutputError
from auscan.core.hub_download import HubName, hub_name_of, parse_hub_name
from auscan.inference.hub import Checkpoint, with_card_header
from tests.inference.hub_stub import Files, HubStub, Repository, serve_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOAD = "import auscan; print(auscan.load_model({name!r}, revision={revision!r}).config.name)"
UNUSED_PORT = "http://127.0.0.1:9"
NANO = find_checkpoint("nano")


@dataclass
class Desk:
    """A Hub and one user's cache."""

    hub: HubStub
    home: Path

    def python(self, code: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run code in a new Python with the cache and the Hub of this desk."""
        own = {"HF_HOME": str(self.home), "HF_ENDPOINT": self.hub.endpoint, "HF_TOKEN": self.hub.token}
        own["HF_HUB_OFFLINE"] = "0"
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, words)],
            env={**os.environ, **own, **environment},
            text=True,
            capture_output=True,
            timeout=300,
        )

    def load(self, name: str, revision: str | None = None, **environment: str) -> str:
        """Load a model; return its name, or the last line of stderr if this fails."""
        done = self.python(LOAD.format(name=name, revision=revision), **environment)
        return (done.stderr if done.returncode else done.stdout).splitlines()[-1]

    def auscan(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return self.python("from auscan.cli.main import main; main()", *words, **environment)

    def requests_of(self, word: str) -> list[str]:
        """Return the requests that contain a word."""
        return [request for request in self.hub.requests if word in request]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk with an empty cache, at a Hub that holds nano as lab/nano."""
    with serve_hub() as hub:
        hub.repositories["lab/nano"] = Repository()
        hub.repositories["lab/nano"].commit(files_of(NANO))
        yield Desk(hub, tmp_path / "home")


def files_of(folder: Path) -> Files:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_pushed_model_loads_by_name_and_commit_and_only_with_the_token(desk: Desk) -> None:
    push = (
        "import auscan; print(auscan.Checkpoint.from_pretrained('nano').push_to_hub('me/mine', private=True))"
    )
    refused = desk.python(push, HF_TOKEN="wrong")
    assert refused.returncode == 1
    assert "auscan.core.errors.CheckpointError: me/mine" in refused.stderr
    done = desk.python(push)
    assert done.returncode == 0, done.stderr
    name = done.stdout.strip()
    repository = desk.hub.repositories["me/mine"]
    assert name == f"me/mine@{repository.refs['main']}"
    files = repository.commits[repository.refs["main"]]
    assert set(files) == {file.name for file in NANO.iterdir()}
    assert files[CHECKSUMS_FILE] == (NANO / CHECKSUMS_FILE).read_bytes()
    assert files["README.md"].startswith(b"---\nlibrary_name: auscan\nlicense: apache-2.0\n")
    assert files["README.md"].endswith((NANO / "README.md").read_bytes())
    assert desk.load("me/mine") == desk.load(name) == name
    assert "me/mine is neither a shipped model" in desk.load(
        "me/mine", HF_TOKEN="", HF_HOME=str(desk.home / "other")
    )


def test_a_second_push_replaces_the_model_and_the_first_stays_a_revision(desk: Desk, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(NANO, tmp_path / "changed"))
    for graph in changed.glob("*.onnx"):
        graph.unlink()
    config = read_config(changed).model_copy(update={"reference": "Another reference."})
    (changed / CONFIG_FILE).write_text(config.to_json(), encoding="utf-8")
    write_checksums(changed)
    repository = desk.hub.repositories["lab/nano"]
    first = repository.refs["main"]
    repository.refs["v1"] = first
    push = f"import auscan; auscan.Checkpoint.from_pretrained({str(changed)!r}).push_to_hub('lab/nano')"
    done = desk.python(push)
    assert done.returncode == 0, done.stderr
    second = repository.refs["main"]
    assert not [name for name in repository.commits[second] if name.endswith(".onnx")]
    read = "import auscan, sys; print(auscan.Checkpoint.from_pretrained(*sys.argv[1:2]).config.reference)"
    assert desk.python(read, "lab/nano").stdout.strip() == "Another reference."
    assert desk.python(read, "lab/nano@v1").stdout.strip() == read_config(NANO).reference
    assert desk.load("lab/nano", "v1") == desk.load("lab/nano", first) == f"lab/nano@{first}"


def test_a_downloaded_model_loads_offline_and_a_commit_needs_no_request(desk: Desk) -> None:
    name = f"lab/nano@{desk.hub.repositories['lab/nano'].refs['main']}"
    assert desk.load("lab/nano") == name
    desk.hub.requests.clear()
    assert desk.load(name) == name
    assert desk.hub.requests == []
    assert desk.load("lab/nano", HF_HUB_OFFLINE="1") == name
    assert desk.load("lab/nano", HF_ENDPOINT=UNUSED_PORT) == name
    assert desk.hub.requests == []


def test_only_the_files_of_a_checkpoint_are_downloaded(desk: Desk) -> None:
    repository = desk.hub.repositories["lab/nano"]
    others = {"pytorch_model.bin": b"pickle", "run.py": b"print()", "last.ckpt": b"pickle"}
    repository.commit({**files_of(NANO), **others})
    assert desk.load("lab/nano").startswith("lab/nano@")
    for name in others:
        assert desk.requests_of(name) == []


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("read.onnx", b"other", "read.onnx of lab/nano is damaged or changed"),
        ("config.json", None, "config.json of lab/nano is missing"),
        ("unlisted.onnx", b"new", "unlisted.onnx of lab/nano is damaged or changed"),
        (CHECKSUMS_FILE, None, "lab/nano on the Hub has no SHA256SUMS"),
    ],
)
def test_a_model_that_does_not_match_its_checksums_is_refused(
    desk: Desk, file: str, content: bytes | None, message: str
) -> None:
    files = files_of(NANO)
    files.pop(file, None)
    desk.hub.repositories["lab/nano"].commit(files if content is None else {**files, file: content})
    assert message in desk.load("lab/nano")
    assert message in desk.load("lab/nano"), "it must also be refused when it is in the cache"


@pytest.mark.parametrize(
    ("model", "environment", "message"),
    [
        ("lab/none", {}, "auscan: lab/none is neither a shipped model, a folder nor a model on the Hub."),
        ("lab/nano@v9", {}, "auscan: lab/nano on the Hub has no revision v9."),
        ("lab/nano", {"HF_HUB_OFFLINE": "1"}, "auscan: lab/nano is not in the cache, and HF_HUB_OFFLINE"),
        ("lab/nano", {"HF_ENDPOINT": UNUSED_PORT}, "auscan: lab/nano could not be transferred: ConnectError"),
    ],
)
def test_an_error_of_the_hub_is_one_line_and_exit_code_2(
    desk: Desk, tmp_path: Path, model: str, environment: dict[str, str], message: str
) -> None:
    done = desk.auscan("detect", "a.png", "--out", tmp_path / "out", "--model", model, **environment)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(message)


def test_results_state_the_commit_and_workers_ask_the_hub_nothing(
    desk: Desk, tmp_path: Path, portrait: NDArray[np.uint8]
) -> None:
    for name in ("a.png", "b.png"):
        assert cv2.imwrite(str(tmp_path / name), portrait[..., ::-1])
    out, name = tmp_path / "out", f"lab/nano@{desk.hub.repositories['lab/nano'].refs['main']}"
    pictures = (tmp_path / "a.png", tmp_path / "b.png")
    done = desk.auscan("detect", *pictures, "--out", out, "--model", "lab/nano", "--jobs", 2)
    assert done.returncode == 0, done.stderr
    assert len(desk.requests_of("/revision/main")) == 1
    for folder in ("a", "b"):
        summary = json.loads((out / folder / "summary.json").read_text(encoding="utf-8"))
        assert summary["model"] == name
        assert f"--model {name}" in summary["command"]
    records = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert {record["model"] for record in records} == {name}
    assert {record["model_sha256"] for record in records} == {hash_model(NANO)}
    desk.hub.repositories["lab/nano"].commit({}, "main")  # the branch moves; the commit of the result stays
    again = desk.auscan("detect", *pictures, "--out", out, "--model", name, "--resume")
    assert "2 unchanged" in again.stderr, again.stderr


def test_a_folder_a_shipped_name_and_a_path_are_never_looked_up_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> Path:
        raise AssertionError("the Hub was asked")

    for function in ("download_model", "find_cached_model"):
        monkeypatch.setattr(checkpoint_folder, function, fail)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(NANO, tmp_path / "lab" / "nano")
    (tmp_path / "lab" / "empty").mkdir()
    assert find_checkpoint("nano") == NANO
    assert find_checkpoint("lab/nano") == Path("lab/nano")
    assert pin_checkpoint("lab/nano") == "lab/nano"
    assert pin_checkpoint("base") == "base"
    for name in ("lab/empty", Path("lab/other"), "./lab/other", "lab/other/", "a/b/c", "other", "C:/lab"):
        with pytest.raises(
            CheckpointError, match=r"has no config\.json|neither a shipped model nor a folder"
        ):
            find_checkpoint(name)
    with pytest.raises(AssertionError, match="the Hub was asked"):
        find_checkpoint("lab/other")


def test_a_revision_needs_a_hub_name_without_one() -> None:
    assert with_revision("lab/other", "v1") == "lab/other@v1"
    assert with_revision("nano", None) == "nano"
    for name in ("nano", "lab/other@v1", Path("lab/other")):
        with pytest.raises(InputError, match="The revision 'v2' needs a model on the Hub"):
            with_revision(name, "v2")


def test_hub_names_are_parsed_and_read_from_folders_of_the_cache(tmp_path: Path) -> None:
    assert parse_hub_name("lab/my.model-2") == HubName("lab/my.model-2", None)
    assert parse_hub_name("lab/model@refs/pr/1") == HubName("lab/model", "refs/pr/1")
    assert [parse_hub_name(text) for text in ("nano", "/a/b", "../a", "a/b/c", "a/b@", "~/a")] == [None] * 6
    assert hub_name_of(tmp_path / "models--lab--nano" / "snapshots" / COMMIT) == f"lab/nano@{COMMIT}"
    assert hub_name_of(tmp_path / "models--lab--nano" / "snapshots" / "main") is None
    assert hub_name_of(tmp_path / "lab" / COMMIT) is None


def test_a_saved_checkpoint_is_the_same_model_with_a_card_that_has_a_header(tmp_path: Path) -> None:
    checkpoint = Checkpoint.from_pretrained("nano")
    checkpoint.save_pretrained(tmp_path / "saved")
    saved = Checkpoint.from_pretrained(tmp_path / "saved")
    assert saved.config == checkpoint.config
    assert hash_model(saved.folder) == hash_model(NANO)
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert card.startswith(
        "---\nlibrary_name: auscan\nlicense: apache-2.0\npipeline_tag: video-classification"
    )
    saved.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text(encoding="utf-8") == card, "one header is enough"
    with pytest.raises(OutputError, match="saved is not empty"):
        checkpoint.save_pretrained(tmp_path / "saved")


def test_a_damaged_checkpoint_is_not_saved_and_a_wrong_name_not_pushed(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(NANO, tmp_path / "nano"))
    checkpoint = Checkpoint.from_pretrained(folder)
    with (folder / "read.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match=r"read\.onnx does not match its checksum"):
        checkpoint.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    with pytest.raises(CheckpointError, match=r"read\.onnx does not match its checksum"):
        Checkpoint.from_pretrained(folder)
    for name in ("mine", "lab/mine@main", "lab/mine/more"):
        with pytest.raises(InputError, match="is not the name of a repository"):
            checkpoint.push_to_hub(name)


@pytest.mark.parametrize(
    ("licence", "lines"),
    [
        ("CC-BY-NC-4.0", ["license: cc-by-nc-4.0"]),
        ("not stated", ["license: other", "license_name: not-stated"]),
        ("", ["license: other", "license_name: unknown"]),
    ],
)
def test_the_header_of_a_card_names_a_licence_that_the_hub_knows(licence: str, lines: list[str]) -> None:
    import yaml

    card = with_card_header("# Model\n", licence)
    assert set(lines) <= set(card.splitlines())
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["library_name"] == "auscan"
    assert header["tags"][0] == "facial-action-units"
    assert card.endswith("---\n\n# Model\n")
