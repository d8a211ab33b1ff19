"""The features of a data set, made as results are: a video at a time, in this process or on a Ray cluster.

The tracks of a video, its persons, are one job, wherever it is done: so who does it makes no difference to
what is written. A track that is there for the same rows, by the same encoders, is left as it is.

    CACHE/<track>/           its features (datasets/cache.py); each takes its name by one rename
    CACHE/manifest.jsonl     a line a video

In: an index and encoders.  Out: features, and an entry a video.
Not here: the features themselves (datasets/features.py), the loop and its runners (run.py, on_ray.py).
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from auscan.batch.jobs import Job, Progress, attempt, entry_of
from auscan.batch.options import About
from auscan.batch.output_folder import sync
from auscan.batch.plan import ALL
from auscan.batch.ray_runner import OnRay, connect, needs_of
from auscan.batch.run import Here, Runner, Watcher, run
from auscan.core.environment import versions
from auscan.core.errors import InputError
from auscan.datasets.cache import CacheSize, read_header, track_folder
from auscan.datasets.features import (
    Encoders,
    Extractor,
    TrackRows,
    count_images,
    header_of,
    read_tracks,
    use_threads,
)
from auscan.datasets.index import Index
from auscan.results.manifest import Entry
from auscan.training.find_encoders import find_encoders


@dataclass(frozen=True, kw_only=True)
class VideoJob(Job):
    """The tracks of one video that are to be done."""

    tracks: Sequence[TrackRows]

    def finished(self, made: Path) -> Sequence[Path]:
        """The tracks, which bear their own names and not that of the job."""
        return sorted(made.iterdir())


@dataclass(frozen=True, kw_only=True)
class FeatureRequest:
    """Which features to make, as plain values that can be sent to another process."""

    root: Path
    """The data set's folder."""
    model: str
    visual: str | None
    audio: str | None
    """As for `find_encoders`."""
    device: str
    threads: int | None
    """Of each process."""
    grid: int
    """Patches along one side after averaging."""
    batch: int
    """Pictures at a time."""


class Extracting:
    """What `auscan extract` does to a video (a `Work`)."""

    def __init__(self, extract: Extractor, out: Path) -> None:
        """out: the folder of all features"""
        self._extract, self._out = extract, out
        device = str(extract.encoders.device)
        self._about = about_features(extract.encoders, extract.grid, extract.batch, device)

    def __call__(self, job: Job, folder: Path, progress: Progress) -> Entry:
        """As `Work` says."""
        assert isinstance(job, VideoJob)
        return attempt(job, self._about, self._out, partial(self._do, job, folder, progress))

    def _do(self, job: VideoJob, folder: Path, progress: Progress) -> Entry:
        unreadable = self._extract(job.tracks, folder, progress)
        files = {
            f"{track.name}/{name}": size
            for track in job.finished(folder)
            for name, size in sync(track).items()
        }
        return replace(
            entry_of(job, self._about, "done"),
            rows=sum(len(track.images) for track in job.tracks),
            warnings=[f"not readable, counts as missing: {image}" for image in unreadable],
            folder=".",
            files=files,
        )


def about_features(encoders: Encoders, grid: int, batch: int, device: str) -> About:
    """What all entries of a run have in common: a checkpoint is known by the digest of its encoders."""
    return About(
        model=encoders.name,
        model_sha256=encoders.digest,
        config={"grid": grid, "batch": batch, "device": device},
        versions={"python": platform.python_version(), **versions()},
        host=platform.node(),
    )


def load_extracting(request: FeatureRequest, out: Path) -> Extracting:
    """What does one video after the other; the encoders load here, in the process that is to use them.

    Raises CheckpointError or InputError where the request cannot be met.
    """
    if request.threads is not None:
        use_threads(request.threads)
    encoders = find_encoders(request.model, request.visual, request.audio, request.device)
    return Extracting(Extractor(request.root, encoders, request.grid, request.batch), out)


class Extraction:
    """The work that is left to do, and how large its result will be."""

    def __init__(self, index: Index, encoders: Encoders, out: Path, grid: int | None = 4) -> None:
        """grid: patches along one side after averaging; None keeps all.

        Raises InputError for a grid finer than the encoder's.
        """
        self.index, self.encoders, self.out = index, encoders, out
        self.grid = encoders.grid if grid is None else grid
        if not 1 <= self.grid <= encoders.grid:
            raise InputError(
                f"A grid of {self.grid} is not to be had: {encoders.name} gives {encoders.grid} patches a "
                f"side. Ask for 1 to {encoders.grid}."
            )
        self.tracks = list(read_tracks(index))
        self.todo = [track for track in self.tracks if not self._is_done(track)]
        self.jobs = self._jobs()

    def size(self, tracks: Sequence[TrackRows]) -> CacheSize:
        """Room on disk for some tracks."""
        return CacheSize(
            frames=sum(len(track.images) for track in tracks),
            sound_s=sum(track.length_s for track in tracks if track.video),
            width=self.encoders.width,
            grid=self.grid,
            audio_width=self.encoders.audio_width,
        )

    def run_here(self, batch: int = 64, progress: Progress | None = None) -> list[Entry]:
        """Do all that is left in this process, `batch` pictures at a time; what became of each video.

        progress: is called with pictures done and pictures in all
        """
        extract = Extractor(self.index.root, self.encoders, self.grid, batch)
        return self.run(Here(Extracting(extract, self.out), self.watcher(progress)))

    def run(self, runner: Runner) -> list[Entry]:
        """Let a runner do all that is left; what became of each video that was begun."""
        return [entry for _, entry in run(self.jobs, self.out, ALL.manifest, runner)]

    def watcher(self, progress: Progress | None = None) -> "Pictures":
        """Who is to be told of the jobs; tells `progress` of pictures done and pictures in all."""
        return Pictures(count_images(self.todo), progress)

    def _is_done(self, track: TrackRows) -> bool:
        header = read_header(track_folder(self.out, track.name))
        return header is not None and header.same_work(header_of(track, self.encoders, self.grid))

    def _jobs(self) -> list[VideoJob]:
        videos: dict[str, list[TrackRows]] = {}
        for track in self.todo:
            videos.setdefault(track.source, []).append(track)
        return [
            VideoJob(path=self._path(tracks), key=source, name=f"video{number}", tracks=tracks)
            for number, (source, tracks) in enumerate(videos.items())
        ]

    def _path(self, tracks: Sequence[TrackRows]) -> Path:
        """What a video is known by to a reader: the file, without sound the folder of its first picture."""
        for track in tracks:
            if track.video is not None:
                return self.index.root / track.video
        images = (image for track in tracks for image in track.images if image is not None)
        return self.index.root / Path(next(images, "")).parent


def choose_cluster(
    request: FeatureRequest, work: Extraction, address: str, gpus: float | None, watcher: Watcher
) -> OnRay:
    """The runner on a cluster; connects to it.

    address: 'auto', 'local', or where a cluster is
    gpus: of each worker, also a part of one; None: 1 where the device is a GPU
    Raises InputError where there is no cluster.
    """
    request = replace(request, threads=request.threads or 1)
    needs = needs_of(request.threads or 1, request.device, gpus)
    about = about_features(work.encoders, request.grid, request.batch, request.device)
    return OnRay(connect(address), partial(load_extracting, request, work.out), about, watcher, needs)


class Pictures:
    """Counts the pictures of all jobs (a `Watcher`)."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._done = 0

    def begun(self, job: Job) -> None:
        """Nothing to say."""

    def step(self, job: Job, done: int, total: int | None) -> None:
        """So many of a job."""
        if self._progress is not None:
            self._progress(self._done + done, self._total)

    def ended(self, job: Job) -> None:
        """All of a job."""
        assert isinstance(job, VideoJob)
        self._done += count_images(job.tracks)
        self.step(job, 0, None)

    def stopping(self, running: int) -> None:
        """Nothing to say."""
