"""Extract the features of a data set, one video per job, in this process or on a Ray cluster.

All tracks of a video (its persons) belong to one job, so results do not depend on the runner. A track whose
features exist for the same rows and encoders is skipped.

    CACHE/<track>/           features of a track (datasets/cache.py), moved into place by one rename
    CACHE/manifest.jsonl     one line per video

Inputs: an index and encoders. Returns: feature folders, and one record per video.
See also: datasets/features.py (the features), run.py and ray_runner.py (loop and runners).
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from auscan.batch.jobs import Job, Progress, RunMetadata, attempt, make_record
from auscan.batch.output_folder import sync_folder
from auscan.batch.plan import UNSHARDED
from auscan.batch.ray_runner import RayRunner, connect, worker_resources
from auscan.batch.run import InProcessRunner, ProgressListener, Runner, run
from auscan.core.config import AlignmentConfig
from auscan.core.environment import versions
from auscan.core.errors import InputError, MediaError
from auscan.datasets.cache import CacheSize, read_header, track_folder
from auscan.datasets.features import (
    CropSource,
    Extractor,
    TrackRows,
    count_images,
    expected_header,
    read_tracks,
)
from auscan.datasets.frozen_encoders import Encoders, Sources, use_threads
from auscan.datasets.index import Index
from auscan.media.discover import read_image
from auscan.results.manifest import ManifestRecord
from auscan.training.find_encoders import find_encoders


@dataclass(frozen=True, kw_only=True)
class VideoJob(Job):
    """Video with tracks to extract."""

    tracks: Sequence[TrackRows]
    """Tracks to extract."""

    def result_folders(self, staged: Path) -> Sequence[Path]:
        """Return the folders of the tracks, which have their own names instead of the job's."""
        return sorted(staged.iterdir())


@dataclass(frozen=True, kw_only=True)
class ExtractRequest:
    """Options of a run of `auscan extract`, as plain values that can be sent to another process."""

    root: Path
    """Folder of the data set."""
    model: str
    """Checkpoint, as for `find_encoders`."""
    visual: Sources
    """Visual encoders, as for `find_encoders`."""
    audio: Sources
    """Audio encoders, as for `find_encoders`."""
    device: str
    """Device of the encoders."""
    threads: int | None
    """Threads of each process; None for the default."""
    grid: int
    """Patches along one side after averaging."""
    batch: int
    """Pictures of a batch."""
    crops: CropSource
    """Source of the crops."""


class ExtractWorker:
    """Job function of `auscan extract` (a `JobFunction`)."""

    def __init__(self, extractor: Extractor, out: Path) -> None:
        """Create the job function.

        out: folder of all features
        """
        self._extractor, self._out = extractor, out
        device = str(extractor.encoders.device)
        self._metadata = extract_metadata(
            extractor.encoders, extractor.grid, extractor.batch, device, extractor.crops
        )

    def __call__(self, job: Job, folder: Path, progress: Progress) -> ManifestRecord:
        """Process one video; see `JobFunction`."""
        assert isinstance(job, VideoJob)
        return attempt(job, self._metadata, self._out, partial(self._extract_video, job, folder, progress))

    def _extract_video(self, job: VideoJob, folder: Path, progress: Progress) -> ManifestRecord:
        warnings = self._extractor(job.tracks, folder, progress)
        files = {
            f"{track.name}/{name}": size
            for track in job.result_folders(folder)
            for name, size in sync_folder(track).items()
        }
        return replace(
            make_record(job, self._metadata, "done"),
            rows=sum(len(track.images) for track in job.tracks),
            warnings=warnings,
            folder=".",
            files=files,
        )


def extract_metadata(
    encoders: Encoders, grid: int, batch: int, device: str, crops: CropSource
) -> RunMetadata:
    """Return the metadata of a run; the digest of the encoders identifies the model."""
    return RunMetadata(
        model=encoders.name,
        model_sha256=encoders.digest,
        config={"grid": grid, "batch": batch, "device": device, "crops": crops},
        versions={"python": platform.python_version(), **versions()},
        host=platform.node(),
    )


def load_extract_worker(request: ExtractRequest, out: Path) -> ExtractWorker:
    """Build the job function; loads the encoders in this process.

    Raises CheckpointError or InputError if the request is impossible.
    """
    if request.threads is not None:
        use_threads(request.threads)
    encoders = find_encoders(request.model, request.visual, request.audio, request.device)
    return ExtractWorker(Extractor(request.root, encoders, request.grid, request.batch, request.crops), out)


DEFAULT_GRID: Final = 8
"""Default number of patches per side after averaging; the encoder's own if that is lower."""


class Extraction:
    """Extraction of the tracks of a data set that are not in the cache yet."""

    def __init__(
        self,
        index: Index,
        encoders: Encoders,
        out: Path,
        grid: int | None = None,
        crops: CropSource | None = None,
    ) -> None:
        """Find the tracks to extract.

        grid: patches along one side after averaging; None for the default
        crops: source of the crops of tracks with a video; None: the video if pictures would be enlarged

        Raises InputError if the grid is finer than the encoder's, or if k >= N: nothing could be selected.
        """
        self.index, self.encoders, self.out = index, encoders, out
        self.grid = min(DEFAULT_GRID, encoders.grid) if grid is None else grid
        count, active = self.grid**2, AlignmentConfig().active_count(self.grid**2)
        if self.grid > encoders.grid:
            raise InputError(
                f"A grid of {self.grid} is not possible: {encoders.name} has {encoders.grid} patches per "
                f"side. Choose 2 to {encoders.grid}."
            )
        if active >= count:
            raise InputError(
                f"A grid of {self.grid} is not possible: a network would keep k = {active} of N = {count} "
                f"patches a frame, so it could select nothing. Choose 2 to {encoders.grid}."
            )
        self.tracks = list(read_tracks(index))
        """All tracks of the index."""
        self.enlarged_from = self._enlarged_from()
        """Side in pixels of the first readable picture if it is smaller than a crop, else None."""
        self.crops: CropSource = crops or ("pictures" if self.enlarged_from is None else "video")
        self.pending = [track for track in self.tracks if not self._is_extracted(track)]
        """Tracks to extract."""
        self.jobs = self._jobs()
        """Jobs for the pending tracks, one per video."""

    def cache_size(self, tracks: Sequence[TrackRows]) -> CacheSize:
        """Estimate the disk space of some tracks."""
        return CacheSize(
            frames=sum(len(track.images) for track in tracks),
            sound_s=sum(track.length_s for track in tracks if track.video),
            width=self.encoders.width,
            grid=self.grid,
            audio_width=self.encoders.audio_width,
        )

    def count_from_pictures(self) -> int:
        """Return the number of tracks whose crops are the data set's pictures."""
        return sum(track.crop_source(self.crops) == "pictures" for track in self.tracks)

    def _enlarged_from(self) -> int | None:
        for image in (image for track in self.tracks for image in track.images if image is not None):
            try:
                side = min(read_image(self.index.root / image).shape[:2])
            except MediaError:
                continue
            return side if side < self.encoders.crop_size else None
        return None

    def run_here(self, batch: int = 64, progress: Progress | None = None) -> list[ManifestRecord]:
        """Extract all pending tracks in this process; return one record per video.

        batch: pictures of a batch
        progress: called with the number of processed pictures and the total number
        """
        extractor = Extractor(self.index.root, self.encoders, self.grid, batch, self.crops)
        return self.run(InProcessRunner(ExtractWorker(extractor, self.out), self.listener(progress)))

    def run(self, runner: Runner) -> list[ManifestRecord]:
        """Extract all pending tracks with a runner; return one record per video that was started."""
        return [record for _, record in run(self.jobs, self.out, UNSHARDED.manifest, runner)]

    def listener(self, progress: Progress | None = None) -> "ImageProgress":
        """Return a listener that calls `progress` with the processed and the total number of pictures."""
        return ImageProgress(count_images(self.pending), progress)

    def _is_extracted(self, track: TrackRows) -> bool:
        header = read_header(track_folder(self.out, track.name))
        return header is not None and header.matches(
            expected_header(track, self.encoders, self.grid, self.crops)
        )

    def _jobs(self) -> list[VideoJob]:
        videos: dict[str, list[TrackRows]] = {}
        for track in self.pending:
            videos.setdefault(track.source, []).append(track)
        return [
            VideoJob(path=self._source_path(tracks), key=source, name=f"video{number}", tracks=tracks)
            for number, (source, tracks) in enumerate(videos.items())
        ]

    def _source_path(self, tracks: Sequence[TrackRows]) -> Path:
        """Return the path of a video in records: its file, or without one the folder of its first picture."""
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
    """Connect to a cluster and return its runner.

    address: 'auto', 'local', or HOST:PORT of a cluster
    gpus: GPUs of each worker, may be a fraction; None: 1 if the device is a GPU

    Raises InputError if there is no cluster, or `gpus` is set for another device.
    """
    request = replace(request, threads=request.threads or 1)
    resources = worker_resources(request.threads or 1, request.device, gpus)
    metadata = extract_metadata(
        extraction.encoders, request.grid, request.batch, request.device, request.crops
    )
    return RayRunner(
        connect(address), partial(load_extract_worker, request, extraction.out), metadata, listener, resources
    )


class ImageProgress:
    """Counter of the processed pictures of all jobs (a `ProgressListener`)."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        """Create a counter; `total` is the number of pictures of all jobs."""
        self._total, self._progress = total, progress
        self._done = 0

    def started(self, job: Job) -> None:
        """Do nothing."""

    def progressed(self, job: Job, done: int, total: int | None) -> None:
        """Report the pictures of all finished jobs and `done` pictures of this one."""
        if self._progress is not None:
            self._progress(self._done + done, self._total)

    def finished(self, job: Job) -> None:
        """Count all pictures of the job."""
        assert isinstance(job, VideoJob)
        self._done += count_images(job.tracks)
        self.progressed(job, 0, None)

    def stopping(self, running: int) -> None:
        """Do nothing."""
