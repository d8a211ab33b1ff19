"""Losses are read from the device only for the log, and one that is not finite still stops the run."""

import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch.utils._python_dispatch import TorchDispatchMode

from auscan.core.errors import InputError
from auscan.training.build import mixed_precision
from auscan.training.config import LoopConfig, TrainConfig, check_train_config
from auscan.training.loop import Trainer, train
from auscan.training.losses import Predictions
from auscan.training.meter import LossMeter, NotFinite
from auscan.training.module import FeatureNetwork
from auscan.training.run import STATE_FILE
from auscan.training.windows import Batch


@pytest.fixture(scope="module")
def folders(
    make_features: Callable[..., tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    return make_features(tmp_path_factory.mktemp("features"))


@pytest.fixture(autouse=True)
def _new_accelerator() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)


def make_config(folders: tuple[Path, Path], out: Path, **loop: Any) -> TrainConfig:
    content = {
        "out": str(out),
        "data": {"index": str(folders[0]), "cache": str(folders[1]), "length": 20, "stride": 20},
        "model": {
            "size": "nano",
            "alignment": {"width": 16, "au_width": 4, "heads": 2},
            "fusion": {"heads": 2},
            "temporal": {"blocks": 1, "head_width": 8, "state_width": 4},
        },
        "loop": {"epochs": 1, "batch": 2, "device": "cpu", **loop},
    }
    return check_train_config(content, "settings")


def step_losses(out: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if line["kind"] == "training"]


def test_a_line_of_the_log_has_the_mean_loss_of_the_steps_since_the_line_before(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    train(make_config(folders, tmp_path / "each", log_every=1))
    AcceleratorState._reset_state(reset_partial_state=True)
    train(make_config(folders, tmp_path / "third", log_every=3))
    each, third = (dict(step_losses(tmp_path / run)) for run in ("each", "third"))
    assert list(third) == [3, 6, 9]
    assert third[6] == pytest.approx((each[4] + each[5] + each[6]) / 3, rel=1e-6)


def test_a_run_interrupted_between_two_lines_logs_the_same_mean(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = {"log_every": 3, "save_every": 2}
    train(make_config(folders, tmp_path / "alone", **loop))
    save = Trainer._save

    def interrupt(self: Trainer) -> None:
        save(self)
        if self.progress.step == 4:
            raise KeyboardInterrupt

    AcceleratorState._reset_state(reset_partial_state=True)
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(make_config(folders, tmp_path / "stopped", **loop))
    AcceleratorState._reset_state(reset_partial_state=True)
    train(make_config(folders, tmp_path / "stopped", **loop))
    assert step_losses(tmp_path / "alone") == step_losses(tmp_path / "stopped")


class _HostReads(TorchDispatchMode):
    """Record the file of auscan that reads a value of a tensor on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            files = [Path(frame.filename) for frame in traceback.extract_stack()]
            self.files += [file.name for file in files if file.parent.name == "training"][-1:]
        return func(*args, **(kwargs or {}))


def test_a_step_reads_no_loss_from_the_device(folders: tuple[Path, Path], tmp_path: Path) -> None:
    trainer = Trainer(make_config(folders, tmp_path), print)
    batches = next(trainer._step_batches(0, 0))
    with _HostReads() as reads:
        trainer._step(batches)
    assert not {"loop.py", "losses.py", "meter.py"} & set(reads.files)
    with _HostReads() as reads:
        trainer.losses._sums["loss"].item()
    assert reads.files == ["test_meter.py"], "the mode does see reads"


@pytest.mark.parametrize(("log_every", "save_every"), [(3, 100), (100, 3), (100, 100)])
def test_a_loss_that_is_not_finite_stops_the_run_at_the_next_line_or_save(
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log_every: int,
    save_every: int,
) -> None:
    """The error names the first such step, though all later ones are not finite either."""
    forward, calls = FeatureNetwork.forward, []

    def overflow(self: FeatureNetwork, batch: Batch) -> Predictions:
        output = forward(self, batch)
        calls.append(batch.tracks)
        if len(calls) != 2:
            return output
        wrong = torch.arange(len(batch.tracks)) == 0
        return output._replace(logits=output.logits.masked_fill(wrong[:, None, None], torch.inf))

    monkeypatch.setattr(FeatureNetwork, "forward", overflow)
    with pytest.raises(
        InputError, match=r"The loss of step 2 is (nan|inf), in windows of the tracks "
    ) as error:
        train(make_config(folders, tmp_path, log_every=log_every, save_every=save_every))
    assert f"tracks {calls[1][0]}. No weights are saved from this step on" in str(error.value)
    assert len(calls) <= 3 if min(log_every, save_every) == 3 else len(calls) > 3
    assert not (tmp_path / STATE_FILE).exists()
    assert not (tmp_path / "best").exists()


def test_the_meter_names_the_windows_that_are_not_finite() -> None:
    meter, tracks = LossMeter(), ("a", "b", "a")
    meter.add(1, {"loss": torch.tensor(1.0)}, tracks, torch.tensor([True, True, True]))
    assert meter.first_not_finite() is None
    meter.add(2, {"loss": torch.tensor(torch.inf)}, tracks, torch.tensor([True, False, True]))
    meter.add(3, {"loss": torch.tensor(torch.nan)}, tracks, torch.tensor([False, False, False]))
    assert meter.first_not_finite() == NotFinite(2, torch.inf, ("b",))
    meter.add(4, {"loss": torch.tensor(torch.inf)}, tracks, torch.tensor([True, True, True]))
    assert meter.first_not_finite() == NotFinite(4, torch.inf, ("a", "b")), "a loss without logits to blame"


@pytest.mark.parametrize(
    ("cuda", "bf16", "device", "precision", "expected"),
    [
        (True, True, "auto", "auto", "bf16"),
        (True, False, "auto", "auto", "no"),
        (True, True, "cpu", "auto", "no"),
        (False, False, "auto", "auto", "no"),
        (True, True, "auto", "no", "no"),
        (False, False, "auto", "bf16", "bf16"),
    ],
)
def test_the_default_precision_is_bf16_on_gpus_that_compute_it(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, bf16: bool, device: str, precision: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    loop = LoopConfig.model_validate({"device": device, "precision": precision})
    assert mixed_precision(loop) == expected
