"""Measure memory and speed against the length of a video, offline and live.

    python benchmarks/speed/long_video.py --hours 0.1667 1 2 [--write docs/benchmarks/long_video.md]

The video is the demo clip with audio, reduced to 192 px and repeated. Each length runs in a new process,
which reports frames a second, peak resident memory, and resident memory at the end. Memory includes Python,
the libraries and the network: see the shortest length.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for recipes and benchmarks
from auscan.core.environment import versions
from benchmarks.accuracy.metric_tables import page

LEAD = "Memory and speed of `auscan detect` (offline) and `auscan live` by length of the video."
SIDE = 192
"""Side of the video, px."""
RATE_HZ = 25


def make_video(path: Path, hours: float) -> None:
    """Encode ten seconds of the demo clip once and write a video that repeats the packets."""
    from auscan.pipeline.demo import make_demo_clip

    clip = path.with_name("clip.mp4")
    small = path.with_name("small.mp4")
    make_demo_clip(clip)
    reduce_clip(clip, small)
    with av.open(str(small)) as source, av.open(str(path), "w") as out:
        streams = [out.add_stream_from_template(stream) for stream in source.streams]
        packets = [packet for packet in source.demux() if packet.dts is not None]
        data = [
            (bytes(p), p.stream.index, p.pts, p.dts, p.is_keyframe, p.duration, p.time_base) for p in packets
        ]
        last: dict[int, int] = {}
        for turn in range(max(1, round(hours * 360))):
            for content, index, pts, dts, key, duration, base in data:
                packet = av.Packet(content)
                shift = round(turn * 10 / base)
                if dts + shift <= last.get(index, dts + shift - 1):
                    continue  # the audio of one repetition overlaps the next
                last[index] = dts + shift
                packet.stream, packet.time_base = streams[index], base
                packet.pts, packet.dts, packet.duration = pts + shift, dts + shift, duration
                packet.is_keyframe = key
                out.mux(packet)


def reduce_clip(source: Path, path: Path) -> None:
    """Reduce the clip to SIDE px without B-frames, so that it can be repeated."""
    with av.open(str(source)) as clip, av.open(str(path), "w") as out:
        video = out.add_stream(
            "libx264", rate=RATE_HZ, options={"crf": "23", "bf": "0", "preset": "veryfast"}
        )
        video.width = video.height = SIDE
        video.pix_fmt = "yuv420p"
        sound = out.add_stream_from_template(clip.streams.audio[0])
        for packet in clip.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "audio":
                packet.stream = sound
                out.mux(packet)
                continue
            for frame in packet.decode():
                out.mux(video.encode(frame.reformat(SIDE, SIDE)))
        out.mux(video.encode(None))


def resident_mb() -> float:
    """Return the resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def run_one(path: Path, mode: str) -> None:
    """Run in this process and print the measurements as JSON."""
    from auscan.inference.load import load_engine

    engine = load_engine()
    began_s = time.monotonic()
    if mode == "offline":
        from auscan.core.config import Options
        from auscan.pipeline.detect import write_result

        frames = write_result(path, path.parent / "out", engine, Options(), "long").info.frames
    else:
        frames = run_live(path, engine)
    seconds = time.monotonic() - began_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"frames": frames, "seconds": seconds, "peak_mb": peak_mb, "end_mb": resident_mb()}))


def run_live(path: Path, engine: object) -> int:
    """Push frames and audio without waiting. Return the number of rows."""
    from auscan.media.stream import read_stream
    from auscan.media.video import Frame
    from auscan.pipeline.live import LiveDetector

    rows = 0
    with LiveDetector(engine) as live:  # type: ignore[arg-type]
        for item in read_stream(str(path)):
            if isinstance(item, Frame):
                rows += len(live.push(item.image, item.time_s))
            else:
                live.push_audio(item)
        return rows + len(live.finish())


def main() -> None:
    """Make the videos, run them and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--hours", type=float, nargs="+", default=[10 / 3600, 1 / 6, 1.0, 2.0], help="lengths"
    )
    parser.add_argument("--modes", nargs="+", default=["offline", "live"], help="offline, live")
    parser.add_argument("--one", nargs=2, metavar=("FILE", "MODE"), help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help="also write the table into this file")
    args = parser.parse_args()
    if args.one:
        run_one(Path(args.one[0]), args.one[1])
        return
    lines = ["| mode | length | frames | frames/s | peak MB | MB at the end |", "| --- " * 6 + "|"]
    print(*lines, sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for hours in args.hours:
            video = Path(folder) / "long.mp4"
            make_video(video, hours)
            for mode in args.modes:
                command = [sys.executable, __file__, "--one", str(video), mode]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                run = json.loads(done.stdout.splitlines()[-1])
                lines.append(
                    f"| {mode} | {hours:.2f} h | {run['frames']} | {run['frames'] / run['seconds']:.0f} | "
                    f"{run['peak_mb']:.0f} | {run['end_mb']:.0f} |"
                )
                print(lines[-1], flush=True)
    if args.write:
        used = ", ".join(f"{name} {number}" for name, number in versions().items())
        args.write.write_text(page("Long videos", LEAD, lines, __doc__ or "", f"{used}."), encoding="utf-8")


if __name__ == "__main__":
    main()
