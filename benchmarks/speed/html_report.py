"""Measure the size of the HTML report and the time to write it, for ten minutes of video.

    python benchmarks/speed/html_report.py --clip clips/lp_d9.mp4 [--minutes 10] [--keep report.html]

The clip is repeated without encoding it again. `detect` writes attributions to a file, as on the command
line. The report is then made from the result. Prints its time, also as a share of the time of `detect`.
"""

import argparse
import tempfile
import time
from pathlib import Path

import av

from auscan.core.aus import AFFWILD2_AUS
from auscan.pipeline.detect import detect
from auscan.pipeline.outputs import render_report
from auscan.results.attributions import AttributionsWriter, attributions_metadata

MODEL, SIDE = "nano", 112


def repeat_clip(clip: Path, path: Path, minutes: float) -> None:
    """Write a video of this length to `path` that repeats `clip`."""
    with av.open(str(clip)) as source:
        turns = max(1, round(minutes * 60 * av.time_base / (source.duration or av.time_base)))
    turns_list = path.with_suffix(".txt")
    turns_list.write_text(f"file '{clip.resolve()}'\n" * turns)
    with (
        av.open(str(turns_list), format="concat", options={"safe": "0"}) as source,
        av.open(str(path), "w") as out,
    ):
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams if s.type != "data"}
        last: dict[int, int] = {}
        for packet in source.demux(list(source.streams.video) + list(source.streams.audio)):
            if packet.dts is None or packet.dts <= last.get(packet.stream.index, packet.dts - 1):
                continue  # the audio of one repetition may overlap the next
            last[packet.stream.index] = packet.dts
            packet.stream = streams[packet.stream.index]
            out.mux(packet)


def main() -> None:
    """Parse arguments, make the video and its report, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, required=True, help="clip to repeat")
    parser.add_argument("--minutes", type=float, default=10, help="length of the video")
    parser.add_argument("--keep", type=Path, help="file in which to keep the report")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        video, attributions = Path(temporary, "long.mp4"), Path(temporary, "evidence.parquet")
        report = args.keep or Path(temporary, "report.html")
        repeat_clip(args.clip, video, args.minutes)
        metadata = attributions_metadata(video.name, MODEL, SIDE, AFFWILD2_AUS, "benchmark")
        with AttributionsWriter(attributions, metadata) as writer:
            result = detect(video, model=MODEL, attributions=writer.write)
        began_s = time.monotonic()
        render_report(result, video, report, attributions)
        took_s = time.monotonic() - began_s
        run_s = result.info.seconds
        size_mb = report.stat().st_size / 1e6
        print(
            f"{size_mb:.1f} MB, made in {took_s:.1f} s, {took_s / run_s:.0%} of the {run_s:.0f} s of detect"
        )


if __name__ == "__main__":
    main()
