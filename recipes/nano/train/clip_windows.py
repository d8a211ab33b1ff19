"""Cut the training windows of stage 2: clip features with audio, and single faces.

Visual stage and audio encoder are frozen, so their features are computed once and cached: each real track
clean and in a few occluded versions (mouth covered throughout, spans occluded or relit), its sound as
recorded and with changed tone, level and noise.

Inputs: tracks, faces. Returns: a `ClipWindow` a step.
See also: clip_stage.py (losses, steps, development scores).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP
from auscan.model.network import AudioInput, AuscanNetwork
from recipes.nano.data.real_clips import ClipTrack
from recipes.nano.data.real_faces import Faces
from recipes.nano.render.occluders import occlude_track
from recipes.nano.render.rendered_faces import RenderedArrays
from recipes.nano.train.augment import relight
from recipes.nano.train.face_batches import FaceBatches

LONG_FRAMES = 60
"""Tracks from this length on are long; windows of long and of short tracks are not mixed."""


@dataclass(frozen=True)
class ClipSettings:
    """Settings of stage 2."""

    steps: int = 900
    steps_without_audio: int = 200
    """First steps, in which scan and heads train without audio."""
    windows: int = 8
    """Windows of long tracks in a step; of short ones there are `short_factor` times as many."""
    short_factor: int = 4
    short_share: float = 0.5
    """Share of steps with windows of short tracks."""
    faces: int = 256
    """Single faces in a step."""
    length: int = 128
    """Largest number of frames in a window."""
    mouth_covered: float = 0.4
    """Share of windows with audio that use the version with the mouth covered."""
    versions: int = 2
    """Occluded versions of each real track beside the clean one."""
    sounds: int = 2
    """Changed versions of the sound of each track beside the recorded one."""
    rendered: float = 0.4
    """Share of the single faces that are rendered."""
    rendered_windows: float = 0.05
    """Share of windows from rendered clips; small, because rendered voices transfer badly to real ones."""
    face_batches: int = 120
    """Batches of single faces, each used again and again."""
    rate: float = 3e-4
    """Learning rate of scan and heads."""
    visual_rate_factor: float = 0.3
    """Factor on `rate` in the steps with audio."""
    audio_rate: float = 1e-3
    """Learning rate of the layers that read the sound."""
    weight_decay: float = 0.1
    audio_decay: float = 0.3
    """Weight decay of the layers that read the sound: there are few voices."""
    no_audio: float = 0.3
    """Share of windows without audio."""
    other_audio: float = 0.1
    """Share of windows with another person's audio. With more of it, a network learns to ignore sound."""
    covered_weight: float = 6.0
    """Weight of AU25 and AU26 in frames with own sound and a covered mouth."""
    average: float = 0.99
    """Decay of the exponential moving average of the weights."""
    correlation_loss: float = 1.5
    """Weight of the correlation loss within a window."""
    log_every: int = 50
    """Steps between two evaluations on the development clips."""
    seed: int = 0


@dataclass(frozen=True)
class CropFeatures:
    """Output of the visual stage for T frames of a track, or for n single faces."""

    embedding: Tensor
    """[T, d]."""
    au_tokens: Tensor
    """[T, A, da]."""

    def part(self, rows: slice) -> "CropFeatures":
        """Return some frames."""
        return CropFeatures(self.embedding[rows], self.au_tokens[rows])


@dataclass(frozen=True)
class EncodedTrack:
    """A track with its features."""

    track: ClipTrack
    versions: list[CropFeatures]
    """Clean; then, for real tracks, mouth covered throughout and others with occluded spans."""
    sounds: list[Tensor]
    """Audio tokens [Ta, Da] of the recorded and of changed sounds."""


@torch.no_grad()
def encode_crops(network: AuscanNetwork, crops: NDArray[np.uint8], in_order: bool) -> CropFeatures:
    """Run the visual stage on grey crops [T, 112, 112]. in_order: consecutive frames of a track."""
    embeddings, au_tokens, previous = [], [], None
    for start in range(0, len(crops), 64):
        part = torch.from_numpy(crops[start : start + 64])[..., None].expand(-1, -1, -1, 3)
        output = network.visual(part[None] if in_order else part[:, None], previous)
        previous = output.last_patches if in_order else None
        embeddings.append(output.aligned.embedding.flatten(0, 1))
        au_tokens.append(output.aligned.au_tokens.flatten(0, 1))
    return CropFeatures(torch.cat(embeddings), torch.cat(au_tokens))


@torch.no_grad()
def encode_sound(network: AuscanNetwork, samples: NDArray[np.float32]) -> Tensor:
    """Encode samples [M] at 16 kHz as audio tokens [Ta, Da]."""
    if len(samples) < TOKEN_HOP:
        return torch.zeros(0, network.audio_mix.width)
    return network.encode_audio(torch.from_numpy(samples)[None])[0]


def occlude_mouth(track: ClipTrack, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the crops of a track [T, S, S] with the mouth covered throughout."""
    return occlude_track(track.crops, track.times_s, rng, occluded_share=1, parts=("mouth",)).crops


def occlude_spans(track: ClipTrack, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the crops of a track [T, S, S] with occluders and other lighting for spans of time."""
    out = occlude_track(track.crops, track.times_s, rng, occluded_share=rng.uniform(0.3, 0.7)).crops
    start = 0
    while start < len(out):
        length, seed = int(rng.integers(12, 90)), int(rng.integers(2**32))
        if rng.random() < 0.2:
            for i in range(start, min(start + length, len(out))):
                same = np.random.default_rng(seed)  # one lighting for the whole span
                out[i] = relight(out[i].astype(np.float32), same).clip(0, 255).astype(np.uint8)
        start += length
    return out


def augmented_versions(
    track: ClipTrack, versions: int, rng: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    """Yield the clean crops, those with the mouth covered throughout, and some with random spans changed."""
    yield track.crops
    if versions:
        yield occlude_mouth(track, rng)
    for _ in range(versions - 1):
        yield occlude_spans(track, rng)


def augment_audio(samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Augment samples [m] by spectral tilt, gain and noise."""
    tilt, gain = rng.uniform(-0.6, 0.6), 10 ** rng.uniform(-0.5, 0.5)
    out = gain * (samples - tilt * np.concatenate([samples[:1], samples[:-1]]))
    if rng.random() < 0.5:
        level = out.std() * 10 ** -rng.uniform(0.3, 1.5)  # 6 to 30 dB below
        out = out + level * rng.normal(size=len(out))
    return out.astype(np.float32)


def encode_tracks(
    network: AuscanNetwork, tracks: list[ClipTrack], versions: int, settings: ClipSettings, cache: Path
) -> list[EncodedTrack]:
    """Encode tracks, or read their features from `cache` (.pt), which must be of the same network."""
    if not cache.exists():
        rng, stored = np.random.default_rng(settings.seed), []
        for track in tracks:
            seen = [encode_crops(network, crops, True) for crops in augmented_versions(track, versions, rng)]
            changed = [augment_audio(track.sound, rng) for _ in range(settings.sounds)]
            heard = [encode_sound(network, each) for each in (track.sound, *changed)]
            stored.append(([(each.embedding, each.au_tokens) for each in seen], heard))
        torch.save(stored, cache.with_suffix(".part"))
        cache.with_suffix(".part").replace(cache)
    loaded = torch.load(cache, weights_only=True)
    return [
        EncodedTrack(track, [CropFeatures(*each) for each in seen], heard)
        for track, (seen, heard) in zip(tracks, loaded, strict=True)
    ]


@dataclass(frozen=True)
class SingleFaces:
    """Features and targets of n single faces."""

    features: CropFeatures
    labels: Tensor
    """[n, A]: 1 active, 0 inactive, -1 not annotated."""
    soft: Tensor
    """[n, A] soft targets, 0 to 1."""
    intensities: Tensor
    """[n, A] 0 to 5; NaN if unknown."""


def encode_faces(
    network: AuscanNetwork,
    faces: Faces,
    rendered: RenderedArrays | None,
    settings: ClipSettings,
    cache: Path,
) -> list[SingleFaces]:
    """Encode batches of augmented single faces, or read them from `cache` (.pt)."""
    if not cache.exists():
        stored = []
        batches = FaceBatches(faces, settings.faces, settings.seed, rendered, settings.rendered)
        epoch = 1000  # other crops than in stage 1
        while len(stored) < settings.face_batches:
            for batch in batches.epoch(epoch):
                features = encode_crops(network, batch.crops, False)
                targets = (torch.from_numpy(each) for each in (batch.labels, batch.soft, batch.intensities))
                stored.append((features.embedding, features.au_tokens, *targets))
                if len(stored) == settings.face_batches:
                    break
            epoch += 1
        torch.save(stored, cache.with_suffix(".part"))
        cache.with_suffix(".part").replace(cache)
    return [
        SingleFaces(CropFeatures(embedding, au_tokens), *targets)
        for embedding, au_tokens, *targets in torch.load(cache, weights_only=True)
    ]


@dataclass(frozen=True)
class ClipWindow:
    """A batch of B windows of T frames with audio."""

    features: CropFeatures
    """[B, T, ...]."""
    times_s: Tensor
    """[B, T] seconds."""
    audio: AudioInput
    is_own_audio: Tensor
    """[B] bool: the audio is the clip's own."""
    is_covered: Tensor
    """[B] bool: the mouth is covered throughout."""
    labels: Tensor
    """[B, T, A]: 1 active, 0 inactive, -1 not annotated."""
    soft: Tensor
    """[B, T, A] soft targets, 0 to 1."""
    intensities: Tensor
    """[B, T, A] 0 to 5; NaN if unknown."""


@dataclass(frozen=True)
class _Row:
    """One window of a batch before it is cut."""

    encoded: EncodedTrack
    version: int
    start: int
    source: EncodedTrack | None
    """Track whose audio is heard."""


class ClipWindows:
    """Windows of the training tracks."""

    def __init__(
        self, real: list[EncodedTrack], rendered: list[EncodedTrack], settings: ClipSettings
    ) -> None:
        self.settings = settings
        self.tracks = real + rendered
        weights = _sampling_weights(real, rendered, settings.rendered_windows)
        is_long = np.array([len(each.track.times_s) >= LONG_FRAMES for each in self.tracks])
        self.pools = [
            (np.flatnonzero(of_pool), weights[of_pool] / weights[of_pool].sum())
            for of_pool in (is_long, ~is_long)
            if of_pool.any()
        ]
        """Long tracks, short tracks: their numbers and the probability of drawing each."""

    def window(self, step: int, with_audio: bool) -> ClipWindow:
        """Draw the windows of one step."""
        settings, rng = self.settings, np.random.default_rng([self.settings.seed, step])
        is_short = len(self.pools) == 2 and rng.random() < settings.short_share
        numbers, weights = self.pools[is_short]
        count = settings.windows * (settings.short_factor if is_short else 1)
        rows = [
            self._draw(self.tracks[pick], with_audio, rng) for pick in rng.choice(numbers, count, p=weights)
        ]
        span = min(settings.length, *(len(row.encoded.track.times_s) - row.start for row in rows))
        parts = [slice(row.start, row.start + span) for row in rows]
        seen = [row.encoded.versions[row.version].part(p) for row, p in zip(rows, parts, strict=True)]
        times_s, labels, soft, intensities = (
            torch.from_numpy(
                np.stack([getattr(row.encoded.track, name)[p] for row, p in zip(rows, parts, strict=True)])
            )
            for name in ("times_s", "labels", "soft", "intensities")
        )
        return ClipWindow(
            features=CropFeatures(
                torch.stack([each.embedding for each in seen]), torch.stack([each.au_tokens for each in seen])
            ),
            times_s=times_s,
            audio=self._audio(rows, times_s, rng),
            is_own_audio=torch.tensor([row.source is row.encoded for row in rows]),
            is_covered=torch.tensor([row.version == 1 for row in rows]),
            labels=labels,
            soft=soft,
            intensities=intensities,
        )

    def _draw(self, encoded: EncodedTrack, with_audio: bool, rng: np.random.Generator) -> _Row:
        """Draw version, start and source of the audio of a window."""
        version = int(rng.integers(len(encoded.versions)))
        if with_audio and len(encoded.versions) > 1 and rng.random() < self.settings.mouth_covered:
            version = 1
        start = int(rng.integers(max(1, len(encoded.track.times_s) - self.settings.length + 1)))
        return _Row(encoded, version, start, self._draw_source(encoded, rng))

    def _draw_source(self, encoded: EncodedTrack, rng: np.random.Generator) -> EncodedTrack | None:
        """Draw the source of a window's audio: its own clip, none, or another person's clip."""
        chance = rng.random() - self.settings.no_audio
        if chance < 0:
            return None
        if chance < self.settings.other_audio:
            other = self.tracks[rng.integers(len(self.tracks))]
            return None if other.track.person == encoded.track.person else other
        return encoded

    def _audio(self, rows: list[_Row], times_s: Tensor, rng: np.random.Generator) -> AudioInput:
        """Cut the tokens from 1 s before to 1 s after each window; another's sound starts with the window."""
        width = self.tracks[0].sounds[0].shape[1]
        count = int((times_s[:, -1] - times_s[:, 0]).max() * SAMPLE_RATE_HZ / TOKEN_HOP) + 100
        tokens = torch.zeros(len(rows), count, width)
        valid = torch.zeros(len(rows), count, dtype=torch.bool)
        token_s = torch.zeros(len(rows), count, dtype=torch.float64)
        for i, row in enumerate(rows):
            if row.source is None:
                continue
            heard = row.source.sounds[rng.integers(len(row.source.sounds))]
            start_s = row.source.track.sound_start_s
            if row.source is not row.encoded:
                start_s += float(times_s[i, 0] - row.source.track.times_s[0])
            first = max(0, int((float(times_s[i, 0]) - start_s - 1.0) * SAMPLE_RATE_HZ / TOKEN_HOP))
            cut = heard[first : first + count]
            tokens[i, : len(cut)], valid[i, : len(cut)] = cut, True
            token_s[i] = start_s + first * TOKEN_HOP / SAMPLE_RATE_HZ + token_offsets_s(count)
        return AudioInput(tokens, token_s, valid)


def _sampling_weights(
    real: list[EncodedTrack], rendered: list[EncodedTrack], share: float
) -> NDArray[np.float64]:
    """Return the probability of drawing each track.

    People are drawn by the square root of their frames, a person's tracks by their lengths; rendered tracks
    together have `share`.
    """
    parts = []
    for tracks, part in ((real, 1 - share), (rendered, share)):
        lengths = np.array([len(each.track.times_s) for each in tracks], np.float64)
        people = np.array([each.track.person for each in tracks])
        of_person = np.array([lengths[people == person].sum() for person in people])
        weights = lengths * of_person**-0.5
        parts.append(part * weights / max(weights.sum(), 1e-9))
    sampling_weights = np.concatenate(parts)
    return np.asarray(sampling_weights / sampling_weights.sum())


def token_offsets_s(count: int) -> Tensor:
    """Return the centres of `count` tokens after the first sample: [Ta] float64, seconds."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) * (TOKEN_HOP / SAMPLE_RATE_HZ)
