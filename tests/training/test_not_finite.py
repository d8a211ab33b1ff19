"""NaN and infinite features, scores and losses stop a run with the name of the track."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from auscan.core.errors import InputError
from auscan.datasets.index import read_index
from auscan.training.config import TrainConfig, check_train_config
from auscan.training.loop import train
from auscan.training.losses import Predictions
from auscan.training.module import FeatureNetwork, FeatureSizes, build_network
from auscan.training.predict import score_tracks
from auscan.training.run import STATE_FILE
from auscan.training.tracks import load_tracks
from auscan.training.windows import Batch, slice_track

MODEL = {
    "size": "nano",
    "alignment": {"width": 16, "au_width": 4, "heads": 2, "active_patches": 3},
    "fusion": {"heads": 2},
    "temporal": {"blocks": 1, "head_width": 8, "state_width": 4},
}


@pytest.fixture
def folders(make_features: Callable[..., tuple[Path, Path]], tmp_path: Path) -> tuple[Path, Path]:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)
    return make_features(tmp_path / "data")


def make_config(folders: tuple[Path, Path], out: Path, **changes: Any) -> TrainConfig:
    index, cache = map(str, folders)
    content: dict[str, Any] = {
        "out": str(out),
        "data": {"index": index, "cache": cache, "length": 40, "stride": 30},
        "model": MODEL,
        "loop": {"epochs": 2, "batch": 3, "device": "cpu", "log_every": 1},
    }
    for key, value in changes.items():
        content[key] = {**content[key], **value}
    return check_train_config(content, "settings")


def put(value: float, cache: Path, track: str, part: str) -> Path:
    """Write a number into the features of a track; return the file."""
    file = cache / track / f"{part}.npy"
    values = np.load(file)
    row = 10 if part == "audio" else int(np.flatnonzero(np.load(cache / track / "has_image.npy"))[5])
    values[row].flat[3] = value
    np.save(file, values)
    return file


@pytest.mark.parametrize("part", ["face", "scales", "audio"])
@pytest.mark.parametrize("track", ["900", "903"], ids=["training", "validation"])
def test_a_feature_that_is_not_finite_stops_the_run(
    folders: tuple[Path, Path], tmp_path: Path, track: str, part: str
) -> None:
    file = put(np.nan if part == "face" else np.inf, folders[1], track, part)
    with pytest.raises(InputError) as caught:
        train(make_config(folders, tmp_path / "run"))
    message = str(caught.value)
    assert f"{file} holds NaN or infinite features of track {track}." in message
    assert f"Delete the folder {file.parent} and run auscan extract again." in message
    assert not (tmp_path / "run" / "best").exists()


def test_the_error_of_a_worker_that_loads_windows_is_one_line(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    put(np.nan, folders[1], "901_left", "scales")
    with pytest.raises(InputError, match="track 901_left") as caught:
        train(make_config(folders, tmp_path / "run", loop={"workers": 1}))
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_finite_stops_the_run_before_anything_is_saved(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = FeatureNetwork.forward

    def overflow(self: FeatureNetwork, batch: Batch) -> Predictions:
        output = forward(self, batch)
        wrong = torch.tensor([track == "901_right" for track in batch.tracks])
        return output._replace(logits=output.logits.masked_fill(wrong[:, None, None], torch.inf))

    monkeypatch.setattr(FeatureNetwork, "forward", overflow)
    with pytest.raises(InputError, match=r"The loss of step \d+ is (nan|inf), .* tracks 901_right\. "):
        train(make_config(folders, tmp_path / "run"))
    assert not (tmp_path / "run" / STATE_FILE).exists()
    assert not (tmp_path / "run" / "best").exists()


@pytest.mark.parametrize("context", [None, 16])
def test_scores_that_are_not_finite_name_the_track(folders: tuple[Path, Path], context: int | None) -> None:
    tracks = load_tracks(read_index(folders[0]), folders[1], ["val"])
    sizes = FeatureSizes.from_header(tracks[0].features.header)
    network = build_network(sizes, make_config(folders, Path("run")).model)
    network.temporal.head.bias.data.fill_(torch.nan)
    with pytest.raises(InputError, match=r"not finite for track 903, .*weights have diverged"):
        score_tracks(network, tracks, context, 0.6)


def test_a_batch_names_the_track_of_each_window(folders: tuple[Path, Path]) -> None:
    tracks = load_tracks(read_index(folders[0]), folders[1], ["train"])
    batch = slice_track(tracks[1], slice(0, 20), 0.6)
    assert batch.tracks == batch.to(torch.device("cpu")).tracks == batch.window(0).tracks == ("901_left",)


def test_a_deleted_folder_is_extracted_again(folders: tuple[Path, Path]) -> None:
    """So the advice of the error works: the track is missing, not skipped."""
    shutil.rmtree(folders[1] / "900")
    with pytest.raises(InputError, match=r"no features of track 900\. Run auscan extract again"):
        load_tracks(read_index(folders[0]), folders[1], ["train"])
