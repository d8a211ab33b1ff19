"""Fine-tuning gains what the labels say, forgets nothing else, and calls no chance a gain."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from auscan.core.config import NetworkConfig
from auscan.core.errors import InputError
from auscan.datasets.cache import CacheHeader, TrackWriter, rows_digest
from auscan.datasets.clock import ASSUMED, FrameClock
from auscan.datasets.frozen_encoders import load_encoders
from auscan.datasets.index import Index, Track, open_index_writer, read_index
from auscan.model.checkpoint import load_checkpoint
from auscan.training import finetune as module
from auscan.training.config import DataConfig, LoopConfig, ModelConfig, OptimizerConfig, TrainConfig
from auscan.training.finetune import FineTuning, decide, finetune
from auscan.training.finetune_report import compare
from auscan.training.loop import train
from auscan.training.predict import score_tracks
from auscan.training.run import load_trained
from auscan.training.start import as_trained, with_aus
from auscan.training.tracks import load_tracks

GRID, RATE_HZ, FRAMES = 4, 30.0, 60
AUS = ("AU01", "AU12", "AU45")
"""Labelled AUs; AU45 is new."""


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train the tiny network, whose weights are random, with a larger rate and shorter windows."""
    monkeypatch.setattr(module, "OPTIMIZER", OptimizerConfig(rate=1e-2, average=0.8))
    loop = LoopConfig(epochs=5, batch=4, patience=5, rule="element", stop_at="tuned", device="cpu")
    monkeypatch.setattr(module, "LOOP", loop)
    monkeypatch.setattr(module, "LENGTH", 30)


def make_people(folder: Path, checkpoint: Path, people: int = 10) -> Index:
    """Write an index and features of one track a person; each AU moves the face token in its direction."""
    encoders = load_encoders(str(checkpoint))
    rng, directions = np.random.default_rng(0), np.random.default_rng(1).normal(size=(3, encoders.width))
    clock = FrameClock(times_s=np.empty(0), rate_hz=RATE_HZ, source=ASSUMED)
    times_s = np.arange(FRAMES) / RATE_HZ
    with open_index_writer(folder / "index", {"root": str(folder)}, au_names=AUS) as writer:
        for person in range(people):
            name = f"p{person}"
            active = np.repeat(rng.random((FRAMES // 6, 3)) < 0.5, 6, axis=0)
            track = Track(
                name=name,
                split="all",
                source_video=name,
                numbers=np.arange(1, FRAMES + 1),
                labels=active.astype(np.int8),
                images=[None] * FRAMES,
                times_s=times_s,
                clock=clock,
                au_names=AUS,
                coded=AUS,
                face="largest",
            )
            writer.add(track)
            header = CacheHeader(
                track=name,
                model="tiny",
                encoders=encoders.digest,
                rows=FRAMES,
                rows_digest=rows_digest([None] * FRAMES, times_s),
                width=encoders.width,
                grid=GRID,
                audio_width=encoders.audio_width,
            )
            features = TrackWriter(folder / "cache", header, times_s)
            face = (active @ directions + 0.3 * rng.normal(size=(FRAMES, encoders.width))).astype(np.float16)
            for row in range(2, FRAMES):  # no face in the first two frames
                features.write_row(row, face[row], np.repeat(face[row, None], GRID**2, axis=0))
            features.finish(np.empty((0, encoders.audio_width), np.float16), 0.0, [])
    return read_index(folder / "index")


def run(index: Index, folder: Path, checkpoint: Path, **options: Any) -> FineTuning:
    return finetune(index, folder / "cache", folder / "out", folder / "out.work", str(checkpoint), **options)


def decisions_of(checkpoint: Path, index: Index, folder: Path) -> pd.DataFrame:
    """Return the decisions of a checkpoint, by its features."""
    network, config = load_checkpoint(checkpoint)
    tracks = load_tracks(index, folder / "cache", ["all"])
    trained, _ = as_trained(network, config, tracks[0].features.header)
    return decide(score_tracks(trained, tracks, None, 0.6), config)


def test_known_and_new_aus_are_learned_and_tested_on_other_people(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    index = make_people(tmp_path, tiny_checkpoint)
    lines: list[str] = []
    result = run(index, tmp_path, tiny_checkpoint, report=lines.append)
    assert result.au_names == AUS
    assert (result.after > 0.75).all(), result.after
    assert (result.verdict(0), result.verdict(2)) == ("gain", "new")
    assert np.isnan(result.before[2])
    assert "a gain" in result.sentence
    assert (result.people, result.frames) == (2, 2 * (FRAMES - 2))  # frames without a face do not count
    assert "10 people, 10 tracks; tested: held-out; new: AU45" in lines
    assert "fold0: 6 people to train, 2 people to val, 2 people to test" in lines
    # The checkpoint that was written is the one that was tested.
    network, config = load_checkpoint(tmp_path / "out")
    assert config.au_names == (*load_checkpoint(tiny_checkpoint)[1].au_names, "AU45")
    after = decisions_of(tmp_path / "out", index, tmp_path)
    tested = pd.read_parquet(tmp_path / "out.work" / "decisions_after.parquet")
    merged = tested.merge(after, on=["track", "frame"], suffixes=("", "_again"))
    assert len(merged) == 2 * FRAMES
    for au in after.columns.intersection(tested.columns).drop(["track", "frame"]):
        np.testing.assert_array_equal(merged[au], merged[f"{au}_again"], err_msg=au)
    again = compare(index, decisions_of(tiny_checkpoint, index, tmp_path), after, AUS)
    assert again.people == 10
    assert (again.after > 0.75).all()
    assert network.config.au_names == config.au_names
    card = (tmp_path / "out" / "README.md").read_text()
    assert result.sentence in card
    assert "The interval is rough: it is of 2 people only." in card
    assert f"| AU12 | {result.before[1]:.3f} | {result.after[1]:.3f} |" in card


def test_aus_without_labels_keep_the_decisions_of_the_checkpoint(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    result = run(make_people(tmp_path, tiny_checkpoint), tmp_path, tiny_checkpoint, aus=["AU12"])
    assert result.au_names == ("AU12",)
    known = load_checkpoint(tiny_checkpoint)[1]
    assert set(result.kept) == set(known.au_names) - {"AU12", *known.untrained_aus}
    frames = pd.read_parquet(tmp_path / "out.work" / "runs" / "fold0_index" / "frames.parquet")
    before = decisions_of(tiny_checkpoint, read_index(tmp_path / "index"), tmp_path)
    first = frames["frame"] <= 2  # without a face
    np.testing.assert_array_equal(frames.loc[~first, "AU02"], before.loc[before["has_face"], "AU02"])
    assert (frames.loc[first, "AU02"] == -1).all()
    assert (frames[list(known.untrained_aus)] == -1).all(axis=None)
    assert load_checkpoint(tmp_path / "out")[1].untrained_aus == known.untrained_aus


def test_labels_that_are_the_checkpoints_own_decisions_give_no_gain(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    index = make_people(tmp_path, tiny_checkpoint)
    decisions = decisions_of(tiny_checkpoint, index, tmp_path).set_index(["track", "frame"])
    varied = [au for au in ("AU01", "AU02", "AU04", "AU12") if decisions[au].nunique() == 2]
    rows = pd.MultiIndex.from_frame(index.frames[["track", "frame"]].astype({"track": str}))
    frames = index.frames.drop(columns=list(AUS)).assign(
        **{au: decisions[au].reindex(rows).to_numpy(np.int8) for au in varied}
    )
    own = replace(index, frames=frames, metadata={**index.metadata, "au_names": varied})
    result = run(own, tmp_path, tiny_checkpoint)
    np.testing.assert_array_equal(result.before, 1.0)
    assert "a gain" not in result.sentence
    assert all(result.verdict(j) in ("no gain", "loss") for j in range(len(varied)))


def test_k_fold_tests_every_person_once(tmp_path: Path, tiny_checkpoint: Path) -> None:
    index = make_people(tmp_path, tiny_checkpoint, people=4)
    lines: list[str] = []
    result = run(index, tmp_path, tiny_checkpoint, report=lines.append)
    assert (result.people, result.frames) == (4, 4 * (FRAMES - 2))
    runs = [line for line in lines if line.startswith(("fold", "all:"))]
    assert runs == [
        *(f"fold{k}: 2 people to train, 1 people to val, 1 people to test" for k in range(4)),
        "all: 3 people to train, 1 people to val",
    ]
    assert "the network written here was trained on more people" in (tmp_path / "out/README.md").read_text()


def test_new_aus_and_another_order_change_no_logit(tmp_path: Path, tiny_checkpoint: Path) -> None:
    index = make_people(tmp_path, tiny_checkpoint, people=1)
    tracks = load_tracks(index, tmp_path / "cache", ["all"])
    network, config = load_checkpoint(tiny_checkpoint)
    old, old_config = as_trained(network, config, tracks[0].features.header)
    order = config.au_names[::-1]
    turned, turned_config = with_aus(old, old_config, order)
    with torch.no_grad():
        before, after = (each.predict_track(tracks[0].features).probabilities for each in (old, turned))
    np.testing.assert_allclose(after[:, ::-1], before, rtol=0, atol=1e-6)
    assert turned_config.au_names == order
    grown, grown_config = with_aus(old, old_config, (*config.au_names, "AU45", "AU05"))
    assert grown_config.au_names[-2:] == ("AU45", "AU05")
    with torch.no_grad():
        before, after = (each.predict_track(tracks[0].features).probabilities for each in (old, grown))
    np.testing.assert_allclose(after[:, : before.shape[1]], before, rtol=0, atol=1e-6)
    assert np.isfinite(after[2:]).all()


def test_training_may_start_from_a_checkpoint(
    tmp_path: Path, tiny_checkpoint: Path, tiny_config: NetworkConfig
) -> None:
    make_people(tmp_path, tiny_checkpoint, people=2)
    data = DataConfig(
        index=tmp_path / "index", cache=tmp_path / "cache", train=("all",), validate_on=("all",), length=30
    )
    parts = {name: getattr(tiny_config, name) for name in ("alignment", "fusion", "temporal")}
    settings = TrainConfig(
        out=tmp_path / "run",
        data=data,
        model=ModelConfig(size="nano", start_from=tiny_checkpoint, **parts),
        optimizer=OptimizerConfig(rate=1e-12, weight_decay=0, average=0),
        loop=LoopConfig(epochs=1, device="cpu", rule="element"),
    )
    train(settings)
    trained, _ = load_trained(tmp_path / "run" / "last")
    tracks = load_tracks(read_index(tmp_path / "index"), tmp_path / "cache", ["all"])
    network, config = load_checkpoint(tiny_checkpoint)
    old, old_config = as_trained(network, config, tracks[0].features.header)
    expected, _ = with_aus(old, old_config, AUS)
    for name, weight in trained.state_dict().items():
        torch.testing.assert_close(weight, expected.state_dict()[name], atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize(
    ("people", "options", "message"),
    [
        (3, {}, "labels are of 3 people.*needs 4. Label more people"),
        (5, {"people": "held-out"}, "too few for --people held-out.*Test all in turn: --people k-fold"),
        (10, {"aus": ["AU02"]}, "labels lack AU02. They have AU01, AU12, AU45"),
    ],
)
def test_too_few_people_and_unlabelled_aus_are_refused(
    tmp_path: Path, tiny_checkpoint: Path, people: int, options: dict[str, Any], message: str
) -> None:
    index = make_people(tmp_path, tiny_checkpoint, people)
    with pytest.raises(InputError, match=message):
        run(index, tmp_path, tiny_checkpoint, **options)
    assert not (tmp_path / "out").exists()


def test_an_au_with_labels_of_one_value_is_refused_or_left_out(tmp_path: Path, tiny_checkpoint: Path) -> None:
    index = make_people(tmp_path, tiny_checkpoint)
    constant = replace(index, frames=index.frames.assign(AU12=np.int8(0)))
    with pytest.raises(InputError, match="AU12: the labels have only one value"):
        run(constant, tmp_path, tiny_checkpoint, aus=["AU12"])
    assert module._labelled_aus(constant, None) == (("AU01", "AU45"), ("AU12",))


def decisions(index: Index, rate: float, seed: int) -> pd.DataFrame:
    """Return the labels, with a share of errors."""
    table = index.frames[["track", "frame", *AUS]].astype({"track": str})
    wrong = np.random.default_rng(seed).random((len(table), len(AUS))) < rate
    table[list(AUS)] = np.where(wrong, 1 - table[list(AUS)], table[list(AUS)]).astype(np.int8)
    return table.assign(has_face=True)


@pytest.mark.parametrize(("after", "verdict"), [(0.05, "gain"), (0.2, "no gain"), (0.35, "loss")])
def test_a_difference_counts_if_its_interval_excludes_zero(
    tmp_path: Path, tiny_checkpoint: Path, after: float, verdict: str
) -> None:
    index = make_people(tmp_path, tiny_checkpoint)
    result = compare(index, decisions(index, 0.2, 1), decisions(index, after, 2), AUS)
    assert [result.verdict(j) for j in range(3)] == [verdict] * 3
    words = {"gain": ": a gain (", "no gain": "which is no gain", "loss": "a loss (difference"}
    assert words[verdict] in result.sentence
    low, high = result.mean_interval
    assert low < result.mean_after - result.mean_before < high


def test_a_checkpoint_of_other_aus_with_intensities_is_tuned_without_these(
    tmp_path: Path, other_aus_checkpoint: Path
) -> None:
    """It was never trained on AU05, so there is nothing to compare AU05 with."""
    index = make_people(tmp_path, other_aus_checkpoint)
    renamed = replace(
        index,
        frames=index.frames.rename(columns={"AU01": "AU05"}),
        metadata={**index.metadata, "au_names": ["AU05", "AU12", "AU45"]},
    )
    result = run(renamed, tmp_path, other_aus_checkpoint)
    _, old = load_checkpoint(other_aus_checkpoint)
    _, config = load_checkpoint(tmp_path / "out")
    assert old.network.intensity
    assert not config.network.intensity
    assert config.au_names[: len(old.au_names)] == old.au_names
    assert result.verdict(0) == "new"
    assert "AU05" not in config.untrained_aus
