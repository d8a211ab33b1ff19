"""The doctor finds broken and missing parts, names their purpose, and uses no network."""

import importlib.metadata
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from auscan.core import checkpoint_folder as folders
from auscan.faces import detector
from auscan.pipeline import doctor
from auscan.pipeline.doctor import Finding, run_checks


def finding_of(findings: list[Finding], name: str) -> Finding:
    (finding,) = [each for each in findings if each.name == name]
    return finding


def broken_names(findings: list[Finding]) -> list[str]:
    return [each.name for each in findings if each.state == "broken"]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return without(name): hide a package, or with `with_version` pretend that version of it."""
    version = importlib.metadata.version

    def hide(name: str, with_version: str | None = None) -> None:
        def fake(package: str) -> str:
            if package != name:
                return version(package)
            if with_version is None:
                raise importlib.metadata.PackageNotFoundError(package)
            return with_version

        monkeypatch.setattr(importlib.metadata, "version", fake)

    return hide


def test_a_working_installation_passes_all_checks_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the doctor used the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    findings = run_checks()
    assert broken_names(findings) == []
    assert {each.area for each in findings} >= {
        *("package", "extra", "device", "codec", "model", "space", "run"),
    }
    assert finding_of(findings, "auscan detect").found.startswith("one smiling face")
    assert finding_of(findings, "nano").found.endswith(" files, checksums match")
    assert finding_of(findings, "numpy").wanted.startswith(">=")


def test_every_package_is_listed_once() -> None:
    wanted = doctor.wanted_packages()
    names = [each.name for each in doctor._check_packages(wanted)]
    assert len(names) == len(set(names))
    assert {"auscan", "numpy", "torch", "fastapi", "pytest"} <= set(names)
    assert next(iter(wanted)) == ""
    assert "torch" not in wanted[""]


def test_a_missing_package_of_an_extra_is_reported_with_its_purpose(without: Callable[..., None]) -> None:
    without("torch")
    wanted = doctor.wanted_packages()
    packages = list(doctor._check_packages(wanted))
    torch = finding_of(packages, "torch")
    assert (torch.state, torch.found) == ("absent", "")
    train = finding_of(list(doctor._check_extras(wanted, packages)), "train")
    assert train.state == "absent"
    assert train.found == "missing for data sets, training, scoring, export, and models without graphs: torch"
    assert train.advice == "pip install 'auscan[train]'"
    assert finding_of(list(doctor._check_extras(wanted, packages)), "studio").state == "ok"


def test_a_missing_packaging_library_is_the_only_finding_about_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    (finding,) = doctor._check_installation()
    assert (finding.name, finding.state) == ("packaging", "broken")


@pytest.mark.parametrize("version", [None, "1.0"])
def test_a_mandatory_package_is_broken_if_it_is_missing_or_old(
    without: Callable[..., None], version: str | None
) -> None:
    without("numpy", version)
    numpy = finding_of(list(doctor._check_packages(doctor.wanted_packages())), "numpy")
    assert (numpy.state, numpy.found) == ("broken", version or "")
    assert numpy.advice.startswith("pip install")


def test_a_damaged_model_is_named_and_the_other_checks_still_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nano = Path(shutil.copytree(folders.SHIPPED_CHECKPOINTS / "nano", tmp_path / "nano"))
    data = bytearray((nano / "read.onnx").read_bytes())
    data[-100] ^= 4
    (nano / "read.onnx").write_bytes(data)
    monkeypatch.setattr(folders, "SHIPPED_CHECKPOINTS", tmp_path)
    findings = run_checks()
    assert broken_names(findings) == ["nano", "auscan detect"]
    assert "read.onnx" in finding_of(findings, "nano").advice
    assert finding_of(findings, "face detector").state == "ok"


def test_a_model_without_checksums_is_ok_and_reported_as_not_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(
        folders.SHIPPED_CHECKPOINTS / "nano", tmp_path / "nano", ignore=shutil.ignore_patterns("SHA256SUMS")
    )
    monkeypatch.setattr(folders, "SHIPPED_CHECKPOINTS", tmp_path)
    (nano, _) = doctor._check_models()
    assert nano.state == "ok"
    assert nano.found.endswith(" files, not verified: no SHA256SUMS")


def test_a_missing_detector_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "NETWORK_FILE", tmp_path / "centerface.onnx")
    assert finding_of(list(doctor._check_models()), "face detector").state == "broken"


def test_a_full_disk_is_reported_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    space = doctor._check_space()
    assert space.state == "broken"
    assert "0.01 GB free" in space.advice
    assert "TMPDIR" in space.advice


def test_a_codec_used_only_for_overlays_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def codec(name: str, mode: str) -> str:
        if name in ("libx264", "aac"):
            raise ValueError("no codec")
        return name

    monkeypatch.setattr(doctor, "_describe_codec", codec)
    states = {each.name: each.state for each in doctor._check_codecs()}
    assert states == {
        "read h264": "ok",
        "read aac": "broken",
        "write h264": "absent",
        "write aac": "absent",
    }


def test_pytorch_that_cannot_be_loaded_does_not_break_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise OSError("libcudart.so:\ncannot open")

    monkeypatch.setattr(doctor, "_describe_gpus", fail)
    cuda = finding_of(list(doctor._check_devices()), "cuda")
    assert (cuda.state, cuda.advice) == ("absent", "OSError: libcudart.so: cannot open")
