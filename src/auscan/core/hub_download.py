"""Download checkpoints from the Hugging Face Hub, or find them in the cache of huggingface_hub.

A hub name is user/name or user/name@revision; a revision is a branch, a tag or a commit. A model in the cache
is named user/name@commit, because a branch or a tag can move.

huggingface_hub is optional and imported when a hub name is given. It reads HF_HOME, HF_HUB_CACHE,
HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN and the token stored by `hf auth login`. Only the files of a checkpoint
are downloaded; none of them is unpickled.

Inputs: a hub name. Returns: the folder of its files in the cache.
See also: checkpoint_folder.py (`find_checkpoint` verifies the files), inference/hub.py (saving and pushing).
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from auscan.core.errors import AuscanError, CheckpointError, InputError

HUB_INSTALL_COMMAND: Final = "pip install 'auscan[hub]'"
"""Shell command that installs huggingface_hub."""

_HUB_NAME: Final = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*)(?:@([\w][\w./-]*))?")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


class HubName(NamedTuple):
    """Name of a model on the Hub."""

    repository: str
    """User or organisation, and name: user/name."""
    revision: str | None
    """Branch, tag or commit; None for the branch main."""

    def __str__(self) -> str:
        """Return user/name or user/name@revision."""
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


def parse_hub_name(text: str) -> HubName | None:
    """Parse user/name or user/name@revision; return None if `text` has another form, such as a path."""
    found = _HUB_NAME.fullmatch(text)
    return None if found is None else HubName(found[1], found[2])


def hub_name_of(folder: Path) -> str | None:
    """Return user/name@commit of a folder in the cache of huggingface_hub; None for any other folder."""
    repository = folder.parent.parent.name.removeprefix("models--").split("--")
    in_cache = folder.parent.parent.name.startswith("models--") and folder.parent.name == "snapshots"
    if not in_cache or len(repository) != 2 or _COMMIT.fullmatch(folder.name) is None:
        return None
    return f"{'/'.join(repository)}@{folder.name}"


def find_cached_model(name: HubName, files: Sequence[str]) -> Path | None:
    """Return the folder of a model in the cache if its revision is a commit, else None; use no network.

    files: patterns of the files that belong to the model
    """
    if name.revision is None or _COMMIT.fullmatch(name.revision) is None:
        return None
    require_hub(str(name))
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            name.repository, revision=name.revision, allow_patterns=list(files), local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    return Path(folder)


def download_model(name: HubName, files: Sequence[str]) -> Path:
    """Download a model unless the cache has it; return its folder in the cache.

    files: patterns of the files to download

    Without network, or with HF_HUB_OFFLINE, the newest commit in the cache is used. Raises CheckpointError if
    the model or its revision does not exist, or is not in the cache and cannot be downloaded.
    """
    require_hub(str(name))
    from huggingface_hub import snapshot_download

    with hub_errors(name):
        return Path(snapshot_download(name.repository, revision=name.revision, allow_patterns=list(files)))


def require_hub(name: str) -> None:
    """Raise InputError with the install command if huggingface_hub is missing."""
    if find_spec("huggingface_hub") is None:
        raise InputError(
            f"{name} is neither a shipped model nor a folder. If it is a model on the Hugging Face Hub, "
            f"install huggingface_hub: {HUB_INSTALL_COMMAND}"
        )


@contextmanager
def hub_errors(name: HubName) -> Iterator[None]:
    """Convert the errors of huggingface_hub to a CheckpointError of one line that names the model."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except AuscanError:
        raise
    except Exception as error:  # the errors of its HTTP client differ between versions
        match error:
            case GatedRepoError():
                text = (
                    f"{name} is gated on the Hub. Accept its terms on its page, then log in with "
                    "`hf auth login` or set HF_TOKEN."
                )
            case RepositoryNotFoundError():
                text = (
                    f"{name} is neither a shipped model, a folder nor a model on the Hub. Check the name; "
                    "for a private model, log in with `hf auth login` or set HF_TOKEN."
                )
            case RevisionNotFoundError():
                text = (
                    f"{name.repository} on the Hub has no revision {name.revision}. Give a branch, a tag or "
                    "a commit."
                )
            case OfflineModeIsEnabled():
                text = f"{name} cannot be pushed because HF_HUB_OFFLINE forbids the network. Unset it."
            case LocalEntryNotFoundError() if constants.HF_HUB_OFFLINE:
                text = f"{name} is not in the cache, and HF_HUB_OFFLINE forbids the network. Unset it once."
            case _:
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                reason = reason.removeprefix("Got: ").rstrip(".")
                text = f"{name} could not be transferred: {reason}. Check network, token and disk; try again."
        raise CheckpointError(text) from error
