"""The doctor finds what is broken, says what is missing for what, and asks nobody."""

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
    """without("torch") -> that package is not installed; with_version gives it one instead."""
    version = importlib.metadata.version

    def hide(name: str, with_version: str | None = None) -> None:
        def fake(asked: str) -> str:
            if asked != name:
                return version(asked)
            if with_version is None:
                raise importlib.metadata.PackageNotFoundError(asked)
            return with_version

        monkeypatch.setattr(importlib.metadata, "version", fake)

    return hide


def test_a_working_install_is_said_to_work_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the doctor asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    findings = run_checks()
    assert broken_names(findings) == []
    assert {each.area for each in findings} >= {
        *("package", "extra", "device", "codec", "model", "space", "run"),
    }
    assert finding_of(findings, "auscan detect").found.startswith("one smiling face")
    assert finding_of(findings, "nano").found.endswith(" files, as recorded")
    assert finding_of(findings, "numpy").wanted.startswith(">=")


def test_every_package_is_listed_once() -> None:
    wanted = doctor.wanted_packages()
    names = [each.name for each in doctor._check_packages(wanted)]
    assert len(names) == len(set(names))
    assert {"auscan", "numpy", "torch", "fastapi", "pytest"} <= set(names)
    assert next(iter(wanted)) == ""
    assert "torch" not in wanted[""]


def test_a_package_of_an_extra_is_missed_for_what_it_does(without: Callable[..., None]) -> None:
    without("torch")
    wanted = doctor.wanted_packages()
    packages = list(doctor._check_packages(wanted))
    torch = finding_of(packages, "torch")
    assert (torch.state, torch.found) == ("absent", "")
    train = finding_of(list(doctor._check_extras(wanted, packages)), "train")
    assert train.state == "absent"
    assert train.found == "lacking for data sets, training, scoring, export, and models without graphs: torch"
    assert train.advice == "pip install 'auscan[train]'"
    assert finding_of(list(doctor._check_extras(wanted, packages)), "studio").state == "ok"


def test_without_the_package_that_reads_versions_the_rest_is_still_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    (finding,) = doctor._check_installation()
    assert (finding.name, finding.state) == ("packaging", "broken")


@pytest.mark.parametrize("version", [None, "1.0"])
def test_a_package_that_everybody_needs_is_broken_where_it_is_missing_or_old(
    without: Callable[..., None], version: str | None
) -> None:
    without("numpy", version)
    numpy = finding_of(list(doctor._check_packages(doctor.wanted_packages())), "numpy")
    assert (numpy.state, numpy.found) == ("broken", version or "")
    assert numpy.advice.startswith("pip install")


def test_a_damaged_model_is_named_and_the_rest_is_looked_at(
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


def test_a_model_without_its_sums_is_no_fault_but_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(
        folders.SHIPPED_CHECKPOINTS / "nano", tmp_path / "nano", ignore=shutil.ignore_patterns("SHA256SUMS")
    )
    monkeypatch.setattr(folders, "SHIPPED_CHECKPOINTS", tmp_path)
    (nano, _) = doctor._check_models()
    assert nano.state == "ok"
    assert nano.found.endswith(" files, no SHA256SUMS to hold them against")


def test_a_detector_that_is_not_there_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "NETWORK_FILE", tmp_path / "centerface.onnx")
    assert finding_of(list(doctor._check_models()), "face detector").state == "broken"


def test_a_full_disk_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    space = doctor._check_space()
    assert space.state == "broken"
    assert "0.01 GB left" in space.advice
    assert "TMPDIR" in space.advice


def test_a_codec_that_only_overlays_need_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
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
