"""Look whether auscan can work here, and what is missing for what.

Each part is looked at by itself, so that one that is broken does not hide the others; at the end one picture
takes the default path, from file to table. Nothing is downloaded or sent.

In: nothing.  Out: findings, which say what is there, what is wanted and what to do.
Not here: printing them (cli/doctor.py).
"""

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from auscan.core.environment import usable_cores
from auscan.core.errors import AuscanError

State = Literal["ok", "absent", "broken"]

MIN_FREE_BYTES = 0.5e9
"""Bytes of temporary files that two hours of one face take."""

EXTRA_PURPOSES = {
    "train": "data sets, training, scoring, export, and models without graphs",
    "batch": "auscan query",
    "ray": "auscan detect --ray, many machines at once",
    "studio": "auscan studio",
    "docs": "building the docs site",
    "dev": "auscan's own tests",
}
"""What the extras bring, in a user's words."""

CODECS: tuple[tuple[str, str, Literal["r", "w"], State], ...] = (
    ("read h264", "h264", "r", "broken"),
    ("read aac", "aac", "r", "broken"),
    ("write h264", "libx264", "w", "absent"),
    ("write aac", "aac", "w", "absent"),
)
"""What, FFmpeg's name, read or write, and what it means where it is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of one thing that was looked at."""

    area: str
    """package, extra, device, codec, model, space or run"""
    name: str
    state: State
    """absent: something that not everybody needs is not there; broken: the default path needs it"""
    found: str
    """What is there, in words; empty where nothing is."""
    wanted: str = ""
    """What is asked for, where that can be said."""
    advice: str = ""
    """What to do about it; empty where nothing need be done."""


def run_checks() -> list[Finding]:
    """Look at everything; takes some seconds, most of them for PyTorch where it is installed."""
    return [
        *_check_installation(),
        *_check_devices(),
        *_check_codecs(),
        *_check_models(),
        _check_space(),
        _check_detection(),
    ]


def _check_installation() -> Iterator[Finding]:
    """Packages and extras."""
    if find_spec("packaging") is None:  # nothing can be said of the others without it
        yield Finding(
            area="package",
            name="packaging",
            state="broken",
            found="",
            advice=f"pip install {_install_target('')}",
        )
        return
    wanted = wanted_packages()
    packages = list(_check_packages(wanted))
    yield from packages
    yield from _check_extras(wanted, packages)


def wanted_packages() -> dict[str, dict[str, str]]:
    """What auscan's own metadata ask for: for each extra the versions by name; "" is what everybody needs.

    Extras come with the smaller ones first, as larger ones hold them.
    """
    from packaging.requirements import Requirement

    metadata = importlib.metadata.metadata("auscan")
    wanted: dict[str, dict[str, str]] = {extra: {} for extra in ("", *metadata.get_all("Provides-Extra", []))}
    for item in map(Requirement, importlib.metadata.requires("auscan") or []):
        for extra in wanted:
            if (not extra) if item.marker is None else item.marker.evaluate({"extra": extra}):
                wanted[extra][item.name] = str(item.specifier)
    return dict(sorted(wanted.items(), key=lambda item: (bool(item[0]), len(item[1]))))


def _check_packages(wanted: dict[str, dict[str, str]]) -> Iterator[Finding]:
    """Every package once, beginning with auscan itself."""
    yield Finding(area="package", name="auscan", state="ok", found=importlib.metadata.version("auscan"))
    seen: set[str] = {"auscan"}  # auscan[train] in an extra is that extra once more
    for extra, versions in wanted.items():
        for name in sorted(versions.keys() - seen):
            yield _check_package(name, versions[name], extra)
        seen |= versions.keys()


def _check_package(name: str, wanted: str, extra: str) -> Finding:
    from packaging.specifiers import SpecifierSet

    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = ""
    fits = bool(found) and SpecifierSet(wanted).contains(found, prereleases=True)
    return Finding(
        area=f"package of {extra}" if extra else "package",
        name=name,
        state="ok" if fits else "absent" if extra else "broken",
        found=found,
        wanted=wanted,
        advice="" if fits else f"pip install {_install_target(extra)}",
    )


def _check_extras(wanted: dict[str, dict[str, str]], packages: list[Finding]) -> Iterator[Finding]:
    """Each extra, with what it lacks and what for."""
    unusable = {item.name for item in packages if item.state != "ok"}
    for extra, versions in wanted.items():
        if not extra:
            continue
        missing_packages = [name for name in versions if name in unusable]
        need = f"lacking for {EXTRA_PURPOSES.get(extra, f'the extra {extra}')}: {', '.join(missing_packages)}"
        yield Finding(
            area="extra",
            name=extra,
            state="absent" if missing_packages else "ok",
            found=need if missing_packages else f"all {len(versions)} packages",
            advice=f"pip install {_install_target(extra)}" if missing_packages else "",
        )


def _install_target(extra: str) -> str:
    return f"'auscan[{extra}]'" if extra else "--force-reinstall auscan"


def _check_devices() -> Iterator[Finding]:
    """The processor and its memory, the threads that will be used, and GPUs where there is PyTorch."""
    cores = os.cpu_count() or 1
    usable = usable_cores()
    yield Finding(
        area="device", name="cpu", state="ok", found=f"{platform.machine()}, {usable} of {cores} cores"
    )
    threads = f"model: a thread a physical core, at most {usable} (--threads N); faces 1; decoding: FFmpeg's"
    yield Finding(area="device", name="threads", state="ok", found=threads)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        yield Finding(area="device", name="memory", state="ok", found=f"{memory / 1e9:.1f} GB")
    if find_spec("torch") is None:
        yield Finding(
            area="device",
            name="cuda",
            state="absent",
            found="",
            advice=f"a GPU needs PyTorch: pip install {_install_target('train')}",
        )
    else:
        yield _run_check("device", "cuda", _describe_gpus, "absent")


def _describe_gpus() -> str:
    from auscan.inference.torch_engine import gpus

    return ", ".join(gpus()) or "no GPU, which none of the defaults needs"


def _check_codecs() -> Iterator[Finding]:
    """What FFmpeg inside PyAV can read, and write for overlays."""
    for label, codec, mode, missing in CODECS:
        yield _run_check("codec", label, partial(_describe_codec, codec, mode), missing)


def _describe_codec(name: str, mode: Literal["r", "w"]) -> str:
    import av

    return str(av.codec.Codec(name, mode).long_name)


def _check_models() -> Iterator[Finding]:
    """The shipped models and the face detector, held against their sums."""
    from auscan.core.checkpoint_folder import SHIPPED_CHECKPOINTS

    for folder in sorted(path.parent for path in SHIPPED_CHECKPOINTS.glob("*/config.json")):
        yield _run_check("model", folder.name, partial(_verify_model, folder))
    yield _run_check("model", "face detector", _verify_detector)


def _verify_model(folder: Path) -> str:
    from auscan.core.checkpoint_folder import read_config

    read_config(folder)
    return _verify_model_files(folder)


def _verify_detector() -> str:
    from auscan.faces.detector import NETWORK_FILE

    return _verify_model_files(NETWORK_FILE.parent)


def _verify_model_files(folder: Path) -> str:
    """How many model files there are; raises CheckpointError where one is damaged."""
    from auscan.core.checkpoint_folder import CHECKSUM_PATTERNS, CHECKSUMS_FILE, verify_checksums

    names = [file.name for pattern in CHECKSUM_PATTERNS for file in folder.glob(pattern)]
    if not names:
        raise AuscanError(f"{folder} holds no model. Install auscan again.")
    verify_checksums(folder, names)
    recorded = (folder / CHECKSUMS_FILE).is_file()
    return f"{len(names)} files, {'as recorded' if recorded else f'no {CHECKSUMS_FILE} to hold them against'}"


def _check_space() -> Finding:
    """Where tracks and sound wait for their end."""

    def check_free_space() -> str:
        folder = tempfile.gettempdir()
        with tempfile.TemporaryFile(dir=folder):
            left = shutil.disk_usage(folder).free
        if left < MIN_FREE_BYTES:
            raise AuscanError(
                f"{folder} has {left / 1e9:.2f} GB left; two hours of one face take "
                f"{MIN_FREE_BYTES / 1e9} GB. Make room, or name another folder in TMPDIR."
            )
        return f"{left / 1e9:.1f} GB free in {folder}"

    return _run_check("space", "temporary files", check_free_space)


def _check_detection() -> Finding:
    """The portrait of the demo, by the shipped model, from file to table."""

    def detect_portrait() -> str:
        from auscan.pipeline.demo import PORTRAIT, read_portrait
        from auscan.pipeline.detect import detect

        read_portrait()
        result = detect(PORTRAIT)
        if len(result.tracks) != 1 or result.table["AU12_c"].tolist() != [1]:
            raise AuscanError(
                "The demo's smiling face was not read as one smiling face. Install auscan again."
            )
        return "one smiling face in the demo's portrait, as there should be"

    return _run_check("run", "auscan detect", detect_portrait)


def _run_check(area: str, name: str, check: Callable[[], str], failed: State = "broken") -> Finding:
    """The finding of `check`, or of what it raised."""
    try:
        return Finding(area=area, name=name, state="ok", found=check())
    except AuscanError as error:
        return Finding(area=area, name=name, state=failed, found="", advice=" ".join(str(error).split()))
    except Exception as error:  # a broken library may raise anything, and the rest is to be looked at too
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return Finding(area=area, name=name, state=failed, found="", advice=reason)


def describe_python() -> str:
    """Python and the system it runs on."""
    return f"Python {sys.version.split()[0]}, {platform.system()} {platform.release()} {platform.machine()}"
