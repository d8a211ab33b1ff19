"""The features of a data set, made as results are: a video at a time, in this process or on a Ray cluster.

The tracks of a video, its persons, are one job, wherever it is done: so who does it makes no difference to
what is written. A track that is there for the same rows, by the same encoders, is left as it is.

    CACHE/<track>/           its features (datasets/cache.py); each takes its name by one rename
    CACHE/manifest.jsonl     a line a video

In: an index and encoders.  Out: features, and a record a video.
Not here: the features themselves (datasets/features.py), the loop and its runners (run.py, ray_runner.py).
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from auscan.batch.jobs import Job, Progress, attempt, make_record
from auscan.batch.options import RunMetadata
from auscan.batch.output_folder import sync_folder
from auscan.batch.plan import UNSHARDED
from auscan.batch.ray_runner import RayRunner, connect, worker_resources
from auscan.batch.run import InProcessRunner, ProgressListener, Runner, run
from auscan.core.environment import versions
from auscan.core.errors import InputError
from auscan.datasets.cache import CacheSize, read_header, track_folder
from auscan.datasets.features import (
    Encoders,
    Extractor,
    TrackRows,
    count_images,
    expected_header,
    read_tracks,
    use_threads,
)
from auscan.datasets.index import Index
from auscan.results.manifest import ManifestRecord
from auscan.training.find_encoders import find_encoders


@dataclass(frozen=True, kw_only=True)
class VideoJob(Job):
    """The tracks of one video that are to be done."""

    tracks: Sequence[TrackRows]

    def result_folders(self, staged: Path) -> Sequence[Path]:
        """The tracks, which bear their own names and not that of the job."""
        return sorted(staged.iterdir())


@dataclass(frozen=True, kw_only=True)
class ExtractRequest:
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


class ExtractWorker:
    """What `auscan extract` does to a video (a `JobFunction`)."""

    def __init__(self, extractor: Extractor, out: Path) -> None:
        """out: the folder of all features"""
        self._extractor, self._out = extractor, out
        device = str(extractor.encoders.device)
        self._metadata = extract_metadata(extractor.encoders, extractor.grid, extractor.batch, device)

    def __call__(self, job: Job, folder: Path, progress: Progress) -> ManifestRecord:
        """As `JobFunction` says."""
        assert isinstance(job, VideoJob)
        return attempt(job, self._metadata, self._out, partial(self._extract_video, job, folder, progress))

    def _extract_video(self, job: VideoJob, folder: Path, progress: Progress) -> ManifestRecord:
        unreadable = self._extractor(job.tracks, folder, progress)
        files = {
            f"{track.name}/{name}": size
            for track in job.result_folders(folder)
            for name, size in sync_folder(track).items()
        }
        return replace(
            make_record(job, self._metadata, "done"),
            rows=sum(len(track.images) for track in job.tracks),
            warnings=[f"not readable, counts as missing: {image}" for image in unreadable],
            folder=".",
            files=files,
        )


def extract_metadata(encoders: Encoders, grid: int, batch: int, device: str) -> RunMetadata:
    """What all records of a run have in common: a checkpoint is known by the digest of its encoders."""
    return RunMetadata(
        model=encoders.name,
        model_sha256=encoders.digest,
        config={"grid": grid, "batch": batch, "device": device},
        versions={"python": platform.python_version(), **versions()},
        host=platform.node(),
    )


def load_extract_worker(request: ExtractRequest, out: Path) -> ExtractWorker:
    """What does one video after the other; the encoders load here, in the process that is to use them.

    Raises CheckpointError or InputError where the request cannot be met.
    """
    if request.threads is not None:
        use_threads(request.threads)
    encoders = find_encoders(request.model, request.visual, request.audio, request.device)
    return ExtractWorker(Extractor(request.root, encoders, request.grid, request.batch), out)


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
        self.pending = [track for track in self.tracks if not self._is_extracted(track)]
        self.jobs = self._jobs()

    def cache_size(self, tracks: Sequence[TrackRows]) -> CacheSize:
        """Room on disk for some tracks."""
        return CacheSize(
            frames=sum(len(track.images) for track in tracks),
            sound_s=sum(track.length_s for track in tracks if track.video),
            width=self.encoders.width,
            grid=self.grid,
            audio_width=self.encoders.audio_width,
        )

    def run_here(self, batch: int = 64, progress: Progress | None = None) -> list[ManifestRecord]:
        """Do all that is left in this process, `batch` pictures at a time; what became of each video.

        progress: is called with pictures done and pictures in all
        """
        extractor = Extractor(self.index.root, self.encoders, self.grid, batch)
        return self.run(InProcessRunner(ExtractWorker(extractor, self.out), self.listener(progress)))

    def run(self, runner: Runner) -> list[ManifestRecord]:
        """Let a runner do all that is left; what became of each video that was begun."""
        return [record for _, record in run(self.jobs, self.out, UNSHARDED.manifest, runner)]

    def listener(self, progress: Progress | None = None) -> "ImageProgress":
        """Who is to be told of the jobs; tells `progress` of pictures done and pictures in all."""
        return ImageProgress(count_images(self.pending), progress)

    def _is_extracted(self, track: TrackRows) -> bool:
        header = read_header(track_folder(self.out, track.name))
        return header is not None and header.matches(expected_header(track, self.encoders, self.grid))

    def _jobs(self) -> list[VideoJob]:
        videos: dict[str, list[TrackRows]] = {}
        for track in self.pending:
            videos.setdefault(track.source, []).append(track)
        return [
            VideoJob(path=self._source_path(tracks), key=source, name=f"video{number}", tracks=tracks)
            for number, (source, tracks) in enumerate(videos.items())
        ]

    def _source_path(self, tracks: Sequence[TrackRows]) -> Path:
        """What a video is known by to a reader: the file, without sound the folder of its first picture."""
        for track in tracks:
            if track.video is not None:
                return self.index.root / track.video
        images = (image for track in tracks for image in track.images if image is not None)
        return self.index.root / Path(next(images, "")).parent


def make_ray_runner(
    request: ExtractRequest,
    extraction: Extraction,
    address: str,
    gpus: float | None,
    listener: ProgressListener,
) -> RayRunner:
    """The runner on a cluster; connects to it.

    address: 'auto', 'local', or where a cluster is
    gpus: of each worker, also a part of one; None: 1 where the device is a GPU
    Raises InputError where there is no cluster.
    """
    request = replace(request, threads=request.threads or 1)
    resources = worker_resources(request.threads or 1, request.device, gpus)
    metadata = extract_metadata(extraction.encoders, request.grid, request.batch, request.device)
    return RayRunner(
        connect(address), partial(load_extract_worker, request, extraction.out), metadata, listener, resources
    )


class ImageProgress:
    """Counts the pictures of all jobs (a `ProgressListener`)."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._done = 0

    def started(self, job: Job) -> None:
        """Nothing to say."""

    def progressed(self, job: Job, done: int, total: int | None) -> None:
        """So many of a job."""
        if self._progress is not None:
            self._progress(self._done + done, self._total)

    def finished(self, job: Job) -> None:
        """All of a job."""
        assert isinstance(job, VideoJob)
        self._done += count_images(job.tracks)
        self.progressed(job, 0, None)

    def stopping(self, running: int) -> None:
        """Nothing to say."""
