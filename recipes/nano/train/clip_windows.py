"""Cut the training windows of stage 2: clip features with audio, and single faces.

The visual stage is frozen after stage 1, so its features are computed once: each real track clean and in a
few augmented versions (mouth covered throughout, spans occluded or relit).

Inputs: tracks, faces. Returns: a `ClipWindow` a step.
See also: clip_stage.py (losses, steps, development scores).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP
from auscan.model.network import AudioInput, AuscanNetwork
from recipes.nano.data.real_clips import ClipTrack, training_tracks
from recipes.nano.data.real_faces import Faces
from recipes.nano.render.occluders import occlude_track
from recipes.nano.render.rendered_faces import RenderedArrays
from recipes.nano.train.augment import relight
from recipes.nano.train.face_batches import FaceBatches


@dataclass(frozen=True)
class ClipSettings:
    """Settings of stage 2."""

    steps: int = 720
    steps_without_audio: int = 100
    """First steps, in which scan and head train without audio."""
    windows: int = 8
    """Windows of clips in a step."""
    faces: int = 256
    """Single faces in a step."""
    length: int = 128
    """Frames in a window."""
    mouth_covered: float = 0.3
    """Share of windows with audio that use the version with the mouth covered."""
    versions: int = 3
    """Occluded versions of each real track beside the clean one."""
    rendered: float = 0.3
    """Share of the single faces that are rendered."""
    rendered_windows: float = 0.05
    """Share of windows from rendered clips; small, because rendered voices transfer badly to real ones."""
    face_versions: int = 2
    """Augmented versions of each single face."""
    rate: float = 1.2e-4
    """Learning rate of scan and head, initialised from stage 1."""
    visual_rate_factor: float = 0.5
    """Factor on `rate` in the steps with audio."""
    audio_rate: float = 1.5e-3
    """Learning rate of the audio layers, initialised at random."""
    audio_loss: float = 0.5
    """Weight of the auxiliary loss on the audio tokens alone."""
    weight_decay: float = 0.1
    no_audio: float = 0.3
    """Share of windows without audio."""
    other_audio: float = 0.3
    """Share of windows with another clip's audio."""
    average: float = 0.99
    """Decay of the exponential moving average of the weights."""
    correlation_loss: float = 1.5
    """Weight of the correlation loss within a window."""
    log_every: int = 40
    """Steps between two evaluations on the development clips."""
    seed: int = 0


@dataclass(frozen=True)
class CropFeatures:
    """Output of the visual stage for T frames of a track, or for n single faces."""

    embedding: Tensor
    """[T, d]."""
    au_tokens: Tensor
    """[T, A, da]."""


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


@dataclass(frozen=True)
class ClipWindow:
    """A batch of B windows of T frames with audio."""

    features: CropFeatures
    """[B, T, ...]."""
    times_s: Tensor
    """[B, T] seconds."""
    audio: AudioInput
    """Samples in place of tokens; see `encode_audio`."""
    is_own_audio: Tensor
    """[B] bool: the audio is the clip's own."""
    labels: Tensor
    """[B, T, A]: 1 active, 0 inactive, -1 not annotated."""
    soft: Tensor
    """[B, T, A] soft targets, 0 to 1."""


def occlude_mouth(track: ClipTrack, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the crops of a track [T, S, S] with the mouth covered throughout."""
    return occlude_track(track.crops, track.times_s, rng, occluded_share=1, parts=("mouth",)).crops


def augmented_versions(
    track: ClipTrack, versions: int, rng: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    """Yield the clean crops, those with the mouth covered throughout, and some with random spans changed."""
    yield track.crops
    if versions:
        yield occlude_mouth(track, rng)
    for _ in range(versions - 1):
        yield occlude_spans(track, rng)


class ClipWindows:
    """Windows of the training tracks and single faces, as features of the frozen visual stage."""

    def __init__(
        self,
        network: AuscanNetwork,
        tracks: list[ClipTrack],
        rendered_tracks: list[ClipTrack],
        faces: Faces,
        rendered: RenderedArrays | None,
        settings: ClipSettings,
    ) -> None:
        """Encode all versions of the tracks and faces. rendered_tracks: tracks of rendered clips."""
        rng = np.random.default_rng(settings.seed)
        self.settings = settings
        real = training_tracks(tracks)
        self.tracks = real + rendered_tracks
        self.versions = [
            [encode_crops(network, crops, True) for crops in augmented_versions(t, settings.versions, rng)]
            for t in real
        ] + [[encode_crops(network, t.crops, True)] for t in rendered_tracks]
        self.sampling_weights = _sampling_weights(real, rendered_tracks, settings.rendered_windows)
        batches = FaceBatches(faces, settings.faces, settings.seed, rendered, settings.rendered)
        self.faces = [
            (
                encode_crops(network, batch.crops, False),
                torch.from_numpy(batch.labels),
                torch.from_numpy(batch.soft),
            )
            for epoch in range(settings.face_versions)
            for batch in batches.epoch(1000 + epoch)
        ]

    def window(self, step: int) -> ClipWindow:
        """Draw the windows of one step."""
        rng = np.random.default_rng([self.settings.seed, step])
        length, rows = self.settings.length, []
        for pick in rng.choice(len(self.tracks), self.settings.windows, p=self.sampling_weights):
            track = self.tracks[pick]
            features = self._version(pick, step >= self.settings.steps_without_audio, rng)
            start = int(rng.integers(max(1, len(track.times_s) - length + 1)))
            rows.append((track, features, start, self._draw_audio_track(track, rng)))
        span = min(length, min(len(t.times_s) - start for t, _, start, _ in rows))
        part = [slice(start, start + span) for _, _, start, _ in rows]
        features = CropFeatures(
            torch.stack([f.embedding[p] for (_, f, _, _), p in zip(rows, part, strict=True)]),
            torch.stack([f.au_tokens[p] for (_, f, _, _), p in zip(rows, part, strict=True)]),
        )
        times, labels, soft = (
            torch.from_numpy(
                np.stack([getattr(t, name)[p] for (t, _, _, _), p in zip(rows, part, strict=True)])
            )
            for name in ("times_s", "labels", "soft")
        )
        is_own_audio = torch.tensor([source is track for track, _, _, source in rows])
        return ClipWindow(
            features, times, self._audio_input([r[3] for r in rows], times, rng), is_own_audio, labels, soft
        )

    def _version(self, pick: int, has_audio: bool, rng: np.random.Generator) -> CropFeatures:
        """Draw a version of a track; with audio, the one with the mouth covered more often."""
        versions = self.versions[pick]
        if has_audio and len(versions) > 1 and rng.random() < self.settings.mouth_covered:
            return versions[1]
        return versions[rng.integers(len(versions))]

    def _draw_audio_track(self, track: ClipTrack, rng: np.random.Generator) -> ClipTrack | None:
        """Draw the source of a window's audio: its own clip, none, or another clip."""
        chance = rng.random()
        if chance < self.settings.no_audio:
            return None
        if chance < self.settings.no_audio + self.settings.other_audio:
            return self.tracks[rng.integers(len(self.tracks))]
        return track

    def _audio_input(
        self, sources: list[ClipTrack | None], times_s: Tensor, rng: np.random.Generator
    ) -> AudioInput:
        """Cut the waveforms around each window, as AudioInput with samples in place of tokens."""
        count = int((times_s[:, -1] - times_s[:, 0]).max() * SAMPLE_RATE_HZ / TOKEN_HOP) + 100
        waveforms = torch.zeros(len(sources), count * TOKEN_HOP)
        valid = torch.zeros(len(sources), count, dtype=torch.bool)
        token_s = torch.zeros(len(sources), count, dtype=torch.float64)
        for row, track in enumerate(sources):
            token = 0 if track is None else int((float(times_s[row, 0]) - track.sound_start_s - 1.0) * 50)
            token = max(0, token)
            start_s = 0.0 if track is None else track.sound_start_s
            token_s[row] = start_s + token / 50 + token_offsets_s(count)
            if track is None:
                continue
            samples = track.sound[token * TOKEN_HOP : (token + count) * TOKEN_HOP]
            if len(samples):
                waveforms[row, : len(samples)] = torch.from_numpy(augment_audio(samples, rng))
            valid[row, : len(samples) // TOKEN_HOP] = True
        return AudioInput(waveforms, token_s, valid)


def augment_audio(samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Augment samples [m] by spectral tilt, gain and noise."""
    tilt, gain = rng.uniform(-0.6, 0.6), 10 ** rng.uniform(-0.5, 0.5)
    out = gain * (samples - tilt * np.concatenate([samples[:1], samples[:-1]]))
    if rng.random() < 0.5:
        level = out.std() * 10 ** -rng.uniform(0.3, 1.5)  # 6 to 30 dB below
        out = out + level * rng.normal(size=len(out))
    return out.astype(np.float32)


def _sampling_weights(
    real: list[ClipTrack], rendered_tracks: list[ClipTrack], share: float
) -> NDArray[np.float64]:
    """Return the probability of drawing each track.

    It is proportional to the square root of its length; rendered tracks together have `share`.
    """
    weights = [np.sqrt([len(t.times_s) for t in tracks]) for tracks in (real, rendered_tracks)]
    parts = [part * w / max(w.sum(), 1) for part, w in zip((1 - share, share), weights, strict=True)]
    sampling_weights = np.concatenate(parts)
    return np.asarray(sampling_weights / sampling_weights.sum())


def token_offsets_s(count: int) -> Tensor:
    """Return the centres of `count` tokens after the first sample: [Ta] float64, seconds."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) * (TOKEN_HOP / SAMPLE_RATE_HZ)


def encode_audio(network: AuscanNetwork, audio: AudioInput) -> AudioInput:
    """Encode samples [B, Ta * 320] into tokens [B, Ta, Da]."""
    return AudioInput(network.audio(audio.tokens), audio.times_s, audio.valid)
