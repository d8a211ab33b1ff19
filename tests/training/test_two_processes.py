"""Two processes that share the windows of each step train the same network as one process."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from auscan.core.errors import InputError
from auscan.training.config import check_train_config
from auscan.training.distributed import gather_rows
from auscan.training.loop import train
from auscan.training.run import STATE_FILE, RunFolder

STEPS = 50
MODEL = {
    "size": "nano",
    "alignment": {"width": 16, "au_width": 4, "heads": 2, "active_patches": 3},
    "fusion": {"heads": 2},
    "temporal": {"blocks": 1, "head_width": 8, "state_width": 4},
}


def settings(folders: tuple[Path, Path], out: Path, batch: int) -> dict[str, Any]:
    """Settings with everything that depends on more than one window: F1 and contrast over the batch, another
    window's audio.
    """
    index, cache = map(str, folders)
    return {
        "out": str(out),
        "data": {"index": index, "cache": cache, "length": 30, "stride": 1},
        "model": MODEL,
        "loss": {"asymmetric": 1.0, "soft_f1": 1.0, "alignment": 0.3},
        "dropout": {"no_sound": 0.2, "other_sound": 0.3, "no_face": 0.5},
        "loop": {"epochs": 1, "batch": batch, "accumulate": 2, "device": "cpu", "log_every": 1},
        "optimizer": {"average": 0.9},
    }


def launch(processes: int, config: Path) -> None:
    """Run `accelerate launch` as in docs/training.md, on a free port."""
    call = config.with_suffix(".py")
    call.write_text("from auscan.cli.main import main\n\nmain()\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"--multi_gpu --num_processes {processes} --num_machines 1 --mixed_precision no"
    options += f" --dynamo_backend no --main_process_ip 127.0.0.1 --main_process_port {port}"
    program = [sys.executable, "-m", "accelerate.commands.launch", *options.split()]
    done = subprocess.run(
        [*program, str(call), "train", str(config)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("best mean F1") == 1, "only one process prints"


@pytest.fixture(scope="module")
def folders(
    make_features: Callable[..., tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Windows of 30 frames and shorter tracks, so that batches are padded; one track has no audio."""
    tracks = {"900": ("train", 300), "mute901": ("train", 165), "902": ("train", 12)}
    tracks |= {"903": ("val", 40), "904": ("val", 20)}
    index, cache = make_features(tmp_path_factory.mktemp("data"), tracks)
    for file in cache.glob("*/scales.npy"):  # between equal patches, rounding would decide
        scales = np.load(file)
        np.save(file, scales * np.arange(1, 1 + scales.shape[1], dtype=np.float32))
    return index, cache


@pytest.fixture(scope="module")
def runs(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a run of one process with batches of 4, and of a run of two with batches of 2."""
    root = tmp_path_factory.mktemp("runs")
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)
    train(check_train_config(settings(folders, root / "one", batch=4), "one"))
    file = root / "two.yaml"
    file.write_text(yaml.safe_dump(settings(folders, root / "two", batch=2)))
    launch(2, file)
    return root / "one", root / "two"


def test_their_losses_are_those_of_one_process(runs: tuple[Path, Path]) -> None:
    """Every loss of every step, to 1e-5."""
    logs = [[json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in runs]
    one, two = (pd.DataFrame([line for line in log if line["kind"] == "training"]) for log in logs)
    assert len(one) >= STEPS
    names = ["step", "rate", "loss", "bce", "asymmetric", "soft_f1", "alignment"]
    pd.testing.assert_frame_equal(one[names], two[names], rtol=0, atol=1e-5)
    assert one["loss"].std() > 0.01, "the losses change"


def test_their_weights_and_scores_are_those_of_one_process(runs: tuple[Path, Path]) -> None:
    """Tolerance 1e-4: Adam amplifies rounding errors of gradients that are almost 0."""
    one, two = (load_file(run / "last" / "model.safetensors") for run in runs)
    for name, weights in one.items():
        torch.testing.assert_close(weights, two[name], rtol=0, atol=1e-4)
    one, two = (pd.read_parquet(run / "scores" / "val.parquet") for run in runs)
    pd.testing.assert_frame_equal(one, two, rtol=0, atol=1e-4)


def test_a_run_is_not_resumed_with_another_step_size(
    folders: tuple[Path, Path], runs: tuple[Path, Path]
) -> None:
    """Otherwise it would do as many steps on other windows."""
    AcceleratorState._reset_state(reset_partial_state=True)
    assert torch.load(runs[1] / STATE_FILE, weights_only=True)["group"] == 8
    with pytest.raises(InputError, match="8 windows a step; now it would have 4"):
        train(check_train_config(settings(folders, runs[1], batch=2), "two"))


def test_a_machine_that_does_not_share_the_folder_is_refused(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    config = check_train_config(settings(folders, tmp_path / "mine", batch=2), "mine")
    with pytest.raises(InputError, match="All machines must share the folder"):
        RunFolder(config, creates=False)


class _ThreeProcesses:
    """Accelerator of the second of three processes; the rows of the others are derived from its own."""

    num_processes, process_index = 3, 1

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        if rows.ndim == 1:
            return torch.tensor([2, 1, 0])
        return torch.cat([rows + 10, rows, torch.zeros_like(rows)])


def test_gathered_rows_are_in_order_and_only_own_rows_have_gradients() -> None:
    mine = torch.ones(1, 3, requires_grad=True)
    rows = gather_rows(_ThreeProcesses(), mine)
    assert rows[:, 0].tolist() == [11.0, 10.0, 1.0]
    (rows * torch.tensor([[5.0], [7.0], [2.0]])).sum().backward()
    assert mine.grad is not None
    assert mine.grad.tolist() == [[2.0] * 3]
