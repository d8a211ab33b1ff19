"""Check the installation: packages, devices, codecs, models, temporary space, and one detection.

Each part is checked on its own, so that a broken one does not hide the others. The last check runs the
default path on one picture, from file to table. Nothing is downloaded or sent.

Inputs: none. Returns: findings with the state found, the version required and the action to take.
See also: cli/doctor.py (printing).
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

from auscan.core.environment import VERSION, usable_cores
from auscan.core.errors import AuscanError

State = Literal["ok", "absent", "broken"]
"""State of a finding; absent: optional and not installed; broken: the default path needs it."""

MIN_FREE_BYTES = 0.5e9
"""Size in bytes of the temporary files of a two-hour video of one face."""

EXTRA_PURPOSES = {
    "train": "data sets, training, scoring, export, and models without graphs",
    "batch": "auscan query",
    "ray": "auscan detect --ray, many machines at once",
    "studio": "auscan studio",
    "hub": "models on the Hugging Face Hub",
    "docs": "building the docs site",
    "dev": "auscan's own tests",
}
"""Purpose of each optional extra of the package."""

CODECS: tuple[tuple[str, str, Literal["r", "w"], State], ...] = (
    ("read h264", "h264", "r", "broken"),
    ("read aac", "aac", "r", "broken"),
    ("write h264", "libx264", "w", "absent"),
    ("write aac", "aac", "w", "absent"),
)
"""Codecs to check: label, FFmpeg's name, read or write, state if missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Result of one check."""

    area: str
    """package, extra, device, codec, model, space or run."""
    name: str
    """Name of the checked item within its area."""
    state: State
    """ok, absent or broken."""
    found: str
    """Version or description of the item found; empty if there is none."""
    wanted: str = ""
    """Required versions; empty if there is no such requirement."""
    advice: str = ""
    """Action to take; empty if none is needed."""


def run_checks() -> list[Finding]:
    """Run all checks; takes some seconds, most of them to load PyTorch if it is installed."""
    return [
        *_check_installation(),
        *_check_devices(),
        *_check_codecs(),
        *_check_models(),
        _check_space(),
        _check_detection(),
    ]


def _check_installation() -> Iterator[Finding]:
    """Check packages and extras."""
    if find_spec("packaging") is None:  # needed to compare versions
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
    """Return the version requirements of each extra by package name; "" holds the mandatory packages.

    Read from auscan's own metadata. Smaller extras are first, as larger ones include them.
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
    """Check each package once, beginning with auscan itself."""
    yield Finding(area="package", name="auscan", state="ok", found=VERSION)
    seen: set[str] = {"auscan"}  # an extra may require auscan[train], whose packages are listed already
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
    """Check each extra; list its missing packages and its purpose."""
    unusable = {item.name for item in packages if item.state != "ok"}
    for extra, versions in wanted.items():
        if not extra:
            continue
        missing_packages = [name for name in versions if name in unusable]
        need = f"missing for {EXTRA_PURPOSES.get(extra, f'the extra {extra}')}: {', '.join(missing_packages)}"
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
    """Describe the CPU, its threads and memory, and the GPUs if PyTorch is installed."""
    cores = os.cpu_count() or 1
    usable = usable_cores()
    yield Finding(
        area="device", name="cpu", state="ok", found=f"{platform.machine()}, {usable} of {cores} cores"
    )
    threads = (
        f"model: one per physical core, at most {usable} (--threads N); face detector: 1; "
        "decoding: chosen by FFmpeg"
    )
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

    return ", ".join(gpus()) or "no GPU; the defaults need none"


def _check_codecs() -> Iterator[Finding]:
    """Check which codecs the FFmpeg inside PyAV can read, and write for overlays."""
    for label, codec, mode, missing in CODECS:
        yield _run_check("codec", label, partial(_describe_codec, codec, mode), missing)


def _describe_codec(name: str, mode: Literal["r", "w"]) -> str:
    import av

    return str(av.codec.Codec(name, mode).long_name)


def _check_models() -> Iterator[Finding]:
    """Verify the checksums of the shipped models and of the face detector."""
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
    """Describe the verified model files of a folder; raise CheckpointError if one is damaged."""
    from auscan.core.checkpoint_folder import CHECKSUM_PATTERNS, CHECKSUMS_FILE, verify_checksums

    names = [file.name for pattern in CHECKSUM_PATTERNS for file in folder.glob(pattern)]
    if not names:
        raise AuscanError(f"{folder} contains no model. Reinstall auscan.")
    verify_checksums(folder, names)
    recorded = (folder / CHECKSUMS_FILE).is_file()
    return f"{len(names)} files, {'checksums match' if recorded else f'not verified: no {CHECKSUMS_FILE}'}"


def _check_space() -> Finding:
    """Check the free space for temporary files, which hold the features of tracks and audio."""

    def check_free_space() -> str:
        folder = tempfile.gettempdir()
        with tempfile.TemporaryFile(dir=folder):
            left = shutil.disk_usage(folder).free
        if left < MIN_FREE_BYTES:
            raise AuscanError(
                f"{folder} has {left / 1e9:.2f} GB free; two hours of one face take "
                f"{MIN_FREE_BYTES / 1e9} GB. Free some space, or set TMPDIR to another folder."
            )
        return f"{left / 1e9:.1f} GB free in {folder}"

    return _run_check("space", "temporary files", check_free_space)


def _check_detection() -> Finding:
    """Run the shipped model on the portrait of the demo, from file to table."""

    def detect_portrait() -> str:
        from auscan.pipeline.demo import PORTRAIT, read_portrait
        from auscan.pipeline.detect import detect

        read_portrait()
        result = detect(PORTRAIT)
        if len(result.tracks) != 1 or result.table["AU12_c"].tolist() != [1]:
            raise AuscanError("The demo portrait was not detected as one smiling face. Reinstall auscan.")
        return "one smiling face in the demo portrait, as expected"

    return _run_check("run", "auscan detect", detect_portrait)


def _run_check(area: str, name: str, check: Callable[[], str], failed: State = "broken") -> Finding:
    """Run a check and return its finding; an exception becomes a finding in state `failed`."""
    try:
        return Finding(area=area, name=name, state="ok", found=check())
    except AuscanError as error:
        return Finding(area=area, name=name, state=failed, found="", advice=" ".join(str(error).split()))
    except Exception as error:  # a broken library may raise anything, and the other checks must still run
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return Finding(area=area, name=name, state=failed, found="", advice=reason)


def describe_python() -> str:
    """Describe the Python version and the operating system."""
    return f"Python {sys.version.split()[0]}, {platform.system()} {platform.release()} {platform.machine()}"
