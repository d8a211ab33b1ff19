"""Share checkpoints: load one from the Hub or a folder, save it, push it to the Hub.

`Checkpoint` has the methods that huggingface_hub gives to models (`from_pretrained`, `save_pretrained`,
`push_to_hub`). It stands for a folder and not for a loaded engine, because an engine reads either the weights
or the graphs, and both belong to the model that is shared. `load_model(checkpoint.folder)` runs it.

huggingface_hub is needed only for the Hub. No method takes a token: HF_TOKEN and `hf auth login` keep it out
of scripts and notebooks.

Inputs: a name or a folder. Returns: a folder, or the name of what was pushed.
See also: core/checkpoint_folder.py (layout of the folder), core/hub_download.py (download).
"""

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auscan.core.checkpoint_folder import (
    CARD_FILE,
    CHECKSUM_PATTERNS,
    EXPORT_FILE,
    FILE_PATTERNS,
    find_checkpoint,
    hash_model,
    read_config,
    with_revision,
    write_checksums,
)
from auscan.core.config import CheckpointConfig
from auscan.core.errors import InputError, OutputError
from auscan.core.hub_download import HubName, hub_errors, parse_hub_name, require_hub

TAGS: Final = ("facial-action-units", "facs", "affective-computing", "audio-visual")
"""Tags of the model card."""

HUB_LICENCES: Final = frozenset(
    {
        *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "agpl-3.0", "lgpl-3.0", "mpl-2.0"),
        *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
    }
)
"""Licences by their identifiers on the Hub; any other is written as `other` with its name."""


@dataclass(frozen=True)
class Checkpoint:
    """Checkpoint folder that can be saved elsewhere and pushed to the Hub."""

    folder: Path
    """Folder of the files; in the cache of huggingface_hub for a model from the Hub."""
    config: CheckpointConfig
    """Content of config.json; `config.name` of a model from the Hub is user/name@commit."""

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> "Checkpoint":
        """Find a checkpoint and verify all its files.

        Args:
            name: name of a shipped model, path of a checkpoint folder, or user/name[@revision] on the Hub
            revision: branch, tag or commit of a model on the Hub; the branch main by default

        Raises:
            CheckpointError: the checkpoint is not found, invalid or damaged, or cannot be downloaded
            InputError: `revision` is given for another model, or huggingface_hub is not installed
        """
        folder = find_checkpoint(with_revision(name, revision))
        hash_model(folder)
        return cls(folder, read_config(folder))

    def save_pretrained(self, folder: str | Path) -> None:
        """Copy the checkpoint into a new folder, with a YAML header on its model card and new checksums.

        Raises OutputError if the folder is not empty or cannot be written, and CheckpointError if a file of
        the checkpoint does not match its checksum.
        """
        target = Path(folder)
        hash_model(self.folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
            if any(target.iterdir()):
                raise OutputError(f"{target} is not empty. Give a new folder.")
            for file in sorted(file for pattern in FILE_PATTERNS for file in self.folder.glob(pattern)):
                shutil.copyfile(file, target / file.name)
            card = target / CARD_FILE
            text = card.read_text(encoding="utf-8") if card.is_file() else f"# {self.config.name}\n"
            card.write_text(with_card_header(text, self.config.licence), encoding="utf-8")
            write_checksums(target)
        except OSError as error:
            raise OutputError(f"{target} cannot be written ({error.strerror}).") from error

    def push_to_hub(
        self, repository: str, *, private: bool | None = None, message: str = "Upload an auscan checkpoint"
    ) -> str:
        """Push the checkpoint to the branch main of a repository on the Hub, which is created if missing.

        Args:
            repository: user/name
            private: whether a new repository is private; None for the default of the account
            message: message of the commit

        Returns user/name@commit, which `load_model` and `--model` accept. Model files of an earlier push that
        this checkpoint lacks are deleted in the same commit. Raises CheckpointError if the Hub refuses the
        push or cannot be reached, InputError if `repository` is no name or huggingface_hub is not installed.
        """
        name = parse_hub_name(repository)
        if name is None or name.revision is not None:
            raise InputError(f"{repository!r} is not the name of a repository. Give user/name.")
        require_hub(repository)
        from huggingface_hub import HfApi

        with tempfile.TemporaryDirectory() as parent, hub_errors(name):
            folder = Path(parent) / "checkpoint"
            self.save_pretrained(folder)
            api = HfApi()
            created = api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=created.repo_id,
                folder_path=folder,
                commit_message=message,
                delete_patterns=[*CHECKSUM_PATTERNS, EXPORT_FILE],
            )
        return str(HubName(created.repo_id, commit.oid))


def with_card_header(card: str, licence: str) -> str:
    """Return the text of a model card with a YAML header; a card that has a header is returned unchanged."""
    if card.startswith("---\n"):
        return card
    known = licence.lower()
    slug = re.sub(r"[^a-z0-9.]+", "-", known).strip("-") or "unknown"
    terms = [f"license: {known}"] if known in HUB_LICENCES else ["license: other", f"license_name: {slug}"]
    tags = [f"- {tag}" for tag in TAGS]
    lines = ["library_name: auscan", *terms, "pipeline_tag: video-classification", "tags:", *tags]
    return "\n".join(["---", *lines, "---", "", card])
