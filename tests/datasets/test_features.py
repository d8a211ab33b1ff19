"""Test feature extraction: features match their rows, missing pictures keep their row, runs resume."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from auscan.batch.extract import Extraction
from auscan.core.config import TokenPart
from auscan.core.errors import CheckpointError, InputError
from auscan.datasets.cache import (
    CacheSize,
    all_finite,
    format_bytes,
    open_track,
    read_header,
    rows_digest,
    track_folder,
)
from auscan.datasets.frozen_encoders import Encoders, load_encoders
from auscan.datasets.index import Index
from auscan.encoders.visual import pool_patches
from auscan.inference.engine import AudioLevel
from auscan.media.audio import read_waveform
from auscan.results.manifest import read_records, to_json_line


@pytest.fixture(scope="module")
def encoders(tiny_checkpoint: Path) -> Encoders:
    return load_encoders(str(tiny_checkpoint))


def test_every_row_keeps_its_own_features_across_batches(
    make_index: Callable[..., Index], encoders: Encoders, tmp_path: Path
) -> None:
    """Batches of 3 pictures over tracks of 4, 1 and 5 rows; tracks of one video share batches."""
    index = make_index({"a": "12-3", "talk_left": "3", "talk_right": "1-231"})
    Extraction(index, encoders, tmp_path / "cache").run_here(batch=3)
    one = {
        sign: open_track(tmp_path / "cache", name).face[row]
        for sign, name, row in (("1", "a", 0), ("2", "a", 1), ("3", "talk_left", 0))
    }
    for name, pattern in (("a", "12-3"), ("talk_left", "3"), ("talk_right", "1-231")):
        track = open_track(tmp_path / "cache", name)
        np.testing.assert_array_equal(track.has_image, [sign != "-" for sign in pattern])
        np.testing.assert_allclose(track.times_s, np.arange(len(pattern)) / 10)
        for row, sign in enumerate(pattern):
            expected = np.zeros_like(one["1"]) if sign == "-" else one[sign]
            np.testing.assert_allclose(track.face[row], expected, atol=2e-3)
    assert track.patches.shape == (5, 16, 16)
    assert track.face.dtype == track.audio.dtype == np.float16
    assert track.patches.dtype == np.int8


def test_both_persons_of_a_video_share_audio_and_others_have_none(
    make_index: Callable[..., Index], encoders: Encoders, tmp_path: Path
) -> None:
    index = make_index({"talk_left": "12", "still": "1", "talk_right": "3"})
    Extraction(index, encoders, tmp_path / "cache").run_here()
    left, right = (open_track(tmp_path / "cache", name) for name in ("talk_left", "talk_right"))
    assert len(left.audio) in range(95, 110)
    np.testing.assert_array_equal(left.audio, right.audio)
    assert open_track(tmp_path / "cache", "still").audio.shape == (0, encoders.audio_width)


def test_a_window_of_sound_covers_its_times(
    make_index: Callable[..., Index], encoders: Encoders, tmp_path: Path
) -> None:
    Extraction(make_index({"talk": "1"}), encoders, tmp_path / "cache").run_here()
    track = open_track(tmp_path / "cache", "talk")
    times_s = track.audio_times_s()
    np.testing.assert_allclose(np.diff(times_s), 0.02)
    part = track.audio_within(0.5, 0.9)
    np.testing.assert_array_equal(track.audio_times_s(part), times_s[part])
    inside = np.flatnonzero((times_s >= 0.5) & (times_s <= 0.9))
    assert part.start <= inside[0]
    assert part.stop > inside[-1]
    assert len(inside) <= part.stop - part.start <= len(inside) + 2
    for outside in (track.audio_within(-9, -5), track.audio_within(50, 60)):
        assert len(track.audio[outside]) <= 1


def test_finished_tracks_are_skipped_and_interrupted_ones_extracted_again(
    make_index: Callable[..., Index],
    encoders: Encoders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index, cache = make_index({"a": "1", "b": "2", "c": "3"}), tmp_path / "cache"
    encode_faces, calls = Encoders.encode_faces, iter(range(9))

    def fail_on_second_call(self: Encoders, crops: np.ndarray, grid: int) -> object:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return encode_faces(self, crops, grid)

    with monkeypatch.context() as patched:
        patched.setattr(Encoders, "encode_faces", fail_on_second_call)
        with pytest.raises(KeyboardInterrupt):
            Extraction(index, encoders, cache).run_here(batch=1)
    again = Extraction(index, encoders, cache)
    assert [track.name for track in again.pending] == ["b", "c"]
    with pytest.raises(InputError, match="no features of track b"):
        open_track(cache, "b")
    again.run_here()
    assert Extraction(index, encoders, cache).pending == []
    assert [path.name for path in sorted(cache.iterdir())] == ["a", "b", "c", "manifest.jsonl"]


def test_features_of_a_video_do_not_depend_on_the_videos_before_it(
    make_index: Callable[..., Index], encoders: Encoders, tmp_path: Path
) -> None:
    """A machine that extracts one of many videos must write the same bytes as a machine that extracts all."""
    index = make_index({"a": "12", "talk_left": "12-3", "talk_right": "31", "z": "3"})
    whole, alone = (Extraction(index, encoders, tmp_path / name) for name in ("whole", "alone"))
    whole.run_here(batch=3)
    alone.jobs = [job for job in alone.jobs if job.key == "talk.mp4"]
    alone.run_here(batch=3)
    for track in ("talk_left", "talk_right"):
        for file in (tmp_path / "alone" / track).iterdir():
            assert file.read_bytes() == (tmp_path / "whole" / track / file.name).read_bytes()


def test_the_manifest_has_one_line_per_video(
    make_index: Callable[..., Index], encoders: Encoders, tmp_path: Path
) -> None:
    index = make_index({"still": "1", "talk_left": "12", "talk_right": "3"})
    entries = Extraction(index, encoders, tmp_path / "cache").run_here()
    lines = (tmp_path / "cache" / "manifest.jsonl").read_text().splitlines()
    assert lines == [to_json_line(entry) for entry in entries]
    assert {entry.key: entry.rows for entry in entries} == {"talk.mp4": 3, "still": 1}
    sizes = {name: size for entry in entries for name, size in entry.files.items()}
    assert sizes == {name: (tmp_path / "cache" / name).stat().st_size for name in sizes}
    with pytest.raises(InputError, match=r"line 1: the folder '\.' is not one plain name"):
        read_records(tmp_path / "cache")  # a cache of features is not a folder of results
    assert {entry.model_sha256 for entry in entries} == {encoders.digest}


def test_a_failing_video_does_not_stop_the_others(
    make_index: Callable[..., Index],
    encoders: Encoders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index, encode_faces, calls = make_index({"a": "1", "b": "2"}), Encoders.encode_faces, iter(range(9))

    def fail_on_first_call(self: Encoders, crops: np.ndarray, grid: int) -> object:
        if next(calls) == 0:
            raise RuntimeError("out of memory")
        return encode_faces(self, crops, grid)

    monkeypatch.setattr(Encoders, "encode_faces", fail_on_first_call)
    entries = Extraction(index, encoders, tmp_path / "cache").run_here()
    assert [(entry.key, entry.error_class) for entry in entries] == [("a", "RuntimeError"), ("b", None)]
    assert [track.name for track in Extraction(index, encoders, tmp_path / "cache").pending] == ["a"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["face", "patches", "audio"])
def test_features_that_are_not_finite_are_not_written(
    make_index: Callable[..., Index],
    encoders: Encoders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    value: float,
) -> None:
    """The error names track and encoder; other videos are extracted."""
    index = make_index({"talk": "12", "still": "3"})
    kind, name = ("visual", "still") if part != "audio" else ("audio", "talk")
    forward = encoders.visual.forward

    def broken_visual(crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        face, patches = forward(crops)
        if len(crops) == 1:  # track `still`
            (face if part == "face" else patches)[0, 0] = value
        return face, patches

    def broken_audio(waveform: torch.Tensor) -> torch.Tensor:
        return torch.full((1, waveform.shape[1] // 320, encoders.audio_width), value)

    target, broken = (encoders.visual, broken_visual) if kind == "visual" else (encoders.audio, broken_audio)
    monkeypatch.setattr(target, "forward", broken)
    entries = {entry.key: entry for entry in Extraction(index, encoders, tmp_path / "cache").run_here()}
    failed = entries.pop("still" if name == "still" else "talk.mp4")
    assert failed.error_class == "InputError"
    assert failed.error is not None
    assert (
        f"The {kind} encoder of {encoders.name} gives NaN or infinite features for track {name}"
        in failed.error
    )
    assert [entry.error_class for entry in entries.values()] == [None]
    assert [track.name for track in Extraction(index, encoders, tmp_path / "cache").pending] == [name]


def test_large_features_are_limited_to_the_range_of_float16(
    make_index: Callable[..., Index], encoders: Encoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        encoders.audio,
        "forward",
        lambda sound: torch.full((1, sound.shape[1] // 320, encoders.audio_width), 1e9),
    )
    Extraction(make_index({"talk": "12"}), encoders, tmp_path / "cache").run_here()
    assert (open_track(tmp_path / "cache", "talk").audio == np.finfo(np.float16).max).all()


def test_all_finite_agrees_with_numpy() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    assert [all_finite(every[i : i + 1]) for i in range(2**16)] == np.isfinite(every).tolist()
    assert all_finite(np.empty((0, 3), np.float16))
    assert not all_finite(every.reshape(256, 256)[:, ::2])


def test_other_rows_encoders_or_grids_are_extracted_again(
    make_index: Callable[..., Index], encoders: Encoders, tmp_path: Path, backbones: Path
) -> None:
    cache = tmp_path / "cache"
    Extraction(make_index({"a": "12", "b": "3"}), encoders, cache).run_here()
    changed = make_index({"a": "1-", "b": "3"}, "changed")
    assert [track.name for track in Extraction(changed, encoders, cache).pending] == ["a"]
    assert len(Extraction(changed, encoders, cache, grid=2).pending) == 2
    other = load_encoders("base", str(backbones / "dinov2"), str(backbones / "wavlm"))
    assert len(Extraction(changed, other, cache, grid=4).pending) == 2


def test_a_broken_picture_counts_as_missing_and_is_named(
    make_index: Callable[..., Index], encoders: Encoders, tmp_path: Path
) -> None:
    (entry,) = Extraction(make_index({"a": "1x2"}), encoders, tmp_path / "cache").run_here()
    assert entry.warnings == ["not readable, counts as missing: a/00002.png"]
    track = open_track(tmp_path / "cache", "a")
    assert track.header.unreadable == ("a/00002.png",)
    np.testing.assert_array_equal(track.has_image, [True, False, True])
    assert not track.face[1].any()
    assert track.face[2].any()


def test_a_size_loads_local_weights_and_averages_patches(
    make_index: Callable[..., Index], backbones: Path, tmp_path: Path
) -> None:
    encoders = load_encoders("base", str(backbones / "registers"), str(backbones / "wavlm"))
    assert encoders.grid == 16
    Extraction(make_index({"talk": "12"}), encoders, tmp_path / "cache").run_here()
    Extraction(make_index({"talk": "12"}), encoders, tmp_path / "full", grid=16).run_here()
    pooled, full = (open_track(tmp_path / name, "talk").read("patches") for name in ("cache", "full"))
    assert pooled.shape == (2, 64, 16), "8 x 8 by default"
    assert full.shape == (2, 256, 16)
    first_cell = full[0].reshape(16, 16, 16)[:2, :2].mean((0, 1))
    np.testing.assert_allclose(pooled[0, 0], first_cell, atol=np.abs(full).max() / 127)


def test_enlarged_pictures_are_recorded(
    make_index: Callable[..., Index], encoders: Encoders, backbones: Path, tmp_path: Path
) -> None:
    """The side, 36 or 40 px, is smaller than 224 px and larger than the 32 px of the tiny encoder."""
    large = load_encoders("base", str(backbones / "dinov2"), str(backbones / "wavlm"))
    index = make_index({"a": "x12", "b": "3"})
    cv2.imwrite(str(index.root / "a" / "00003.png"), np.zeros((36, 50, 3), np.uint8))
    for name, used, sides in (("large", large, (36, 40)), ("tiny", encoders, (None, None))):
        extraction = Extraction(index, used, tmp_path / name)
        extraction.run_here()
        headers = [open_track(tmp_path / name, track).header for track in "ab"]
        assert tuple(header.enlarged_from for header in headers) == sides
        assert [header.picture_side for header in headers] == [36, 40]
        assert extraction.enlarged_from == (40 if name == "large" else None)
        assert Extraction(index, used, tmp_path / name).pending == [], "the side is not known before"


def test_audio_is_normalised_over_the_whole_file(
    make_index: Callable[..., Index], backbones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder gets the samples that the feature extractor of transformers makes of the whole file."""
    from transformers import Wav2Vec2FeatureExtractor

    folder = shutil.copytree(backbones / "wavlm", tmp_path / "wavlm")
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    extractor.save_pretrained(folder)
    encoders = load_encoders("base", str(backbones / "dinov2"), str(folder))
    plain = load_encoders("base", str(backbones / "dinov2"), str(backbones / "wavlm"))
    assert (encoders.config.normalises_file, plain.config.normalises_file) == (True, False)
    assert encoders.digest != plain.digest
    index = make_index({"talk": "1"})
    received: list[np.ndarray] = []
    encode = Encoders.encode_audio

    def encode_and_record(self: Encoders, samples: np.ndarray, level: AudioLevel | None) -> np.ndarray:
        assert level is not None
        received.append(level.scale(samples))
        return encode(self, samples, level)

    monkeypatch.setattr(Encoders, "encode_audio", encode_and_record)
    Extraction(index, encoders, tmp_path / "cache").run_here()
    chunks = read_waveform(index.root / "talk.mp4")
    assert chunks is not None
    samples = np.concatenate([chunk.samples for chunk in chunks])
    scaled = extractor(samples, sampling_rate=16_000, return_tensors="np")["input_values"][0]
    np.testing.assert_allclose(np.concatenate(received), scaled, atol=1e-5)
    stored = open_track(tmp_path / "cache", "talk").audio
    np.testing.assert_allclose(stored, encode(plain, scaled), atol=5e-3)


def test_layer_groups_are_cached_side_by_side_and_the_header_says_so(
    make_index: Callable[..., Index], backbones: Path, tmp_path: Path
) -> None:
    """Three layers, with the input of the first, make three groups."""
    weights = str(backbones / "registers"), str(backbones / "wavlm")
    Extraction(make_index({"talk": "1"}), load_encoders("base", *weights), tmp_path / "cache").run_here()
    track = open_track(tmp_path / "cache", "talk")
    assert track.audio.shape == (len(track.audio), 48)
    assert (track.header.audio_width, track.header.visual_parts) == (48, ())
    assert track.header.audio_parts == (TokenPart(width=16, groups=3),)
    groups = track.audio.astype(np.float32).reshape(-1, 16)
    np.testing.assert_allclose(groups.mean(-1), 0, atol=1e-2)
    np.testing.assert_allclose(groups.std(-1), 1, atol=1e-2)


def test_headers_without_parts_are_read(make_index: Callable[..., Index], tmp_path: Path) -> None:
    """Features of auscan 0.1.0 have no parts in their headers."""
    index, encoders = make_index({"talk": "1"}), load_encoders("nano")
    Extraction(index, encoders, tmp_path / "cache").run_here()
    file = tmp_path / "cache" / "talk" / "header.json"
    content = json.loads(file.read_text())
    assert (content.pop("visual_parts"), content.pop("audio_parts")) == ([], [])
    file.write_text(json.dumps(content))
    assert open_track(tmp_path / "cache", "talk").header.audio_parts == ()
    assert not Extraction(index, encoders, tmp_path / "cache").pending


def test_features_of_version_0_1_0_remain_valid(backbones: Path) -> None:
    """The digest of the encoders is that of the settings which that version had, without layer groups."""
    weights = str(backbones / "registers"), str(backbones / "wavlm")
    encoders = load_encoders("base", *weights, layer_groups=None)
    assert load_encoders("base", *weights).digest != encoders.digest
    old = [
        {"kind": "dinov2", "crop_size": 224, "arch": encoders.config.visual.arch},
        {"kind": "wavlm", "arch": encoders.config.audio.arch},
    ]
    digest = hashlib.sha256(json.dumps(old, sort_keys=True, default=str).encode())
    for module in (encoders.visual, encoders.audio):
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.numpy().tobytes())
    assert encoders.digest == digest.hexdigest()[:16]


def test_pooling_keeps_rows_and_columns_apart() -> None:
    patches = torch.arange(16.0)[None, :, None]  # [1, 16, 1]: a square 0..15, row by row
    assert pool_patches(patches, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert pool_patches(patches, 4) is patches


def test_impossible_requests_raise_errors_that_say_why(
    make_index: Callable[..., Index], encoders: Encoders, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="has 4 patches per side"):
        Extraction(make_index({"a": "1"}), encoders, tmp_path, grid=5)
    with pytest.raises(InputError, match=r"keep k = 1 of N = 1 patches .* select nothing\. Choose 2 to 4"):
        Extraction(make_index({"a": "1"}), encoders, tmp_path, grid=1)
    with pytest.raises(InputError, match="has its own encoders"):
        load_encoders(str(tiny_checkpoint), visual="elsewhere")
    with pytest.raises(CheckpointError, match="nowhere"):
        load_encoders("base", visual=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="'quantum' cannot be used"):
        load_encoders(str(tiny_checkpoint), device="quantum")


def test_the_size_on_disk_is_estimated(
    make_index: Callable[..., Index], encoders: Encoders, tmp_path: Path
) -> None:
    extraction = Extraction(make_index({"talk": "1" * 20, "still": "22"}), encoders, tmp_path / "cache")
    extraction.run_here()
    files = list((tmp_path / "cache").rglob("*.npy"))
    header_bytes = 128 * len(files)
    assert sum(p.stat().st_size for p in files) - header_bytes == pytest.approx(
        extraction.cache_size(extraction.tracks).total, rel=0.1
    )


@pytest.mark.parametrize(
    ("model", "widths", "grids"),
    [("nano", (256, 96), (4, 7)), ("base", (768, 3072), (4, 8, 16)), ("large", (1024, 4096), (4, 8, 16))],
)
def test_the_table_in_the_docs_is_right(model: str, widths: tuple[int, int], grids: tuple[int, ...]) -> None:
    """docs/features.md lists the sizes for all frames of Aff-Wild2, at 30 frames/s and fully with sound."""
    frames, (width, audio_width) = 2_630_000, widths
    docs = (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8")
    for grid in grids:
        size = CacheSize(frames=frames, sound_s=frames / 30, width=width, grid=grid, audio_width=audio_width)
        float16 = size.total + frames * grid**2 * (width - 4)  # 2 Dv instead of Dv + 4 bytes a patch
        sizes = f"{format_bytes(float16)} | **{format_bytes(size.total)}**"
        assert f"| `{model}` | {width}, {audio_width} | {grid} x {grid} | {sizes} |" in docs


def test_track_names_that_are_not_file_names_have_a_folder(tmp_path: Path) -> None:
    assert track_folder(tmp_path, "F001/T1").parent == tmp_path
    assert read_header(tmp_path) is None
    assert rows_digest(["a", None], np.zeros(2)) != rows_digest(["a", "None "], np.zeros(2))


@pytest.mark.parametrize("track", ["", ".", "..", ".auscan-a", "\ud800"])
def test_a_track_whose_name_cannot_be_a_folder_is_refused(tmp_path: Path, track: str) -> None:
    assert track_folder(tmp_path, "../a").parent == tmp_path
    with pytest.raises(InputError, match="cannot name a folder"):
        track_folder(tmp_path, track)
