"""Training loop: it improves, stops early, keeps the best network, and an interrupted run ends as an
uninterrupted one.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from auscan.core.errors import CheckpointError, InputError
from auscan.model.alignment import GranularityAlignment
from auscan.training.config import TrainConfig, check_train_config
from auscan.training.loop import train
from auscan.training.optim import WeightAverage, average_share, parameter_groups, warmup_cosine
from auscan.training.run import STATE_FILE, load_trained
from auscan.training.scores import read_scores

MODEL = {
    "size": "nano",
    "alignment": {"width": 16, "au_width": 4, "heads": 2, "active_patches": 3},
    "fusion": {"heads": 2},
    "temporal": {"blocks": 1, "head_width": 8, "state_width": 4},
}


@pytest.fixture(scope="module")
def folders(
    make_features: Callable[..., tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    return make_features(tmp_path_factory.mktemp("features"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Reset accelerate, which keeps its settings for the life of a process; each test is a separate run."""
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)


def settings(folders: tuple[Path, Path], out: Path, **changes: Any) -> dict[str, Any]:
    """Return the content of a settings file."""
    index, cache = map(str, folders)
    content: dict[str, Any] = {
        "out": str(out),
        "data": {"index": index, "cache": cache, "length": 40, "stride": 30},
        "model": MODEL,
        "loop": {"epochs": 3, "batch": 3, "accumulate": 2, "device": "cpu", "log_every": 1},
        "optimizer": {"rate": 5e-3, "average": 0.9},
    }
    for key, value in changes.items():
        content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) else value
    return content


def make_config(folders: tuple[Path, Path], out: Path, **changes: Any) -> TrainConfig:
    return check_train_config(settings(folders, out, **changes), "settings")


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def run_in_process(config: Path) -> "subprocess.Popen[bytes]":
    code = "from auscan.cli.main import main; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, "train", str(config)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def test_training_improves_and_writes_all_its_files(folders: tuple[Path, Path], tmp_path: Path) -> None:
    reported: list[str] = []
    config = make_config(folders, tmp_path / "run", loop={"epochs": 12}, data={"score": ["test"]})
    outcome = train(config, reported.append)
    assert outcome.best > 0.5, "always predicting active scores less, about 0.57 x 0.4 / 0.7"
    validations = [line["mean_f1"] for line in log_of(tmp_path / "run") if line["kind"] == "validation"]
    assert len(validations) == 12
    assert outcome.best == max(validations) > validations[0] + 0.05
    assert any("total" in line for line in reported), "the number of weights is reported"
    assert any("k = 3 of N = 4 patches (2 x 2) are active" in line for line in reported)
    losses = [line for line in log_of(tmp_path / "run") if line["kind"] == "training"]
    assert {"step", "rate", "loss", "bce", "soft_f1", "alignment", "frames_per_s"} <= set(losses[0])
    scores = {split: read_scores(path) for split, path in outcome.scores.items()}
    assert sorted(scores["val"]["track"].unique()) == ["903", "904"]
    assert list(scores["test"]["frame"]) == list(range(1, 21))
    has_face = scores["val"]["has_face"]
    assert scores["val"].loc[has_face, "AU01"].notna().all()
    assert scores["val"].loc[~has_face, "AU01"].isna().all()
    network, trained_config = load_trained(tmp_path / "run" / "best")
    assert trained_config.score == pytest.approx(outcome.best)
    assert trained_config.step == outcome.best_step
    assert network.alignment.position.shape == (4, 16)


def test_a_run_of_a_version_with_another_network_is_not_resumed(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    config = make_config(folders, tmp_path, loop={"epochs": 1})
    train(config)
    state = torch.load(tmp_path / STATE_FILE, weights_only=True)
    assert state.pop("format") == 2
    torch.save(state, tmp_path / STATE_FILE)
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(InputError, match="another version of auscan, with another network"):
        train(config)


def test_a_run_killed_at_a_random_step_ends_with_the_same_weights(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Killed with SIGKILL at two times, one between saves; the weights are equal bit for bit."""
    changes = {"loop": {"epochs": 6, "save_every": 2}, "optimizer": {"rate": 5e-3, "average": 0.9}}
    train(make_config(folders, tmp_path / "alone", **changes))
    file = tmp_path / "killed.yaml"
    file.write_text(yaml.safe_dump(settings(folders, tmp_path / "killed", **changes)))
    rng = np.random.default_rng(time.time_ns())
    log, kills = tmp_path / "killed" / "log.jsonl", 0
    for at in sorted(rng.choice(np.arange(1, 10), 2, replace=False).tolist()):
        process = run_in_process(file)
        while process.poll() is None:
            if log.exists() and f'"step": {at},' in log.read_text():
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
            time.sleep(0.002)
        assert process.stderr is not None
        assert process.returncode in (0, -signal.SIGKILL), process.stderr.read().decode()
        process.stderr.close()
    assert kills > 0
    outcome = train(make_config(folders, tmp_path / "killed", **changes))
    assert outcome.steps == 12
    for name in ("best", "last"):
        one, other = (load_file(tmp_path / run / name / "model.safetensors") for run in ("alone", "killed"))
        assert all(torch.equal(one[key], other[key]) for key in one.keys() | other.keys())
    alone, killed = (
        torch.load(tmp_path / run / STATE_FILE, weights_only=True) for run in ("alone", "killed")
    )
    for part in ("network", "mean"):
        assert all(torch.equal(alone[part][key], killed[part][key]) for key in alone[part])
    lines = [
        [(line["step"], line.get("loss")) for line in log_of(tmp_path / run)] for run in ("alone", "killed")
    ]
    assert lines[0] == lines[1], "no step is logged twice"


@pytest.mark.parametrize(("step", "margin"), [(1, None), (2, None), (3, None), (5, None), (3, 50)])
def test_a_run_interrupted_after_any_save_ends_the_same(
    folders: tuple[Path, Path],
    tmp_path: Path,
    step: int,
    margin: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also for a run that scans its windows with margins."""
    from auscan.training.loop import Trainer

    changes = {"loop": {"epochs": 3, "save_every": 1}, "data": {"margin": margin}}
    train(make_config(folders, tmp_path / "alone", **changes))
    AcceleratorState._reset_state(reset_partial_state=True)
    save = Trainer._save

    def interrupt(self: Trainer) -> None:
        save(self)
        if self.progress.step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(make_config(folders, tmp_path / "stopped", **changes))
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.manual_seed(step)  # the state of the global generator must not matter
    train(make_config(folders, tmp_path / "stopped", **changes))
    one, other = (load_file(tmp_path / run / "last" / "model.safetensors") for run in ("alone", "stopped"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_finished_run_only_writes_its_scores_again(folders: tuple[Path, Path], tmp_path: Path) -> None:
    config = make_config(folders, tmp_path, loop={"epochs": 1})
    first = train(config)
    (tmp_path / "scores" / "val.parquet").unlink()
    again = train(config)
    assert (again.best, again.steps) == (first.best, first.steps)
    assert again.scores["val"].exists()


def test_the_files_of_a_run_have_the_names_of_the_weights(folders: tuple[Path, Path], tmp_path: Path) -> None:
    train(make_config(folders, tmp_path, loop={"epochs": 1}))
    weights = load_file(tmp_path / "last" / "model.safetensors")
    network, _ = load_trained(tmp_path / "last")
    assert weights.keys() == network.state_dict().keys()
    state = torch.load(tmp_path / STATE_FILE, weights_only=True)
    assert state["network"].keys() == weights.keys()
    assert state["mean"].keys() == {"n_averaged", *(f"module.{name}" for name in weights)}
    config = json.loads((tmp_path / "last" / "config.json").read_text())
    assert (config["format"], config["untaught"]) == (2, [])


def test_training_anneals_the_selection_and_saves_networks_with_all_of_it(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    anneal = GranularityAlignment.anneal_selection

    def record(alignment: GranularityAlignment, final: int, progress: float) -> None:
        anneal(alignment, final, progress)
        counts.append(alignment.active)

    monkeypatch.setattr(GranularityAlignment, "anneal_selection", record)
    train(make_config(folders, tmp_path, loop={"epochs": 4}))
    assert counts[0] == 4, "all patches"
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == load_trained(tmp_path / "best")[0].alignment.active == 3


def test_a_folder_with_other_settings_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    train(make_config(folders, tmp_path, loop={"epochs": 1}))
    with pytest.raises(InputError, match=r"loop\.epochs is 1 there and 2 now"):
        train(make_config(folders, tmp_path, loop={"epochs": 2}))


def test_training_stops_when_it_no_longer_improves(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """With a learning rate of almost 0 the first validation remains the best."""
    config = make_config(
        folders, tmp_path, loop={"epochs": 50, "patience": 2}, optimizer={"rate": 1e-12, "average": 0.0}
    )
    outcome = train(config)
    assert outcome.steps == 3 * outcome.best_step


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("workers", [0, 1])
def test_precision_and_workers_are_set_in_the_config(
    folders: tuple[Path, Path], tmp_path: Path, precision: str, workers: int
) -> None:
    loop = {"epochs": 1, "precision": precision, "workers": workers}
    outcome = train(make_config(folders, tmp_path, loop=loop))
    assert 0 < outcome.best <= 1


@pytest.mark.parametrize(
    "controls",
    [{"temporal": "tcn", "fusion": "concat"}, {"visual": "global", "guide": "plain", "temporal": "bigru"}],
)
def test_controls_train_in_the_same_loop(
    folders: tuple[Path, Path], tmp_path: Path, controls: dict[str, str]
) -> None:
    train(make_config(folders, tmp_path, loop={"epochs": 1}, model={**MODEL, "controls": controls}))
    _, trained_config = load_trained(tmp_path / "best")
    assert trained_config.controls.model_dump(exclude_defaults=True) == controls


def test_whole_tracks_folds_and_shuffled_labels(folders: tuple[Path, Path], tmp_path: Path) -> None:
    data = {"length": None, "folds": {"count": 3, "held_out": 1}, "shuffle_labels": True}
    outcome = train(make_config(folders, tmp_path, loop={"epochs": 1}, data=data))
    validation = set(read_scores(outcome.scores["val"])["track"])
    assert 0 < len(validation) < 6
    assert ("901_left" in validation) == ("901_right" in validation)


def test_a_validation_split_without_labels_still_yields_a_network(
    make_features: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    """A frame counts only with all its labels; the rule element counts each label."""
    folders = make_features(tmp_path / "data", {"900": ("train", 40), "901": ("val", 1)}, seed=3)
    outcome = train(make_config(folders, tmp_path / "run", loop={"epochs": 2, "rule": "element"}))
    assert outcome.best_step > 0
    assert (tmp_path / "run" / "best" / "model.safetensors").exists()


def test_an_untrained_action_unit_has_no_scores(
    make_features: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    """AUs without labels in the data set have empty scores and no F1."""
    tracks = {"900": ("train", 60), "901": ("val", 40)}
    folders = make_features(tmp_path / "data", tracks, uncoded=("AU07", "AU23"))
    outcome = train(make_config(folders, tmp_path / "run", loop={"epochs": 1, "rule": "element"}))
    scores = read_scores(outcome.scores["val"])
    seen = scores["has_face"]
    assert scores.loc[seen].notna().all().to_dict()["AU01"]
    assert scores[["AU07", "AU23"]].isna().all(axis=None)
    assert load_trained(tmp_path / "run" / "best")[1].untrained_aus == ("AU07", "AU23")
    assert log_of(tmp_path / "run")[-1]["AU07"] is None
    assert outcome.best > 0


def test_a_video_in_both_training_and_validation_is_reported(
    make_features: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    """Official splits with shared videos are valid, but a user must be warned about the score."""
    tracks = {"900_left": ("train", 40), "900_right": ("val", 40)}
    folders, reported = make_features(tmp_path / "data", tracks), []
    train(make_config(folders, tmp_path / "run", loop={"epochs": 1}), reported.append)
    assert any("1 source videos, such as 900, are in training and validation" in line for line in reported)


def test_a_damaged_state_or_checkpoint_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    config = make_config(folders, tmp_path, loop={"epochs": 1})
    train(config)
    (tmp_path / STATE_FILE).write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"state\.pt cannot be read"):
        train(config)
    (tmp_path / "best" / "model.safetensors").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match="does not contain a network written by auscan train"):
        load_trained(tmp_path / "best")


def test_the_rate_rises_then_falls_along_a_cosine() -> None:
    rates = [warmup_cosine(step, 10, 110) for step in range(111)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert rates[110] == pytest.approx(0.0)


def test_the_ema_is_faster_during_the_first_steps() -> None:
    assert average_share(0.999, 0) == 1.0
    assert average_share(0.999, 1) == pytest.approx(1 - 2 / 11)
    assert average_share(0.999, 10**6) == pytest.approx(0.001, rel=1e-3)
    assert average_share(0.0, 5) == 1.0


def test_the_average_is_that_of_torchs_averaged_model() -> None:
    layer = torch.nn.Linear(3, 2)
    mean = WeightAverage(layer, 0.9, torch.device("cpu"))
    expected = torch.optim.swa_utils.AveragedModel(
        layer, avg_fn=lambda mean, new, count: torch.lerp(mean, new, average_share(0.9, int(count)))
    )
    for _ in range(5):
        layer.weight.data.normal_()
        mean.update(layer)
        expected.update_parameters(layer)
    assert mean.state_dict().keys() == expected.state_dict().keys()
    for name, value in mean.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])
    assert not any(weight.requires_grad for weight in mean.parameters())


def test_only_matrices_decay() -> None:
    decayed, free = parameter_groups(torch.nn.Linear(3, 2), 0.1)
    assert [weight.ndim for weight in decayed["params"]] == [2]
    assert [weight.ndim for weight in free["params"]] == [1]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
