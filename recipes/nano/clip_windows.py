"""What stage 2 learns from: windows of clips as features, with what is heard at them, and single faces.

The visual stage stays as stage 1 left it, so its features are computed once: each real track clean and in a
few spoilt versions (the mouth covered throughout, a hand that passes, dim stretches), because a face that
hides for a while is what sound and memory exist for.

In: tracks, faces.  Out: a `Window` a step.
Not here: losses and steps (train_clips.py), the tracks that are kept to choose by (clip_scores.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from augment import relight
from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP
from auscan.model.network import AuscanNetwork, Sound
from clip_data import ClipTrack, training_tracks
from cover_clips import cover_track
from face_data import FaceBatches, Faces
from pack_faces import Rendered


@dataclass(frozen=True)
class ClipSettings:
    """Settings of stage 2."""

    steps: int = 720
    without_sound: int = 100
    """The first of them, in which memory and head learn, and nothing is heard."""
    windows: int = 8
    """Windows of clips in a step."""
    faces: int = 256
    """Single faces in a step."""
    length: int = 128
    """Frames of a window."""
    mute: float = 0.3
    """Share of windows with sound that have the mouth covered, beside those whose version happens to."""
    versions: int = 3
    """Covered versions of each real track beside the clean one."""
    rendered: float = 0.3
    """Share of the single faces that are rendered."""
    rendered_windows: float = 0.05
    """Share of the windows from rendered clips: their voices say little of real ones."""
    face_versions: int = 2
    """Cuts of each single face."""
    rate: float = 1.2e-4
    """Of memory and head, which begin with what single faces taught the head."""
    keep_up: float = 0.5
    """Share of it with which they go on when the sound comes."""
    listening_rate: float = 1.5e-3
    """Of all that hears, which begins with nothing."""
    voice: float = 0.5
    """Weight of the loss on what the voice alone tells."""
    weight_decay: float = 0.1
    no_sound: float = 0.3
    """Share of windows that lose their sound."""
    other_sound: float = 0.3
    """Share of windows that hear another clip."""
    average: float = 0.99
    shape: float = 1.5
    """Weight of the loss on how each AU rises and falls within a window."""
    every: int = 40
    """Steps between two looks at the development data."""
    seed: int = 0


@dataclass(frozen=True)
class Features:
    """What the visual stage makes of T crops of one track or of n single faces."""

    embedding: Tensor
    """[T, d]."""
    au_tokens: Tensor
    """[T, A, da]."""


@torch.no_grad()
def features_of(network: AuscanNetwork, crops: NDArray[np.uint8], in_order: bool) -> Features:
    """Grey crops [T, 112, 112] -> features. in_order: they follow each other, so patches can change."""
    embeddings, au_tokens, previous = [], [], None
    for start in range(0, len(crops), 64):
        part = torch.from_numpy(crops[start : start + 64])[..., None].expand(-1, -1, -1, 3)
        looked = network.visual(part[None] if in_order else part[:, None], previous)
        previous = looked.last_patches if in_order else None
        embeddings.append(looked.aligned.embedding.flatten(0, 1))
        au_tokens.append(looked.aligned.au_tokens.flatten(0, 1))
    return Features(torch.cat(embeddings), torch.cat(au_tokens))


def hide_stretches(track: ClipTrack, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The crops of a track [T, S, S] with things before the face and other light for spans of time."""
    out = cover_track(track.crops, track.times_s, rng, busy=rng.uniform(0.3, 0.7)).crops
    here = 0
    while here < len(out):
        length, seed = int(rng.integers(12, 90)), int(rng.integers(2**32))
        if rng.random() < 0.2:
            for i in range(here, min(here + length, len(out))):
                same = np.random.default_rng(seed)  # one light for the whole stretch
                out[i] = relight(out[i].astype(np.float32), same).clip(0, 255).astype(np.uint8)
        here += length
    return out


@dataclass(frozen=True)
class Window:
    """B stretches of T frames, with what is heard at them."""

    features: Features
    """[B, T, ...]."""
    times_s: Tensor
    """[B, T]."""
    sound: Sound
    """Still samples in place of tokens; see `encode`."""
    own: Tensor
    """[B] bool: is it the clip's own sound?"""
    labels: Tensor
    """[B, T, 12], as is the next."""
    soft: Tensor


def cover_mouth(track: ClipTrack, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The crops of a track [T, S, S] with a thing before the mouth from end to end."""
    return cover_track(track.crops, track.times_s, rng, busy=1, parts=("mouth",)).crops


def spoilt_versions(track: ClipTrack, versions: int, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """The crops as they are, with the mouth covered throughout, and with other stretches hidden or dim."""
    yield track.crops
    if versions:
        yield cover_mouth(track, rng)
    for _ in range(versions - 1):
        yield hide_stretches(track, rng)


class ClipWindows:
    """Windows over the training tracks and single faces, all as features."""

    def __init__(
        self,
        network: AuscanNetwork,
        tracks: list[ClipTrack],
        made: list[ClipTrack],
        faces: Faces,
        rendered: Rendered | None,
        settings: ClipSettings,
    ) -> None:
        """made: rendered tracks; things come before these faces already."""
        rng = np.random.default_rng(settings.seed)
        self.settings = settings
        real = training_tracks(tracks)
        self.tracks = real + made
        self.versions = [
            [features_of(network, crops, True) for crops in spoilt_versions(t, settings.versions, rng)]
            for t in real
        ] + [[features_of(network, t.crops, True)] for t in made]
        self.chances = _chances(real, made, settings.rendered_windows)
        cutter = FaceBatches(faces, settings.faces, settings.seed, rendered, settings.rendered)
        self.faces = [
            (features_of(network, cut.crops, False), torch.from_numpy(cut.labels), torch.from_numpy(cut.soft))
            for epoch in range(settings.face_versions)
            for cut in cutter.epoch(1000 + epoch)
        ]

    def window(self, step: int) -> Window:
        """The windows of one step."""
        rng = np.random.default_rng([self.settings.seed, step])
        length, rows = self.settings.length, []
        for pick in rng.choice(len(self.tracks), self.settings.windows, p=self.chances):
            track = self.tracks[pick]
            features = self._version(pick, step >= self.settings.without_sound, rng)
            start = int(rng.integers(max(1, len(track.times_s) - length + 1)))
            rows.append((track, features, start, self._heard(track, rng)))
        span = min(length, min(len(t.times_s) - start for t, _, start, _ in rows))
        part = [slice(start, start + span) for _, _, start, _ in rows]
        features = Features(
            torch.stack([f.embedding[p] for (_, f, _, _), p in zip(rows, part, strict=True)]),
            torch.stack([f.au_tokens[p] for (_, f, _, _), p in zip(rows, part, strict=True)]),
        )
        times, labels, soft = (
            torch.from_numpy(
                np.stack([getattr(t, name)[p] for (t, _, _, _), p in zip(rows, part, strict=True)])
            )
            for name in ("times_s", "labels", "soft")
        )
        own = torch.tensor([heard is track for track, _, _, heard in rows])
        return Window(features, times, self._sound([r[3] for r in rows], times, rng), own, labels, soft)

    def _version(self, pick: int, heard: bool, rng: np.random.Generator) -> Features:
        """One of a track's versions; that with its mouth covered is drawn more often where it is heard."""
        versions = self.versions[pick]
        if heard and len(versions) > 1 and rng.random() < self.settings.mute:
            return versions[1]
        return versions[rng.integers(len(versions))]

    def _heard(self, track: ClipTrack, rng: np.random.Generator) -> ClipTrack | None:
        """Whose sound the window hears: its own, nobody's or another clip's."""
        chance = rng.random()
        if chance < self.settings.no_sound:
            return None
        if chance < self.settings.no_sound + self.settings.other_sound:
            return self.tracks[rng.integers(len(self.tracks))]
        return track

    def _sound(self, heard: list[ClipTrack | None], times_s: Tensor, rng: np.random.Generator) -> Sound:
        """Waveforms around each window, as `Sound` whose tokens are still samples: see `encode`."""
        count = int((times_s[:, -1] - times_s[:, 0]).max() * SAMPLE_RATE_HZ / TOKEN_HOP) + 100
        waves = torch.zeros(len(heard), count * TOKEN_HOP)
        valid = torch.zeros(len(heard), count, dtype=torch.bool)
        token_s = torch.zeros(len(heard), count, dtype=torch.float64)
        for row, track in enumerate(heard):
            token = 0 if track is None else int((float(times_s[row, 0]) - track.sound_start_s - 1.0) * 50)
            token = max(0, token)
            start_s = 0.0 if track is None else track.sound_start_s
            token_s[row] = start_s + token / 50 + token_offsets_s(count)
            if track is None:
                continue
            piece = track.sound[token * TOKEN_HOP : (token + count) * TOKEN_HOP]
            if len(piece):
                waves[row, : len(piece)] = torch.from_numpy(roughen(piece, rng))
            valid[row, : len(piece) // TOKEN_HOP] = True
        return Sound(waves, token_s, valid)


def roughen(piece: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Samples [m] as another microphone in another room might have taken them: duller, louder, noisier.

    There are only some fifteen voices, and each must not be known by its recording.
    """
    tilt, gain = rng.uniform(-0.6, 0.6), 10 ** rng.uniform(-0.5, 0.5)
    out = gain * (piece - tilt * np.concatenate([piece[:1], piece[:-1]]))
    if rng.random() < 0.5:
        level = out.std() * 10 ** -rng.uniform(0.3, 1.5)  # 6 to 30 dB below
        out = out + level * rng.normal(size=len(out))
    return out.astype(np.float32)


def _chances(real: list[ClipTrack], made: list[ClipTrack], share: float) -> NDArray[np.float64]:
    """How likely a window is cut from each track; from the made ones together, `share` if there are both."""
    weights = [np.sqrt([len(t.times_s) for t in tracks]) for tracks in (real, made)]
    parts = [part * w / max(w.sum(), 1) for part, w in zip((1 - share, share), weights, strict=True)]
    chances = np.concatenate(parts)
    return np.asarray(chances / chances.sum())


def token_offsets_s(count: int) -> Tensor:
    """Centres of `count` tokens after the first sample: [Ta] float64, seconds."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) * (TOKEN_HOP / SAMPLE_RATE_HZ)


def encode(network: AuscanNetwork, sound: Sound) -> Sound:
    """Samples [B, Ta * 320] in place of tokens -> tokens [B, Ta, Da]."""
    return Sound(network.audio(sound.tokens), sound.times_s, sound.valid)
