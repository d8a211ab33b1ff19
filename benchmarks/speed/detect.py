r"""Measure frames a second from file to table, of auscan and MediaPipe, and processor time of each stage.

    python benchmarks/speed/detect.py --data ../shared/data  # needs data that are not included
    python benchmarks/speed/detect.py --data ../shared/data --peer mediapipe --task face_landmarker.task \
        --write docs/benchmarks/detect.md  # needs data that are not included

Prints a row for each clip. auscan and the peer, if given, run each clip in turn, under the same load of the
machine; both read the file with PyAV and process every frame. auscan's time includes audio, the temporal
stage and the table. The peer's time is for one face with landmarks and blendshapes. MediaPipe (pip install
mediapipe) is not a dependency of auscan. It installs another OpenCV, so install it into a separate folder and
put the folder on PYTHONPATH.

Then the processor time of each stage on one clip is measured, one stage after the other. The end-to-end run
spreads their sum over the cores.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for recipes and benchmarks
from auscan.core.environment import versions
from auscan.faces.detector import FaceDetector
from auscan.faces.tracking import track_faces
from auscan.inference.engine import AudioTokens, InferenceEngine, encode_audio_stream
from auscan.inference.load import load_engine
from auscan.media.audio import read_waveform
from auscan.media.video import Frame, probe, read_frames
from auscan.pipeline.detect import BATCH_CROPS, detect
from auscan.pipeline.face_features import FaceEncoder, FrameFeatures, batch_frames, crop_faces
from auscan.pipeline.track import FaceTrack
from benchmarks.accuracy.face_tracking import SEVERAL_FACES
from benchmarks.accuracy.metric_tables import page

TITLE = "Speed from file to table"
LEAD = (
    "Frames a second of `auscan detect`, and of MediaPipe on the same clips. Ratio is auscan over MediaPipe."
)
FASTEST_OF = 2
"""Number of runs of each clip. The fastest counts, because other load only slows a run down."""


@dataclass(frozen=True)
class Speed:
    """Speed of auscan and the peer on one clip."""

    name: str
    frames: int
    duration_s: float
    one_face: bool
    """Whether the clip shows exactly one face."""
    square: bool
    """Whether it has 512 x 512 px, 24 to 31 frames a second, and audio."""
    ours: float
    """Frames a second of auscan."""
    peer: float | None
    """Frames a second of the peer."""
    ours_ms: float
    """Processor time of auscan in ms a frame, of all cores together."""
    peer_ms: float | None
    """Processor time of the peer in ms a frame, of all cores together."""


def run_peer(task: Path) -> Callable[[Path], float]:
    """Return a function that runs MediaPipe Face Landmarker on a clip and returns the seconds."""
    from mediapipe import Image, ImageFormat
    from mediapipe.tasks.python import BaseOptions, vision

    def run(path: Path) -> float:
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(task)),
            running_mode=vision.RunningMode.VIDEO,
            output_face_blendshapes=True,
        )
        with vision.FaceLandmarker.create_from_options(options) as landmarker:
            began_s, last_ms = time.perf_counter(), -1
            for frame in read_frames(path):
                last_ms = max(last_ms + 1, round(frame.time_s * 1000))  # MediaPipe requires increasing times
                landmarker.detect_for_video(Image(image_format=ImageFormat.SRGB, data=frame.image), last_ms)
            return time.perf_counter() - began_s

    return run


def measure(path: Path, engine: InferenceEngine, peer: Callable[[Path], float] | None) -> Speed:
    """Run one clip with auscan and the peer in turn."""
    info = probe(path)
    ours, theirs, ours_cpu, their_cpu = [], [], [], []
    for _ in range(FASTEST_OF):
        began_s, cpu_s = time.perf_counter(), time.process_time()
        result = detect(path, model=engine)
        ours.append(time.perf_counter() - began_s)
        ours_cpu.append(time.process_time() - cpu_s)
        if peer is not None:
            cpu_s = time.process_time()
            theirs.append(peer(path))
            their_cpu.append(time.process_time() - cpu_s)
    frames = result.info.frames
    square = (info.width, info.height, info.has_audio) == (512, 512, True) and 24 <= (info.rate_hz or 0) <= 31
    return Speed(
        path.name,
        frames,
        result.info.duration_s,
        one_face=not path.stem.startswith((*SEVERAL_FACES, "no_face")),
        square=square,
        ours=frames / min(ours),
        peer=frames / min(theirs) if theirs else None,
        ours_ms=1000 * min(ours_cpu) / frames,
        peer_ms=1000 * min(their_cpu) / frames if their_cpu else None,
    )


def split(path: Path, engine: InferenceEngine) -> dict[str, float]:
    """Measure the processor time of each stage alone on one clip, ms a frame."""
    spent: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began_s = time.process_time()
        done = work()
        spent[name] = time.process_time() - began_s
        return done

    side = engine.config.network.visual.crop_size
    frames: list[Frame] = timed("decode to RGB", lambda: list(read_frames(path)))
    detector = FaceDetector()
    tracked = timed("detect and track faces", lambda: list(track_faces(frames, detector)))
    crops = timed("crop faces", lambda: [crop_faces(frame, faces, side) for frame, faces in tracked])
    encoder = FaceEncoder(engine)
    encoded: list[FrameFeatures] = timed(
        "visual stage", lambda: [f for batch in batch_frames(crops, BATCH_CROPS) for f in encoder(batch)]
    )
    waveform = read_waveform(path)
    chunks = timed("decode audio", lambda: None if waveform is None else list(waveform))
    sound: AudioTokens | None = timed(
        "audio encoder", lambda: None if chunks is None else encode_audio_stream(engine, chunks)
    )
    timed("temporal stage", lambda: score_faces(encoded, engine, sound))
    return {name: 1000 * seconds / len(frames) for name, seconds in spent.items()}


def score_faces(encoded: list[FrameFeatures], engine: InferenceEngine, sound: AudioTokens | None) -> None:
    """Score every face of the frames."""
    tracks: dict[int, FaceTrack] = {}
    for frame in encoded:
        for face in frame.faces:
            track = tracks.setdefault(face.face.face_id, FaceTrack(face.face.face_id, face))
            track.add(frame.index, frame.time_s, face)
    for track in tracks.values():
        track.score(engine, sound)


def report(speeds: list[Speed], parts: dict[str, float], where: str) -> list[str]:
    """Return the tables as Markdown lines."""
    titles = (
        "clip | frames | frames/s | times real time | CPU ms a frame | peer frames/s | peer CPU ms | ratio"
    )
    lines = [f"| {titles} |", "| --- " * 8 + "|"]
    for s in speeds:
        peer = " | | " if s.peer is None else f"{s.peer:.0f} | {s.peer_ms:.1f} | {s.ours / s.peer:.2f}"
        real = s.ours * s.duration_s / s.frames
        lines.append(f"| {s.name} | {s.frames} | {s.ours:.0f} | {real:.1f} | {s.ours_ms:.1f} | {peer} |")
    single = [s for s in speeds if s.one_face]
    lines += [
        "",
        f"Median over the {len(single)} clips with one face: {np.median([s.ours for s in single]):.0f}",
    ]
    lines[-1] += " frames a second"
    ratios = [s.ours / s.peer for s in single if s.peer]
    if ratios:
        peers = np.median([s.peer for s in single if s.peer])
        lines[-1] += f", the peer {peers:.0f}; median ratio {np.median(ratios):.2f}"
    square = [s.ours * s.duration_s / s.frames for s in speeds if s.square]
    if square:
        lines += ["", f"512 x 512 with audio, {len(square)} clips: {np.median(square):.1f} times real time"]
        lines[-1] += f" (median; slowest {min(square):.1f})."
    lines += ["", f"Processor time a frame on {where}:", "", "| stage | ms |", "| --- | --- |"]
    lines += [f"| {name} | {ms:.2f} |" for name, ms in parts.items()]
    return [*lines, f"| sum | {sum(parts.values()):.2f} |"]


def machine() -> str:
    """Describe the machine."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _lines(path: str) -> list[str]:
    """Read the lines of a file; none if it does not exist."""
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with clips/")
    parser.add_argument("--clips", nargs="+", help="clips to run, by name without suffix; all by default")
    parser.add_argument("--model", default="nano", help="name or folder of a checkpoint")
    parser.add_argument("--peer", choices=["mediapipe"], help="program to compare with")
    parser.add_argument("--task", type=Path, help="face_landmarker.task of MediaPipe")
    parser.add_argument("--split", default="lp_d11", help="clip for the times of the stages")
    parser.add_argument("--write", type=Path, help="also write the tables into this file")
    args = parser.parse_args()
    if args.peer and not args.task:
        parser.error("--peer mediapipe needs --task FILE")
    engine, peer = load_engine(args.model), run_peer(args.task) if args.peer else None
    speeds = []
    for path in sorted((args.data / "clips").glob("*.m*")):
        if not args.clips or path.stem in args.clips:
            speeds.append(measure(path, engine, peer))
            print(speeds[-1], flush=True)
    parts = split(next((args.data / "clips").glob(f"{args.split}.*")), engine)
    lines = report(speeds, parts, args.split)
    used = {**versions(), **({args.peer: version(args.peer)} if args.peer else {})}
    note = f"{machine()}; PyAV {av.__version__}; " + ", ".join(f"{k} {v}" for k, v in used.items()) + "."
    print(*lines, "", note, sep="\n")
    if args.write:
        args.write.write_text(page(TITLE, LEAD, lines, __doc__ or "", note), encoding="utf-8")


if __name__ == "__main__":
    main()
