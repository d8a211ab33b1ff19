"""Features: each row keeps its own, holes keep their place, and a killed run goes on."""

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from auscan.core.aus import AU_COUNT
from auscan.core.errors import CheckpointError, InputError
from auscan.datasets.cache import CacheSize, as_text, open_track, read_header, rows_digest, track_folder
from auscan.datasets.clock import ASSUMED, Clock
from auscan.datasets.features import Encoders, Extraction, load_encoders
from auscan.datasets.index import Index, Track, read_index, writing_index
from auscan.encoders.visual import pool_patches
from auscan.media.video import probe


def write_video(path: Path, sound_s: float = 2.0) -> None:
    """A grey video at 10 Hz with a tone that grows higher."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        for _ in range(int(10 * sound_s)):
            image = np.full((48, 64, 3), 90, np.uint8)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(pictures.encode(None))
        time_s = np.arange(int(16_000 * sound_s)) / 16_000
        tone = np.sin(2 * np.pi * (200 + 300 * time_s) * time_s).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.rate, frame.pts = 16_000, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


@pytest.fixture
def make_index(tmp_path: Path) -> Callable[..., Index]:
    """make_index({track: one character a frame}): a digit is the picture's brightness, '-' a missing one,
    'x' a broken one. The tracks talk_left and talk_right share the video talk.mp4.
    """

    def make(tracks: dict[str, str], folder: str = "index") -> Index:
        root = tmp_path / "data"
        root.mkdir(exist_ok=True)
        if not (root / "talk.mp4").exists():
            write_video(root / "talk.mp4")
        with writing_index(tmp_path / folder, {"root": str(root)}) as writer:
            for name, pattern in tracks.items():
                (root / name).mkdir(exist_ok=True)
                images: list[str | None] = []
                for number, sign in enumerate(pattern, start=1):
                    image = f"{name}/{number:05d}.png"
                    if sign == "x":
                        (root / image).write_bytes(b"no picture")
                    elif sign != "-":
                        noise = np.random.default_rng(int(sign)).integers(0, 255, (40, 40, 3), np.uint8)
                        cv2.imwrite(str(root / image), noise)
                    images.append(None if sign == "-" else image)
                talks = name.startswith("talk")
                info = probe(root / "talk.mp4") if talks else None
                numbers = np.arange(1, len(pattern) + 1)
                writer.add(
                    Track(
                        name=name,
                        split="train",
                        source_video=name.removesuffix("_left").removesuffix("_right"),
                        numbers=numbers,
                        labels=np.zeros((len(pattern), AU_COUNT), np.int8),
                        images=images,
                        times_s=(numbers - 1) / 10,
                        clock=Clock(times_s=np.empty(0), rate_hz=10.0, source=ASSUMED, info=info),
                        video="talk.mp4" if talks else None,
                    )
                )
        return read_index(tmp_path / folder)

    return make


@pytest.fixture(scope="module")
def encoders(tiny_checkpoint: Path) -> Encoders:
    return load_encoders(str(tiny_checkpoint))


def test_every_row_keeps_its_own_features_across_batches(
    make_index: Callable[..., Index], encoders: Encoders, tmp_path: Path
) -> None:
    """Batches of 3 over tracks of 4, 1 and 5 rows: each is put together from several, and shared."""
    index = make_index({"a": "12-3", "b": "3", "talk_left": "1-231"})
    Extraction(index, encoders, tmp_path / "cache").run(batch=3)
    one = {
        sign: open_track(tmp_path / "cache", name).face[row]
        for sign, name, row in (("1", "a", 0), ("2", "a", 1), ("3", "b", 0))
    }
    for name, pattern in (("a", "12-3"), ("b", "3"), ("talk_left", "1-231")):
        track = open_track(tmp_path / "cache", name)
        np.testing.assert_array_equal(track.has_image, [sign != "-" for sign in pattern])
        np.testing.assert_allclose(track.times_s, np.arange(len(pattern)) / 10)
        for row, sign in enumerate(pattern):
            expected = np.zeros_like(one["1"]) if sign == "-" else one[sign]
            np.testing.assert_allclose(track.face[row], expected, atol=2e-3)
    assert track.patches.shape == (5, 16, 16)
    assert track.face.dtype == track.patches.dtype == track.audio.dtype == np.float16


def test_both_persons_of_a_video_hear_the_same_and_others_nothing(
    make_index: Callable[..., Index], encoders: Encoders, tmp_path: Path
) -> None:
    index = make_index({"talk_left": "12", "still": "1", "talk_right": "3"})
    Extraction(index, encoders, tmp_path / "cache").run()
    left, right = (open_track(tmp_path / "cache", name) for name in ("talk_left", "talk_right"))
    assert len(left.audio) in range(95, 110)
    np.testing.assert_array_equal(left.audio, right.audio)
    assert open_track(tmp_path / "cache", "still").audio.shape == (0, encoders.audio_width)


def test_a_window_of_sound_covers_its_times(
    make_index: Callable[..., Index], encoders: Encoders, tmp_path: Path
) -> None:
    Extraction(make_index({"talk": "1"}), encoders, tmp_path / "cache").run()
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


def test_finished_tracks_are_skipped_and_killed_ones_done_again(
    make_index: Callable[..., Index],
    encoders: Encoders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index, cache = make_index({"a": "1", "b": "2", "c": "3"}), tmp_path / "cache"
    see, calls = Encoders.see, iter(range(9))

    def dies_at_the_second(self: Encoders, crops: np.ndarray, grid: int) -> object:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return see(self, crops, grid)

    with monkeypatch.context() as patched:
        patched.setattr(Encoders, "see", dies_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            Extraction(index, encoders, cache).run(batch=1)
    again = Extraction(index, encoders, cache)
    assert [track.name for track in again.todo] == ["b", "c"]
    with pytest.raises(InputError, match="no features of track b"):
        open_track(cache, "b")
    again.run()
    assert Extraction(index, encoders, cache).todo == []
    assert [path.name for path in sorted(cache.iterdir())] == ["a", "b", "c"]


def test_other_rows_encoders_or_grids_are_extracted_anew(
    make_index: Callable[..., Index], encoders: Encoders, tmp_path: Path, backbones: Path
) -> None:
    cache = tmp_path / "cache"
    Extraction(make_index({"a": "12", "b": "3"}), encoders, cache).run()
    changed = make_index({"a": "1-", "b": "3"}, "changed")
    assert [track.name for track in Extraction(changed, encoders, cache).todo] == ["a"]
    assert len(Extraction(changed, encoders, cache, grid=2).todo) == 2
    other = load_encoders("base", str(backbones / "dinov2"), str(backbones / "wavlm"))
    assert len(Extraction(changed, other, cache, grid=4).todo) == 2


def test_a_broken_picture_counts_as_missing_and_is_named(
    make_index: Callable[..., Index], encoders: Encoders, tmp_path: Path
) -> None:
    unreadable = Extraction(make_index({"a": "1x2"}), encoders, tmp_path / "cache").run()
    assert unreadable == ["a/00002.png"]
    track = open_track(tmp_path / "cache", "a")
    assert track.header.unreadable == ("a/00002.png",)
    np.testing.assert_array_equal(track.has_image, [True, False, True])
    assert not track.face[1].any()
    assert track.face[2].any()


def test_a_size_takes_local_weights_and_averages_patches(
    make_index: Callable[..., Index], backbones: Path, tmp_path: Path
) -> None:
    encoders = load_encoders("base", str(backbones / "registers"), str(backbones / "wavlm"))
    assert encoders.grid == 16
    Extraction(make_index({"talk": "12"}), encoders, tmp_path / "cache").run()
    Extraction(make_index({"talk": "12"}), encoders, tmp_path / "full", grid=None).run()
    pooled, full = (open_track(tmp_path / name, "talk") for name in ("cache", "full"))
    assert pooled.patches.shape == (2, 16, 16)
    assert full.patches.shape == (2, 256, 16)
    first_cell = full.patches[0].reshape(16, 16, 16)[:4, :4].astype(np.float32).mean((0, 1))
    np.testing.assert_allclose(pooled.patches[0, 0], first_cell, atol=5e-3)


def test_pooling_keeps_rows_and_columns_apart() -> None:
    patches = torch.arange(16.0)[None, :, None]  # [1, 16, 1]: a square 0..15, row by row
    assert pool_patches(patches, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert pool_patches(patches, 4) is patches


def test_what_cannot_be_done_is_said(
    make_index: Callable[..., Index], encoders: Encoders, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="gives 4 patches a side"):
        Extraction(make_index({"a": "1"}), encoders, tmp_path, grid=5)
    with pytest.raises(InputError, match="brings its own encoders"):
        load_encoders(str(tiny_checkpoint), visual="elsewhere")
    with pytest.raises(CheckpointError, match="nowhere"):
        load_encoders("base", visual=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="'quantum' cannot be used"):
        load_encoders(str(tiny_checkpoint), device="quantum")


def test_the_size_on_disk_is_known_before(
    make_index: Callable[..., Index], encoders: Encoders, tmp_path: Path
) -> None:
    work = Extraction(make_index({"talk": "1" * 20, "still": "22"}), encoders, tmp_path / "cache")
    work.run()
    files = list((tmp_path / "cache").rglob("*.npy"))
    header_bytes = 128 * len(files)
    assert sum(p.stat().st_size for p in files) - header_bytes == pytest.approx(
        work.size(work.tracks).total, rel=0.1
    )


@pytest.mark.parametrize(
    ("width", "grid", "shown"),
    [(768, 4, "75.4 GB"), (768, 16, "1.04 TB"), (1024, 4, "101 GB"), (1024, 16, "1.39 TB")],
)
def test_the_table_in_the_docs_is_right(width: int, grid: int, shown: str) -> None:
    """docs/features.md: all frames of Aff-Wild2, at 30 a second with sound throughout."""
    frames = 2_630_000
    size = CacheSize(frames=frames, sound_s=frames / 30, width=width, grid=grid, audio_width=width)
    assert as_text(size.total) == shown
    docs = Path(__file__).parents[2] / "docs" / "features.md"
    assert shown in docs.read_text(encoding="utf-8")


def test_names_that_are_no_file_names_have_a_folder(tmp_path: Path) -> None:
    assert track_folder(tmp_path, "F001/T1").parent == tmp_path
    assert read_header(tmp_path) is None
    assert rows_digest(["a", None], np.zeros(2)) != rows_digest(["a", "None "], np.zeros(2))
