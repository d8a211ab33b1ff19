"""Make media that are broken in every way that can be thought of, and say what is wrong with each.

    python tests/faults/corpus.py FOLDER --files 2000 [--seed 0] [--clips DIR]

File n of a seed is the same on every run with the same codecs, whatever the number of files: its kind goes by
n, all else by chance seeded with n. What is broken are short films and pictures of the demo's face, and the
clips of DIR. The list is FOLDER/faults.jsonl, a line a file: file, kind, base.

Three sorts of fault: `BYTES` spoil the bytes of a file, `STREAMS` write its packets anew in a wrong way, and
`ODD` things are made of nothing. Not here: what auscan makes of them (test_faults.py,
benchmarks/faults/fuzz.py).
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
"""File, codecs of picture and sound, options of the container."""
PICTURES = ("face.jpg", "face.png", "face.webp", "face.bmp")


@dataclass(frozen=True)
class Fault:
    """One broken file."""

    file: str
    kind: str
    base: str
    """What it was made of; empty where of nothing."""


def make_corpus(folder: Path, files: Sequence[int], seed: int = 0, clips: Path | None = None) -> list[Fault]:
    """Write the files of these numbers into `folder` with their list; returns the list."""
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
    stem = folder / f"{number:05}-{kind}"
    if kind in ODD:
        return Fault(ODD[kind](stem, random).name, kind, "")
    suffixes, corrupt = BYTES.get(kind, (None, None))
    fitting = [each for each in bases if suffixes is None or each.suffix in suffixes]
    if kind in STREAMS:
        fitting = [each for each in fitting if each.name not in PICTURES]
    base = fitting[random.integers(len(fitting))]
    target = stem.with_suffix(base.suffix)
    if corrupt is None:
        STREAMS[kind](base, target, random)
    else:
        target.write_bytes(corrupt(bytearray(base.read_bytes()), random))
    return Fault(target.name, kind, base.name)


# What is broken


def make_bases(folder: Path) -> list[Path]:
    """Whole films and pictures of the demo's face."""
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
    """A film of images [H, W, 3] with a tone, or with samples [M] at 48 kHz; times_s of the images.

    pause_s: how long the sound stops in its middle
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
    return (0.1 * np.sin(np.arange(round(seconds * 48_000)) * 0.05)).astype(np.float32)


# Bytes


def flip_bits(data: bytearray, random: Generator, low: int = 0, high: int | None = None) -> bytes:
    """Some bits, anywhere or between two places."""
    high = min(len(data), high or len(data))
    for place in random.integers(min(low, high - 1), high, int(2 ** random.uniform(0, 9))):
        data[place] ^= 1 << int(random.integers(8))
    return bytes(data)


def flip_head(data: bytearray, random: Generator) -> bytes:
    """Bits of what a container says first."""
    return flip_bits(data, random, 0, 2000)


def flip_index(data: bytearray, random: Generator) -> bytes:
    """Bits of the index of an mp4 file."""
    start = max(data.find(b"moov"), 0)
    return flip_bits(data, random, start, start + 3000)


def cut_end(data: bytearray, random: Generator) -> bytes:
    """As by a full disk."""
    return bytes(data[: int(len(data) * random.uniform(0.001, 0.999))])


def cut_start(data: bytearray, random: Generator) -> bytes:
    """As of a stream that was joined late."""
    return bytes(data[int(len(data) * random.uniform(0.001, 0.999)) :])


def cut_middle(data: bytearray, random: Generator) -> bytes:
    """A block is missing."""
    first, last = sorted(random.integers(0, len(data), 2))
    return bytes(data[:first] + data[last:])


def zero_block(data: bytearray, random: Generator) -> bytes:
    """As by a download that left a hole."""
    first = int(random.integers(len(data)))
    length = min(int(2 ** random.uniform(4, 16)), len(data) - first)
    data[first : first + length] = bytes(length)
    return bytes(data)


def swap_blocks(data: bytearray, random: Generator) -> bytes:
    """Two blocks in each other's place, as on a broken disk."""
    length = int(min(2 ** random.uniform(6, 13), len(data) // 3))
    first, second = int(random.integers(0, len(data) // 3)), int(random.integers(len(data) // 2, len(data)))
    data[first : first + length], data[second : second + length] = (
        data[second : second + length],
        data[first : first + length],
    )
    return bytes(data)


def repeat_block(data: bytearray, random: Generator) -> bytes:
    """A block twice."""
    first, last = sorted(random.integers(0, len(data), 2))
    return bytes(data[:last] + data[first:])


def swap_head(data: bytearray, random: Generator) -> bytes:
    """The first bytes of another container."""
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
    """Overwrite numbers that stand so many bytes behind a tag, all of one tag, with one of the values."""
    found = [each for each in tags if each[0] in data]
    if found:
        tag, offset, form = found[random.integers(len(found))]
        value = values[random.integers(len(values))]
        place = data.find(tag)
        while place >= 0 and place + len(tag) + offset + struct.calcsize(form) <= len(data):
            number = value if form[-1] in "df" else int(value) % 256 ** struct.calcsize(form)
            struct.pack_into(form, data, place + len(tag) + offset, number)
            place = data.find(tag, place + 1)
    return bytes(data)


def absurd_size(data: bytearray, random: Generator) -> bytes:
    """Width or height: nothing, one, odd, far too much."""
    tags = [(b"avc1", 24, ">H"), (b"avc1", 26, ">H"), (b"mp4v", 24, ">H"), (b"tkhd", 76, ">I")]
    tags += [(b"strf", 8, "<I"), (b"strf", 12, "<I"), (b"\xb0\x82", 0, ">H"), (b"\xba\x82", 0, ">H")]
    return patch(data, random, tags, (0, 1, 17, 4096, 16_384, 65_535, -1))


def absurd_rate(data: bytearray, random: Generator) -> bytes:
    """Ticks a second and ticks a frame."""
    tags = [(b"mdhd", 12, ">I"), (b"mvhd", 12, ">I"), (b"stts", 12, ">I"), (b"avih", 4, "<I")]
    tags += [(b"strh", 24, "<I"), (b"strh", 28, "<I"), (b"\x23\xe3\x83\x84", 0, ">I")]
    return patch(data, random, tags, (0, 1, 2, 1e6, 2**31 - 1, -1))


def absurd_duration(data: bytearray, random: Generator) -> bytes:
    """How long it says it is."""
    tags = [(b"mdhd", 16, ">I"), (b"mvhd", 16, ">I"), (b"tkhd", 20, ">I"), (b"strh", 36, "<I")]
    tags += [(b"\x44\x89\x88", 0, ">d"), (b"\x2a\xd7\xb1\x83", -1, ">I")]
    return patch(data, random, tags, (0, 1, 1e9, 2**31 - 1, -1))


def absurd_sound(data: bytearray, random: Generator) -> bytes:
    """Channels, and samples a second."""
    tags = [(b"mp4a", 16, ">H"), (b"mp4a", 24, ">I"), (b"sowt", 16, ">H"), (b"sowt", 24, ">I")]
    tags += [(b"\x9f\x81", 0, ">B"), (b"\xb5\x88", 0, ">d"), (b"auds", 16, "<I"), (b"auds", 20, "<I")]
    return patch(data, random, tags, (0, 1, 255, 65_535, 1e9, -1))


def absurd_box(data: bytearray, random: Generator) -> bytes:
    """How long a part of an mp4 file says it is."""
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
    """How many entries the tables of an mp4 file say they have, and what is first in them."""
    tags = [
        (each, offset, ">I")
        for each in (b"stsz", b"stco", b"stsc", b"stts", b"ctts")
        for offset in (4, 8, 12)
    ]
    return patch(data, random, tags, (0, 1, 2**24, 2**31 - 1, -1))


def absurd_turn(data: bytearray, random: Generator) -> bytes:
    """The matrix that turns the picture upright."""
    start = data.find(b"tkhd") + 44
    data[start : start + 36] = random.bytes(36)
    return bytes(data)


def noise_behind_head(data: bytearray, random: Generator) -> bytes:
    """A container's first bytes, and then nothing that makes sense."""
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
"""By kind: the files it fits (None: all), and what it does. `whole` is there to see that good files pass."""


# Streams


def rewrite(base: Path, target: Path, change: Callable[[list[av.Packet]], list[av.Packet]]) -> None:
    """The packets of a film as `change` leaves them, in a new container of the same kind."""
    with av.open(str(base)) as source, av.open(str(target), "w", options={"fflags": "+bitexact"}) as out:
        streams = {each.index: out.add_stream_from_template(each) for each in source.streams}
        packets = [packet for packet in source.demux() if packet.size]
        for packet in change(packets):
            packet.stream = streams[packet.stream.index]
            try:
                out.mux(packet)
            except (av.FFmpegError, ValueError):
                continue  # the muxer refuses some; what it takes is broken enough


def drop_key_frames(base: Path, target: Path, random: Generator) -> None:
    """All, or some."""
    share = random.choice([0.5, 1.0])

    def change(packets: list[av.Packet]) -> list[av.Packet]:
        return [p for p in packets if not (_is_picture(p) and p.is_keyframe and random.random() < share)]

    rewrite(base, target, change)


def drop_packets(base: Path, target: Path, random: Generator) -> None:
    """Any of either stream."""
    share = random.uniform(0.05, 0.9)
    rewrite(base, target, lambda packets: [p for p in packets if random.random() > share])


def sound_first(base: Path, target: Path, random: Generator) -> None:
    """All sound, then all pictures, or the other way round."""
    turned = bool(random.integers(2))
    rewrite(base, target, lambda packets: sorted(packets, key=lambda p: _is_picture(p) is not turned))


def jumping_times(base: Path, target: Path, random: Generator) -> None:
    """Times that jump ahead, far too far or below 0, once or again and again."""
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


# Odd things


def bad_sound(stem: Path, random: Generator) -> Path:
    """Samples that are no number, endless, or far too loud."""
    samples = 1e6 * _tone(1.0)
    bad = [float("nan"), float("inf"), float("-inf"), 3e38, 1e-40]
    samples[random.random(len(samples)) < 0.1] = bad[random.integers(len(bad))]
    return encode_video(stem.with_suffix(".mkv"), _flat(SIDE, SIDE), "mpeg4", "pcm_f32le", samples=samples)


def clipped_sound(stem: Path, random: Generator) -> Path:
    """Loud enough to be a square."""
    samples = np.clip(float(random.uniform(10, 1000)) * _tone(1.0), -1, 1)
    return encode_video(stem.with_suffix(".mp4"), _flat(SIDE, SIDE), samples=samples)


def eight_k(stem: Path, random: Generator) -> Path:
    """Two frames of 7680 x 4320."""
    return encode_video(stem.with_suffix(".avi"), _flat(4320, 7680, 2), "mjpeg", None)


def one_pixel(stem: Path, random: Generator) -> Path:
    """1 x 1, as a film or a picture."""
    if random.integers(2):
        return encode_video(stem.with_suffix(".mkv"), _flat(1, 1), "ffv1", None)
    path = stem.with_suffix(".png")
    cv2.imwrite(str(path), np.zeros((1, 1, 3), np.uint8))
    return path


def thin(stem: Path, random: Generator) -> Path:
    """As long as a wall and as high as a line."""
    shape = (2, 8192) if random.integers(2) else (8192, 2)
    path = stem.with_suffix(".png")
    cv2.imwrite(str(path), random.integers(0, 255, (*shape, 3), np.uint8))
    return path


def large_picture(stem: Path, random: Generator) -> Path:
    """A hundred million pixels in a small file."""
    path = stem.with_suffix(".png")
    cv2.imwrite(str(path), np.full((10_000, 10_000), 127, np.uint8))
    return path


def bomb(stem: Path, random: Generator) -> Path:
    """A picture that says it has more pixels than any memory holds."""
    path = stem.with_suffix(".png")
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    data = bytearray(path.read_bytes())
    struct.pack_into(">II", data, 16, 2**31 - 1, 2**31 - 1)
    path.write_bytes(data)
    return path


def no_frames(stem: Path, random: Generator) -> Path:
    """A stream of pictures with none in it."""
    path = stem.with_suffix(random.choice([".mp4", ".mkv", ".avi"]))
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as out:
        video = out.add_stream("mpeg4", rate=25)
        video.width = video.height = 64
        out.start_encoding()
    return path


def sizes_change(stem: Path, random: Generator) -> Path:
    """Frames of one size, then of another."""
    path = stem.with_suffix(".ts")
    parts = [encode_video(stem.with_suffix(f".{side}.ts"), _flat(side, 2 * side)) for side in (64, 16, 128)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()
    return path


def ten_hours(stem: Path, random: Generator) -> Path:
    """A frame an hour, and a second of sound at the start."""
    times_s = [3600.0 * hour for hour in range(11)]
    return encode_video(stem.with_suffix(".mkv"), _flat(64, 64, 11), "mpeg4", "libopus", times_s=times_s)


def silence(stem: Path, random: Generator) -> Path:
    """A frame an hour, and ten hours of silence that take no room."""
    times_s = [3600.0 * hour for hour in range(11)]
    path, samples = stem.with_suffix(".mkv"), np.zeros(48_000, np.float32)
    sound = "libopus" if random.integers(2) else "aac"
    return encode_video(path, _flat(64, 64, 11), "mpeg4", sound, None, samples, times_s, pause_s=35_999.0)


def empty(stem: Path, random: Generator) -> Path:
    """No byte."""
    path = stem.with_suffix(random.choice([".mp4", ".avi", ".jpg"]))
    path.touch()
    return path


def text(stem: Path, random: Generator) -> Path:
    """Words."""
    path = stem.with_suffix(random.choice([".mp4", ".mkv", ".png"]))
    path.write_text("The patient smiled twice.\n" * int(random.integers(1, 400)), encoding="utf-8")
    return path


def playlist(stem: Path, random: Generator) -> Path:
    """Words that FFmpeg takes for addresses."""
    lists = (
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile http://192.0.2.1/a.mp4\n",
        "ffconcat version 1.0\nfile /dev/zero\n",
    )
    path = stem.with_suffix(random.choice([".mp4", ".m3u8"]))
    path.write_text(lists[random.integers(len(lists))], encoding="utf-8")
    return path


def noise(stem: Path, random: Generator) -> Path:
    """Bytes without any sense."""
    path = stem.with_suffix(random.choice([".mp4", ".avi", ".webm", ".jpg"]))
    path.write_bytes(random.bytes(int(2 ** random.uniform(0, 17))))
    return path


def directory(stem: Path, random: Generator) -> Path:
    """A folder with a film's name."""
    path = stem.with_suffix(".mp4")
    path.mkdir(exist_ok=True)
    return path


def link(stem: Path, random: Generator) -> Path:
    """A link to itself, or to nothing."""
    path = stem.with_suffix(".mp4")
    path.unlink(missing_ok=True)
    path.symlink_to(path.name if random.integers(2) else "nothing.mp4")
    return path


def pipe(stem: Path, random: Generator) -> Path:
    """A pipe that nobody writes to."""
    path = stem.with_suffix(".mp4")
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def _flat(height: int, width: int, frames: int = FRAMES) -> list[NDArray[np.uint8]]:
    return [np.full((height, width, 3), 60 + index, np.uint8) for index in range(frames)]


ODD: dict[str, Callable[[Path, Generator], Path]] = {
    "sound-nan": bad_sound,
    "sound-clipped": clipped_sound,
    "8k": eight_k,
    "1x1": one_pixel,
    "thin": thin,
    "large-picture": large_picture,
    "bomb": bomb,
    "no-frames": no_frames,
    "sizes-change": sizes_change,
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


KINDS = sorted([*BYTES, *STREAMS, *ODD])
"""File n of a corpus is of kind n, counted around."""
LARGE = frozenset({"8k", "large-picture", "silence"})
"""Nothing is wrong with them, but they take their time."""


def main() -> None:
    """Read the command line, write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="new folder for the files and their list")
    parser.add_argument("--files", type=int, default=150, help="how many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=Path, help="folder with whole clips to be broken as well")
    args = parser.parse_args()
    if args.folder.exists():
        parser.error(f"{args.folder} is there already; give a new folder.")
    print(len(make_corpus(args.folder, range(args.files), args.seed, args.clips)), "files in", args.folder)


if __name__ == "__main__":
    main()
