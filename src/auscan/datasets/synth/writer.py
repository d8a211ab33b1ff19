"""Write the whole data set: videos, aligned faces, annotations, the test set's lists, and the hidden truth.

    batch1/, batch2/                      videos with sound
    cropped_aligned/<track>/00001.jpg     faces, 112x112
    Third ABAW Annotations/...            labels of train and validation
    test_set/...                          list, expected counts, templates of two editions
    truth/frames.parquet, tracks.parquet  what really happened, also in the test set; not for training

In: a folder, how many videos, a seed, perhaps ICT-FaceKit's face.  Out: the files.
Not here: one video (film.py).
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from auscan.core.errors import InputError
from auscan.datasets.synth.builtin import builtin_face
from auscan.datasets.synth.ict import ict_face
from auscan.datasets.synth.person import Face
from auscan.datasets.synth.plan import VideoPlan, plan_videos
from auscan.datasets.synth.video import Film, make_film, write_test_files

Report = Callable[[int, int | None], None]


def write_dataset(
    out: Path,
    videos: int,
    seed: int,
    seconds: float = 20.0,
    face_file: Path | None = None,
    workers: int = 1,
    rate_hz: float | None = None,
    report: Report = lambda done, total: None,
) -> dict[str, int]:
    """Write the data set into the new or empty folder `out`; returns counts of videos, tracks and frames.

    seconds: mean length of a video.  face_file: an ict_facekit.npz; None for the built-in face.
    workers: processes that make videos side by side; what they make does not depend on it.
    rate_hz: frames a second of every video; None deals the real set's.
    report: called with frames done and, as far as known, in total.

    Raises InputError if `out` holds something already, or a number or the face file cannot be used.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not an empty folder. Give a new one, or empty it.")
    plans = plan_videos(videos, seconds, seed, rate_hz)
    _face(face_file)  # a file that is no face is refused before anything is written
    out.mkdir(parents=True, exist_ok=True)
    films, done = [], 0
    total = round(sum(plan.seconds * plan.rate_hz for plan in plans))
    for film in _films(plans, face_file, out, workers):
        films.append(film)
        done += int(film.frames["number"].max())
        report(done, max(done, total))
    tested = [film.rows for plan, film in zip(plans, films, strict=True) if plan.split == "test"]
    counts = {track: rows for of_film in tested for track, rows in of_film.items()}
    if counts:
        write_test_files(out / "test_set", counts, np.random.default_rng([seed, 5]))
    truth = out / "truth"
    truth.mkdir()
    frames = pd.concat([film.frames for film in films], ignore_index=True)
    tracks = pd.concat([film.tracks for film in films], ignore_index=True)
    frames.to_parquet(truth / "frames.parquet", index=False)
    tracks.to_parquet(truth / "tracks.parquet", index=False)
    settings = {
        "videos": videos,
        "seed": seed,
        "seconds": seconds,
        "rate_hz": rate_hz,
        "face": "ict" if face_file else "builtin",
    }
    (truth / "settings.json").write_text(json.dumps(settings, indent=2) + "\n", "ascii")
    return {"videos": len(plans), "tracks": len(tracks), "frames": len(frames)}


def _films(plans: list[VideoPlan], face_file: Path | None, out: Path, workers: int) -> Iterator[Film]:
    if workers <= 1:
        yield from map(_make, plans, repeat(face_file), repeat(out))
        return
    # spawn: forking a process whose libraries run threads may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_make, plans, repeat(face_file), repeat(out))


def _make(plan: VideoPlan, face_file: Path | None, out: Path) -> Film:
    return make_film(plan, _face(face_file), out)


@cache
def _face(face_file: Path | None) -> Face:
    return builtin_face() if face_file is None else ict_face(face_file)
