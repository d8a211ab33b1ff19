"""Generate a corpus of broken media files.

    python tests/faults/corpus.py FOLDER --files 2000 [--seed 0] [--clips DIR]

File n of a seed is the same on every run with the same codecs, for any number of files: n determines its kind
and, with the seed, the random numbers. The files are made from short videos and pictures of the portrait of
the demo, and from the clips of DIR. FOLDER/faults.jsonl lists them, one line per file: file, kind, base.

Three groups of faults: `BYTES` corrupt the bytes of a file, `STREAMS` rewrite its packets incorrectly,
`SPECIAL` files are generated.

See also: test_faults.py, benchmarks/faults/fuzz.py (run auscan on the corpus).
"""

import argparse
import json
import os
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from auscan.pipeline.demo import demo_frame, read_portrait

LIST = "faults.jsonl"
"""Name of the list of the files."""
FRAMES, RATE_HZ, SIDE = 12, 12, 256
MP4, AVI, MKV = (".mp4", ".mov"), (".avi",), (".mkv", ".webm")
BASES = {
    "end.mp4": ("libx264", "aac", {}),
    "fast.mp4": ("libx264", "aac", {"movflags": "faststart"}),
    "pieces.mp4": ("libx264", "aac", {"movflags": "frag_keyframe+empty_moov"}),
    "plain.mov": ("mpeg4", "pcm_s16le", {}),
    "plain.mkv": ("libx264", "libopus", {}),
    "plain.webm": ("libvpx", "libopus", {}),
    "plain.avi": ("mpeg4", "pcm_s16le", {}),
    "jpegs.avi": ("mjpeg", "mp3", {}),
    "plain.ts": ("libx264", "aac", {}),
}
"""File -> codec of the video, codec of the audio, options of the container."""
PICTURES = ("face.jpg", "face.png", "face.webp", "face.bmp")
"""Intact pictures from which faults are made."""


@dataclass(frozen=True)
class Fault:
    """One file of the corpus."""

    file: str
    """Name of the file."""
    kind: str
    """One of `KINDS`."""
    base: str
    """Name of the intact file from which it was made; empty for `SPECIAL` files."""


def make_corpus(folder: Path, files: Sequence[int], seed: int = 0, clips: Path | None = None) -> list[Fault]:
    """Write the files with these numbers and their list into `folder`; return the list."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        bases = make_bases(Path(work))
        bases += sorted(each for each in clips.iterdir() if each.is_file()) if clips else []
        faults = [
            _make(folder, number, KINDS[number % len(KINDS)], bases, np.random.default_rng([seed, number]))
            for number in files
        ]
    lines = "".join(json.dumps(asdict(fault)) + "\n" for fault in faults)
    (folder / LIST).write_text(lines, encoding="utf-8")
    return faults


def _make(folder: Path, number: int, kind: str, bases: list[Path], random: Generator) -> Fault:
    """Write one file."""
    stem = folder / f"{number:05}-{kind}"
    if kind in SPECIAL:
        return Fault(SPECIAL[kind](stem, random).name, kind, "")
    suffixes, corrupt = BYTES.get(kind, (None, None))
    candidates = [each for each in bases if suffixes is None or each.suffix in suffixes]
    if kind in STREAMS:
        candidates = [each for each in candidates if each.name not in PICTURES]
    base = candidates[random.integers(len(candidates))]
    target = stem.with_suffix(base.suffix)
    if corrupt is None:
        STREAMS[kind](base, target, random)
    else:
        target.write_bytes(corrupt(bytearray(base.read_bytes()), random))
    return Fault(target.name, kind, base.name)


# Intact files


def make_bases(folder: Path) -> list[Path]:
    """Write intact videos and pictures of the portrait of the demo; return their paths."""
    portrait = read_portrait()
    images = [cv2.resize(demo_frame(portrait, i * 20), (SIDE, SIDE)) for i in range(FRAMES)]
    for name, (codec, sound, options) in BASES.items():
        encode_video(folder / name, images, codec, sound, options)
    for name in PICTURES:
        cv2.imwrite(str(folder / name), images[0][..., ::-1])
    return [folder / name for name in (*BASES, *PICTURES)]


def encode_video(
    path: Path,
    images: Sequence[NDArray[np.uint8]],
    codec: str = "libx264",
    sound: str | None = "aac",
    options: dict[str, str] | None = None,
    samples: NDArray[np.float32] | None = None,
    times_s: Sequence[float] | None = None,
    pause_s: float = 0.0,
) -> Path:
    """Encode images [H, W, 3] at `times_s` with a tone, or with samples [M] at 48 kHz.

    pause_s: length of a gap in the timestamps in the middle of the audio, in seconds
    """
    with av.open(str(path), "w", options={"fflags": "+bitexact", **(options or {})}) as out:
        video = out.add_stream(codec, rate=RATE_HZ)
        video.height, video.width = images[0].shape[:2]
        video.pix_fmt = {"mjpeg": "yuvj420p", "ffv1": "bgr0"}.get(codec, "yuv420p")
        video.codec_context.gop_size = 4
        packets = []
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base = Fraction(1, 1000 if times_s else RATE_HZ)
            frame.pts = round(times_s[index] * 1000) if times_s else index
            packets += video.encode(frame)
        packets += video.encode(None)
        if sound is not None:
            audio = out.add_stream(sound, rate=48_000, layout="mono")
            samples = _tone(len(images) / RATE_HZ) if samples is None else samples
            for start in range(0, len(samples), 960):
                block = av.AudioFrame.from_ndarray(samples[None, start : start + 960], "fltp", "mono")
                block.sample_rate, block.time_base = 48_000, Fraction(1, 48_000)
                block.pts = start + (round(pause_s * 48_000) if start >= len(samples) / 2 else 0)
                packets += audio.encode(block)
            packets += audio.encode(None)
        for packet in sorted(packets, key=lambda each: float((each.dts or 0) * each.time_base)):
            out.mux(packet)
    return path


def _tone(seconds: float) -> NDArray[np.float32]:
    """Return a sine of amplitude 0.1 at 48 kHz, [M]."""
    return (0.1 * np.sin(np.arange(round(seconds * 48_000)) * 0.05)).astype(np.float32)


# Corrupted bytes


def flip_bits(data: bytearray, random: Generator, low: int = 0, high: int | None = None) -> bytes:
    """Flip some bits, anywhere or between two offsets."""
    high = min(len(data), high or len(data))
    for offset in random.integers(min(low, high - 1), high, int(2 ** random.uniform(0, 9))):
        data[offset] ^= 1 << int(random.integers(8))
    return bytes(data)


def flip_head(data: bytearray, random: Generator) -> bytes:
    """Flip bits of the head of a container."""
    return flip_bits(data, random, 0, 2000)


def flip_index(data: bytearray, random: Generator) -> bytes:
    """Flip bits of the index of an mp4 file."""
    start = max(data.find(b"moov"), 0)
    return flip_bits(data, random, start, start + 3000)


def cut_end(data: bytearray, random: Generator) -> bytes:
    """Remove the end, as a full disk does."""
    return bytes(data[: int(len(data) * random.uniform(0.001, 0.999))])


def cut_start(data: bytearray, random: Generator) -> bytes:
    """Remove the start, as in a stream that was joined late."""
    return bytes(data[int(len(data) * random.uniform(0.001, 0.999)) :])


def cut_middle(data: bytearray, random: Generator) -> bytes:
    """Remove a block."""
    first, last = sorted(random.integers(0, len(data), 2))
    return bytes(data[:first] + data[last:])


def zero_block(data: bytearray, random: Generator) -> bytes:
    """Set a block to zeros, as in an incomplete download."""
    first = int(random.integers(len(data)))
    length = min(int(2 ** random.uniform(4, 16)), len(data) - first)
    data[first : first + length] = bytes(length)
    return bytes(data)


def swap_blocks(data: bytearray, random: Generator) -> bytes:
    """Swap two blocks, as on a broken disk."""
    length = int(min(2 ** random.uniform(6, 13), len(data) // 3))
    first, second = int(random.integers(0, len(data) // 3)), int(random.integers(len(data) // 2, len(data)))
    data[first : first + length], data[second : second + length] = (
        data[second : second + length],
        data[first : first + length],
    )
    return bytes(data)


def repeat_block(data: bytearray, random: Generator) -> bytes:
    """Repeat a block."""
    first, last = sorted(random.integers(0, len(data), 2))
    return bytes(data[:last] + data[first:])


def swap_head(data: bytearray, random: Generator) -> bytes:
    """Overwrite the first bytes with those of another format."""
    heads = (
        b"\x1a\x45\xdf\xa3",
        b"RIFF\xff\xff\xff\xffAVI LIST",
        b"OggS\0\2",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
    )
    heads += (b"\0\0\0\x20ftypisom", b"FLV\1\5", b"GIF89a", b"%PDF-1.7", b"PK\3\4")
    head = heads[random.integers(len(heads))]
    return head + bytes(data[len(head) :])


def patch(
    data: bytearray, random: Generator, tags: Sequence[tuple[bytes, int, str]], values: Sequence[float]
) -> bytes:
    """Overwrite all numbers at an offset after one random tag with one random value.

    tags: tag, offset in bytes, format of the number for struct
    """
    found = [each for each in tags if each[0] in data]
    if found:
        tag, offset, form = found[random.integers(len(found))]
        value = values[random.integers(len(values))]
        position = data.find(tag)
        while position >= 0 and position + len(tag) + offset + struct.calcsize(form) <= len(data):
            number = value if form[-1] in "df" else int(value) % 256 ** struct.calcsize(form)
            struct.pack_into(form, data, position + len(tag) + offset, number)
            position = data.find(tag, position + 1)
    return bytes(data)


def absurd_size(data: bytearray, random: Generator) -> bytes:
    """Set the width or height to 0, 1, an odd number or far too much."""
    tags = [(b"avc1", 24, ">H"), (b"avc1", 26, ">H"), (b"mp4v", 24, ">H"), (b"tkhd", 76, ">I")]
    tags += [(b"strf", 8, "<I"), (b"strf", 12, "<I"), (b"\xb0\x82", 0, ">H"), (b"\xba\x82", 0, ">H")]
    return patch(data, random, tags, (0, 1, 17, 4096, 16_384, 65_535, -1))


def absurd_rate(data: bytearray, random: Generator) -> bytes:
    """Set the ticks per second or per frame."""
    tags = [(b"mdhd", 12, ">I"), (b"mvhd", 12, ">I"), (b"stts", 12, ">I"), (b"avih", 4, "<I")]
    tags += [(b"strh", 24, "<I"), (b"strh", 28, "<I"), (b"\x23\xe3\x83\x84", 0, ">I")]
    return patch(data, random, tags, (0, 1, 2, 1e6, 2**31 - 1, -1))


def absurd_duration(data: bytearray, random: Generator) -> bytes:
    """Set the duration in the header."""
    tags = [(b"mdhd", 16, ">I"), (b"mvhd", 16, ">I"), (b"tkhd", 20, ">I"), (b"strh", 36, "<I")]
    tags += [(b"\x44\x89\x88", 0, ">d"), (b"\x2a\xd7\xb1\x83", -1, ">I")]
    return patch(data, random, tags, (0, 1, 1e9, 2**31 - 1, -1))


def absurd_sound(data: bytearray, random: Generator) -> bytes:
    """Set the number of channels or the sample rate."""
    tags = [(b"mp4a", 16, ">H"), (b"mp4a", 24, ">I"), (b"sowt", 16, ">H"), (b"sowt", 24, ">I")]
    tags += [(b"\x9f\x81", 0, ">B"), (b"\xb5\x88", 0, ">d"), (b"auds", 16, "<I"), (b"auds", 20, "<I")]
    return patch(data, random, tags, (0, 1, 255, 65_535, 1e9, -1))


def absurd_box(data: bytearray, random: Generator) -> bytes:
    """Set the length of a box of an mp4 file."""
    kinds = (
        b"moov",
        b"trak",
        b"mdia",
        b"minf",
        b"stbl",
        b"stsz",
        b"stco",
        b"stsc",
        b"stts",
        b"mdat",
        b"ftyp",
    )
    tags = [(each, -4 - len(each), ">I") for each in kinds]
    return patch(data, random, tags, (0, 1, 7, 8, 2**31, -1))


def absurd_table(data: bytearray, random: Generator) -> bytes:
    """Set the number of entries of a table of an mp4 file, or its first entry."""
    tags = [
        (each, offset, ">I")
        for each in (b"stsz", b"stco", b"stsc", b"stts", b"ctts")
        for offset in (4, 8, 12)
    ]
    return patch(data, random, tags, (0, 1, 2**24, 2**31 - 1, -1))


def absurd_turn(data: bytearray, random: Generator) -> bytes:
    """Overwrite the display matrix with random bytes."""
    start = data.find(b"tkhd") + 44
    data[start : start + 36] = random.bytes(36)
    return bytes(data)


def noise_behind_head(data: bytearray, random: Generator) -> bytes:
    """Keep the first bytes of a container and append random bytes."""
    return bytes(data[: int(random.integers(8, 400))]) + random.bytes(20_000)


BYTES: dict[str, tuple[tuple[str, ...] | None, Callable[[bytearray, Generator], bytes]]] = {
    "flip": (None, flip_bits),
    "flip-head": (None, flip_head),
    "flip-index": (MP4, flip_index),
    "cut-end": (None, cut_end),
    "cut-start": (None, cut_start),
    "cut-middle": (None, cut_middle),
    "zero-block": (None, zero_block),
    "swap-blocks": (None, swap_blocks),
    "repeat-block": (None, repeat_block),
    "swap-head": (None, swap_head),
    "size": (MP4 + AVI + MKV, absurd_size),
    "rate": (MP4 + AVI + MKV, absurd_rate),
    "duration": (MP4 + AVI + MKV, absurd_duration),
    "sound-form": (MP4 + AVI + MKV, absurd_sound),
    "box": (MP4, absurd_box),
    "table": (MP4, absurd_table),
    "turn": (MP4, absurd_turn),
    "noise": (None, noise_behind_head),
    "whole": (None, lambda data, random: bytes(data)),
}
"""Kind -> suffixes of possible files (None: all), function. `whole` checks that intact files pass."""


# Rewritten streams


def rewrite(base: Path, target: Path, change: Callable[[list[av.Packet]], list[av.Packet]]) -> None:
    """Write the packets of a video, changed by `change`, into a new container of the same format."""
    with av.open(str(base)) as source, av.open(str(target), "w", options={"fflags": "+bitexact"}) as out:
        streams = {each.index: out.add_stream_from_template(each) for each in source.streams}
        packets = [packet for packet in source.demux() if packet.size]
        for packet in change(packets):
            packet.stream = streams[packet.stream.index]
            try:
                out.mux(packet)
            except (av.FFmpegError, ValueError):
                continue  # the muxer refuses some packets; the others are enough


def drop_key_frames(base: Path, target: Path, random: Generator) -> None:
    """Drop all or some key frames."""
    share = random.choice([0.5, 1.0])

    def change(packets: list[av.Packet]) -> list[av.Packet]:
        return [p for p in packets if not (_is_picture(p) and p.is_keyframe and random.random() < share)]

    rewrite(base, target, change)


def drop_packets(base: Path, target: Path, random: Generator) -> None:
    """Drop random packets of both streams."""
    share = random.uniform(0.05, 0.9)
    rewrite(base, target, lambda packets: [p for p in packets if random.random() > share])


def sound_first(base: Path, target: Path, random: Generator) -> None:
    """Write all audio before all video, or the reverse."""
    video_first = bool(random.integers(2))
    rewrite(base, target, lambda packets: sorted(packets, key=lambda p: _is_picture(p) is not video_first))


def jumping_times(base: Path, target: Path, random: Generator) -> None:
    """Shift random timestamps forward, by up to an hour, or below 0."""
    reach_s = float(random.choice([-1, 1, 60, 3600]))

    def change(packets: list[av.Packet]) -> list[av.Packet]:
        for packet in packets:
            if random.random() < 0.3 and packet.dts is not None and packet.pts is not None:
                shift = int(reach_s * random.random() / packet.time_base)
                packet.dts, packet.pts = packet.dts + shift, packet.pts + shift
        return packets

    rewrite(base, target, change)


def _is_picture(packet: av.Packet) -> bool:
    return packet.stream.type == "video"


STREAMS: dict[str, Callable[[Path, Path, Generator], None]] = {
    "no-key-frames": drop_key_frames,
    "lost-packets": drop_packets,
    "interleaving": sound_first,
    "times": jumping_times,
}
"""Kind -> function that rewrites a video."""


# Generated files


def bad_sound(stem: Path, random: Generator) -> Path:
    """Write a video with audio samples that are NaN, infinite, or far too loud."""
    samples = 1e6 * _tone(1.0)
    bad = [float("nan"), float("inf"), float("-inf"), 3e38, 1e-40]
    samples[random.random(len(samples)) < 0.1] = bad[random.integers(len(bad))]
    return encode_video(stem.with_suffix(".mkv"), _flat(SIDE, SIDE), "mpeg4", "pcm_f32le", samples=samples)


def clipped_sound(stem: Path, random: Generator) -> Path:
    """Write a video with clipped audio."""
    samples = np.clip(float(random.uniform(10, 1000)) * _tone(1.0), -1, 1)
    return encode_video(stem.with_suffix(".mp4"), _flat(SIDE, SIDE), samples=samples)


def eight_k(stem: Path, random: Generator) -> Path:
    """Write two frames of 7680 x 4320."""
    return encode_video(stem.with_suffix(".avi"), _flat(4320, 7680, 2), "mjpeg", None)


def one_pixel(stem: Path, random: Generator) -> Path:
    """Write a video or a picture of 1 x 1."""
    if random.integers(2):
        return encode_video(stem.with_suffix(".mkv"), _flat(1, 1), "ffv1", None)
    path = stem.with_suffix(".png")
    cv2.imwrite(str(path), np.zeros((1, 1, 3), np.uint8))
    return path


def thin(stem: Path, random: Generator) -> Path:
    """Write a picture of 8192 x 2 or 2 x 8192."""
    shape = (2, 8192) if random.integers(2) else (8192, 2)
    path = stem.with_suffix(".png")
    cv2.imwrite(str(path), random.integers(0, 255, (*shape, 3), np.uint8))
    return path


def large_picture(stem: Path, random: Generator) -> Path:
    """Write a small file with 100 million pixels."""
    path = stem.with_suffix(".png")
    cv2.imwrite(str(path), np.full((10_000, 10_000), 127, np.uint8))
    return path


def bomb(stem: Path, random: Generator) -> Path:
    """Write a picture whose header declares more pixels than fit into memory."""
    path = stem.with_suffix(".png")
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    data = bytearray(path.read_bytes())
    struct.pack_into(">II", data, 16, 2**31 - 1, 2**31 - 1)
    path.write_bytes(data)
    return path


def no_frames(stem: Path, random: Generator) -> Path:
    """Write a video stream without frames."""
    path = stem.with_suffix(random.choice([".mp4", ".mkv", ".avi"]))
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as out:
        video = out.add_stream("mpeg4", rate=25)
        video.width = video.height = 64
        out.start_encoding()
    return path


def sizes_change(stem: Path, random: Generator) -> Path:
    """Write frames of three sizes into one stream."""
    path = stem.with_suffix(".ts")
    parts = [encode_video(stem.with_suffix(f".{side}.ts"), _flat(side, 2 * side)) for side in (64, 16, 128)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()
    return path


def _joined(stem: Path, starts_s: Sequence[float]) -> Path:
    """Write streams that start at different times, byte by byte into one file."""
    path = stem.with_suffix(".ts")
    for start_s in starts_s:
        part = stem.with_suffix(".part.ts")
        encode_video(part, _flat(SIDE, SIDE), options={"output_ts_offset": f"{start_s:.3f}"})
        with path.open("ab") as file:
            file.write(part.read_bytes())
        part.unlink()
    return path


def clock_steps(stem: Path, random: Generator) -> Path:
    """Write a file whose clock steps back: by less than a second, by seconds, and by hours."""
    back_s = [
        0.0,
        float(random.uniform(0.2, 0.9)),
        float(random.uniform(1, 50)),
        float(random.uniform(1, 10)) * 3600,
    ]
    return _joined(stem, 40_000.0 - np.cumsum(back_s))


def pause(stem: Path, random: Generator) -> Path:
    """Write a file with a pause of up to ten minutes in picture and sound."""
    return _joined(stem, [0.0, float(random.uniform(2, 600))])


def ten_hours(stem: Path, random: Generator) -> Path:
    """Write a frame per hour for ten hours, and a second of audio at the start."""
    times_s = [3600.0 * hour for hour in range(11)]
    return encode_video(stem.with_suffix(".mkv"), _flat(64, 64, 11), "mpeg4", "libopus", times_s=times_s)


def silence(stem: Path, random: Generator) -> Path:
    """Write a frame per hour, and ten hours of silence in a few kilobytes."""
    times_s = [3600.0 * hour for hour in range(11)]
    path, samples = stem.with_suffix(".mkv"), np.zeros(48_000, np.float32)
    sound = "libopus" if random.integers(2) else "aac"
    return encode_video(path, _flat(64, 64, 11), "mpeg4", sound, None, samples, times_s, pause_s=35_999.0)


def empty(stem: Path, random: Generator) -> Path:
    """Write an empty file."""
    path = stem.with_suffix(random.choice([".mp4", ".avi", ".jpg"]))
    path.touch()
    return path


def text(stem: Path, random: Generator) -> Path:
    """Write a text file."""
    path = stem.with_suffix(random.choice([".mp4", ".mkv", ".png"]))
    path.write_text("The patient smiled twice.\n" * int(random.integers(1, 400)), encoding="utf-8")
    return path


def playlist(stem: Path, random: Generator) -> Path:
    """Write a playlist with addresses that FFmpeg could open."""
    lists = (
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile http://192.0.2.1/a.mp4\n",
        "ffconcat version 1.0\nfile /dev/zero\n",
    )
    path = stem.with_suffix(random.choice([".mp4", ".m3u8"]))
    path.write_text(lists[random.integers(len(lists))], encoding="utf-8")
    return path


def noise(stem: Path, random: Generator) -> Path:
    """Write random bytes."""
    path = stem.with_suffix(random.choice([".mp4", ".avi", ".webm", ".jpg"]))
    path.write_bytes(random.bytes(int(2 ** random.uniform(0, 17))))
    return path


def directory(stem: Path, random: Generator) -> Path:
    """Create a folder with the name of a video."""
    path = stem.with_suffix(".mp4")
    path.mkdir(exist_ok=True)
    return path


def link(stem: Path, random: Generator) -> Path:
    """Create a link to itself, or to a missing file."""
    path = stem.with_suffix(".mp4")
    path.unlink(missing_ok=True)
    path.symlink_to(path.name if random.integers(2) else "nothing.mp4")
    return path


def pipe(stem: Path, random: Generator) -> Path:
    """Create a named pipe without a writer."""
    path = stem.with_suffix(".mp4")
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def _flat(height: int, width: int, frames: int = FRAMES) -> list[NDArray[np.uint8]]:
    """Return uniform grey images."""
    return [np.full((height, width, 3), 60 + index, np.uint8) for index in range(frames)]


SPECIAL: dict[str, Callable[[Path, Generator], Path]] = {
    "sound-nan": bad_sound,
    "sound-clipped": clipped_sound,
    "8k": eight_k,
    "1x1": one_pixel,
    "thin": thin,
    "large-picture": large_picture,
    "bomb": bomb,
    "no-frames": no_frames,
    "sizes-change": sizes_change,
    "clock-steps": clock_steps,
    "pause": pause,
    "ten-hours": ten_hours,
    "silence": silence,
    "empty": empty,
    "text": text,
    "playlist": playlist,
    "only-noise": noise,
    "directory": directory,
    "link": link,
    "pipe": pipe,
}
"""Kind -> function that writes the file."""


KINDS = sorted([*BYTES, *STREAMS, *SPECIAL])
"""All kinds; file n has kind n modulo their number."""
LARGE = frozenset({"8k", "large-picture", "silence"})
"""Kinds of valid files that take long to process."""


def main() -> None:
    """Parse arguments and write the corpus."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="new folder for the files and their list")
    parser.add_argument("--files", type=int, default=150, help="number of files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--clips", type=Path, help="folder with intact clips, from which faults are made, too"
    )
    args = parser.parse_args()
    if args.folder.exists():
        parser.error(f"{args.folder} already exists; give a new folder.")
    print(len(make_corpus(args.folder, range(args.files), args.seed, args.clips)), "files in", args.folder)


if __name__ == "__main__":
    main()
