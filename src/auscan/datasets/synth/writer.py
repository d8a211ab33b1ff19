"""Write a synthetic data set: videos, aligned faces, annotations, test lists and ground truth.

    batch1/, batch2/                      videos with sound
    cropped_aligned/<track>/00001.jpg     faces, 112 x 112 px
    Third ABAW Annotations/...            labels of the training and validation set
    test_set/...                          list, expected counts, templates of two editions
    covers.parquet                        covers of the AU regions (covers.py)
    truth/frames.parquet, tracks.parquet  ground truth of all splits; not for training

Inputs: an output folder, the number of videos, a seed, optionally ICT-FaceKit's face.  Returns: counts.
See also: plan.py (plans), video.py (one video).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.errors import InputError
from auscan.datasets.covers import COVERS_NAME
from auscan.datasets.synth.builtin import builtin_face
from auscan.datasets.synth.dynamics import Random
from auscan.datasets.synth.ict import ict_face
from auscan.datasets.synth.person import Face
from auscan.datasets.synth.plan import VideoPlan, plan_videos
from auscan.datasets.synth.video import HEADER, SyntheticVideo, make_video

Progress = Callable[[int, int | None], None]
"""Function called with the frames done and the total number of frames."""

_LIST_NAME = "names_of_videos_in_each_test_set/Action_Unit_Detection_Challenge_test_set_release.txt"

_COUNTS_NAME = "names_of_videos_in_each_test_set/Action_Unit_Detection_Challenge_expected_frames.txt"

_TEMPLATE_5_NAME = "prediction_files_format/CVPR_5th_ABAW_AU_test_set_sample.txt"

_TEMPLATE_6_NAME = "prediction_files_format/CVPR_6th_ABAW_AU_test_set_example.txt"


def write_dataset(
    out: Path,
    videos: int,
    seed: int,
    seconds: float = 20.0,
    face_file: Path | None = None,
    workers: int = 1,
    rate_hz: float | None = None,
    all_aus: bool = False,
    progress: Progress = lambda done, total: None,
) -> dict[str, int]:
    """Write the data set into the new or empty folder `out`; return the counts of videos, tracks and frames.

    seconds: mean length of a video.  face_file: an ict_facekit.npz; None uses the built-in face.
    workers: number of processes; the result does not depend on it.
    rate_hz: frame rate of all videos in Hz; None draws it from the rates of Aff-Wild2.
    all_aus: whether faces also move in the AUs that Aff-Wild2 does not have; truth/ has their labels.
    progress: called after each video with the frames done and the estimated total.

    Raises InputError if `out` is not empty, or a number or the face file is invalid.
    """
    settings = {
        "videos": videos,
        "seed": seed,
        "seconds": seconds,
        "rate_hz": rate_hz,
        "face": "ict" if face_file else "builtin",
    }
    plans = plan_videos(videos, seconds, seed, rate_hz)
    if all_aus:
        settings["all_aus"] = True
        plans = [replace(plan, conditions=replace(plan.conditions, all_aus=True)) for plan in plans]
    return write_videos(out, plans, seed, settings, face_file, workers, progress)


def write_videos(
    out: Path,
    plans: list[VideoPlan],
    seed: int,
    settings: Mapping[str, object],
    face_file: Path | None = None,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
) -> dict[str, int]:
    """Write a data set of planned videos, as `write_dataset`.

    settings: content of truth/settings.json.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not an empty folder. Choose a new folder, or empty this one.")
    _load_face(face_file)  # refuse an invalid face file before any file is written
    out.mkdir(parents=True, exist_ok=True)
    synthetic_videos, done = [], 0
    total = round(sum(plan.seconds * plan.rate_hz for plan in plans))
    for video in _make_videos(plans, face_file, out, workers):
        synthetic_videos.append(video)
        done += int(video.frames["number"].max())
        progress(done, max(done, total))
    test_rows = [
        video.rows for plan, video in zip(plans, synthetic_videos, strict=True) if plan.split == "test"
    ]
    counts = {track: rows for by_track in test_rows for track, rows in by_track.items()}
    if counts:
        write_test_files(out / "test_set", counts, np.random.default_rng([seed, 5]))
    truth = out / "truth"
    truth.mkdir()
    frames = pd.concat([video.frames for video in synthetic_videos], ignore_index=True)
    tracks = pd.concat([video.tracks for video in synthetic_videos], ignore_index=True)
    covers = pd.concat([video.covers for video in synthetic_videos], ignore_index=True)
    covers.to_parquet(out / COVERS_NAME, index=False)
    frames.to_parquet(truth / "frames.parquet", index=False)
    tracks.to_parquet(truth / "tracks.parquet", index=False)
    (truth / "settings.json").write_text(json.dumps(dict(settings), indent=2) + "\n", "ascii")
    return {"videos": len(plans), "tracks": len(tracks), "frames": len(frames)}


def _make_videos(
    plans: list[VideoPlan], face_file: Path | None, out: Path, workers: int
) -> Iterator[SyntheticVideo]:
    if workers <= 1:
        yield from map(_make_one, plans, repeat(face_file), repeat(out))
        return
    # Processes are spawned, because a fork of a process with running threads may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_make_one, plans, repeat(face_file), repeat(out))


def _make_one(plan: VideoPlan, face_file: Path | None, out: Path) -> SyntheticVideo:
    return make_video(plan, _load_face(face_file), out)


@cache
def _load_face(face_file: Path | None) -> Face:
    return builtin_face() if face_file is None else ict_face(face_file)


def write_test_files(folder: Path, counts: dict[str, int], random: Random) -> None:
    """Write the list, the expected counts and both template styles for test tracks.

    counts: number of rows by track.
    """
    locations = [f"{track}/{n:05d}.jpg" for track, count in counts.items() for n in range(1, count + 1)]
    header = f"image_location,{HEADER}"
    placeholders = random.integers(0, 2, (len(locations), len(AFFWILD2_AUS))).tolist()
    filled = [f"{at},{','.join(map(str, row))}" for at, row in zip(locations, placeholders, strict=True)]
    texts = {
        _LIST_NAME: list(counts),
        _COUNTS_NAME: [f"{track},{count}" for track, count in counts.items()],
        _TEMPLATE_5_NAME: [header, *(f"{at}," for at in locations)],
        _TEMPLATE_6_NAME: [header, *filled],
    }
    for name, lines in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", "ascii")
