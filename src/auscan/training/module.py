"""Define the trainable network: alignment, fusion, temporal model and head, on features or behind an encoder.

Frames without a face are skipped, as at inference, where a track has no rows for them. The frames with a face
are packed together, each with its own time, so the temporal model sees the length of a gap and audio is
attended to at the right time. Logits of skipped frames are 0 and are not used.

Inputs: batches of features or of crops (windows.py), or one whole track. Returns: `Predictions`, logits.
See also: model/ (the parts), controls.py (their replacements), encoder.py, losses.py.
"""

from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.config import NetworkConfig, Settings, TokenPart
from auscan.core.environment import chunk_slices
from auscan.core.errors import InputError
from auscan.datasets.cache import CacheHeader, TrackFeatures
from auscan.datasets.crops import TrackCrops
from auscan.model.alignment import AlignmentOutput, GranularityAlignment
from auscan.model.fusion import audio_at_frames
from auscan.model.head import to_intensity
from auscan.model.mamba import BiMamba
from auscan.model.network import AudioInput, HeadOutput
from auscan.model.token_mix import TokenMix
from auscan.training.config import ControlConfig, ModelConfig
from auscan.training.controls import ControlledTemporalStage, build_alignment
from auscan.training.encoder import CropEncoder
from auscan.training.losses import Predictions, Views
from auscan.training.windows import Batch

PADDING_S = 1e9
"""Time of padded frames, in seconds: out of reach of all audio."""
CHUNK_FRAMES = 512
"""Frames of a whole track that alignment encodes in one call; does not change results."""
CHUNK_TOKENS = 4096
"""Audio tokens of a whole track that are mixed in one call; does not change results."""


class FeatureSizes(Settings):
    """Sizes of the cached features."""

    width: int
    """Dv."""
    grid: int
    """Patches along one side of the grid."""
    audio_width: int
    """Da."""
    visual_parts: tuple[TokenPart, ...] = ()
    """Parts of a visual token; see datasets/cache.py."""
    audio_parts: tuple[TokenPart, ...] = ()
    """Parts of an audio token."""

    @classmethod
    def from_header(cls, header: CacheHeader) -> "FeatureSizes":
        """Return the sizes of a track's features."""
        return cls(
            width=header.width,
            grid=header.grid,
            audio_width=header.audio_width,
            visual_parts=header.visual_parts,
            audio_parts=header.audio_parts,
        )


class Frames(NamedTuple):
    """L frames with a face of each of B windows, packed."""

    order: Tensor
    """Positions of the frames in their window [B, L] int64."""
    times_s: Tensor
    """Times [B, L] float64; `PADDING_S` for padding."""
    valid: Tensor
    """[B, L] bool, False for padding."""


@dataclass(frozen=True, eq=False)
class TrackPrediction:
    """Predictions for all frames of a track."""

    probabilities: NDArray[np.float32]
    """[T, A]; NaN for frames without a crop."""
    intensities: NDArray[np.float32] | None
    """[T, A] 0 to 5, NaN likewise; None for a network without intensities."""

    @classmethod
    def unknown(cls, frames: int, network: "FeatureNetwork") -> "TrackPrediction":
        """Return the prediction of a track of which nothing is known yet."""
        shape = frames, len(network.au_names)
        intensities = np.full(shape, np.nan, np.float32) if network.has_intensities else None
        return cls(np.full(shape, np.nan, np.float32), intensities)

    def fill(
        self, rows: NDArray[np.integer] | slice, logits: Tensor, intensity_logits: Tensor | None
    ) -> None:
        """Set some rows from logits [n, A]."""
        self.probabilities[rows] = torch.sigmoid(logits.float()).cpu().numpy()
        if self.intensities is not None and intensity_logits is not None:
            self.intensities[rows] = to_intensity(intensity_logits.float()).cpu().numpy()


class FeatureNetwork(nn.Module):
    """The trainable network, with or without controls."""

    def __init__(
        self,
        sizes: FeatureSizes,
        config: NetworkConfig,
        controls: ControlConfig,
        view_frames: int = 4,
        encoder: CropEncoder | None = None,
    ) -> None:
        """view_frames: frames of each window with views; encoder: None to use cached features."""
        super().__init__()
        self.encoder, self.au_names, self.has_intensities = encoder, config.au_names, config.intensity
        width = config.alignment.width
        self.visual_mix = TokenMix(sizes.width, sizes.visual_parts, width)
        self.audio_mix = TokenMix(sizes.audio_width, sizes.audio_parts, width)
        self.alignment = build_alignment(
            self.visual_mix.width, sizes.grid**2, config.alignment, len(config.au_names), controls
        )
        self.view_frames = view_frames if isinstance(self.alignment, GranularityAlignment) else 0
        if isinstance(self.alignment, GranularityAlignment) and not view_frames:
            self.alignment.contrast.requires_grad_(False)  # not used
        self.temporal = ControlledTemporalStage(config, self.audio_mix.width, controls)

    def forward(self, batch: Batch) -> Predictions:
        """Return the predictions for all frames [B, T] of the windows.

        Those of frames without a face and of the margins of windows are 0 and have no gradient.
        """
        if batch.in_window is None:
            return self._forward_windows(batch)
        windows = [self._forward_with_margins(batch.window(number)) for number in range(len(batch.has_face))]
        views = [each.views for each in windows if each.views is not None]
        joined = Views(*map(torch.cat, zip(*views, strict=True))) if views else None
        gates = [each.gate_logits for each in windows if each.gate_logits is not None]
        intensities = [each.intensity_logits for each in windows if each.intensity_logits is not None]
        return Predictions(
            logits=torch.cat([each.logits for each in windows]),
            labels=torch.cat([each.labels for each in windows]),
            gate_logits=torch.cat(gates) if gates else None,
            covers=torch.cat([each.covers for each in windows]),
            opening=torch.cat([each.opening for each in windows]),
            own_audio=torch.cat([each.own_audio for each in windows]),
            intensity_logits=torch.cat(intensities) if intensities else None,
            intensities=torch.cat([each.intensities for each in windows]),
            views=joined,
        )

    def _forward_windows(self, batch: Batch) -> Predictions:
        """Process windows in parallel, each on its own."""
        order, valid = pack_visible_frames(batch.has_face)  # [B, L], [B, L]
        rows = torch.arange(len(order), device=order.device)[:, None]  # [B, 1]
        face, patches = self._tokens(batch, rows, order, valid)
        aligned: AlignmentOutput = self.alignment(face, patches)
        audio = AudioInput(self.audio_mix(batch.audio.float()), batch.audio_times_s, batch.audio_valid)
        frame_s = batch.times_s[rows, order].masked_fill(~valid, PADDING_S)
        # Autocast may have made them half precision; sums over time are kept in float32.
        embedding, au_tokens = aligned.embedding.float(), aligned.au_tokens.float()
        output = self.temporal(embedding, au_tokens, frame_s, audio, valid)  # [B, L, A]
        return self._predictions(batch, aligned, output, audio, Frames(order, frame_s, valid))

    def _predictions(
        self, batch: Batch, aligned: AlignmentOutput, output: HeadOutput, audio: AudioInput, frames: Frames
    ) -> Predictions:
        """Spread the outputs for L packed frames over the frames [B, T] of the batch."""

        def spread(packed: Tensor) -> Tensor:
            """[B, L, n] -> [B, T, n], 0 for other frames."""
            packed = packed.float().masked_fill(~frames.valid[..., None], 0.0)
            index = frames.order[..., None].expand_as(packed)
            return packed.new_zeros(*batch.has_face.shape, packed.shape[-1]).scatter(1, index, packed)

        has_regions = isinstance(self.alignment, GranularityAlignment)
        opening, audible = self._opening(aligned.embedding.float(), audio, frames.times_s)
        unknown = ~batch.has_face[..., None]
        return Predictions(
            logits=spread(output.logits),
            labels=batch.labels.masked_fill(unknown, -1),
            gate_logits=spread(aligned.gate_logits) if has_regions else None,
            covers=batch.covers.masked_fill(unknown, -1),
            opening=spread(opening),
            own_audio=(spread(audible[..., None])[..., 0] > 0) & batch.own_audio,
            intensity_logits=None if output.intensity_logits is None else spread(output.intensity_logits),
            intensities=batch.intensities.masked_fill(unknown, torch.nan),
            views=self._views(batch, aligned, frames),
        )

    def _opening(self, embedding: Tensor, audio: AudioInput, frame_s: Tensor) -> tuple[Tensor, Tensor]:
        """Opening of the mouth [B, L, 2] from the picture and, interpolated, from the sound; mask [B, L]."""
        seen, heard = self.temporal.opening(embedding, self.temporal.norm_audio(audio.tokens))
        at_frames, audible = audio_at_frames(heard[..., None], audio.times_s, audio.valid, frame_s)
        return torch.stack([seen, at_frames[..., 0]], dim=-1), audible

    def _forward_with_margins(self, batch: Batch) -> Predictions:
        """Process one window whose margins are scanned first, without gradients (model/mamba.py)."""
        assert batch.in_window is not None
        in_window, used = batch.in_window[0], batch.has_face[0].clone()  # [T] each
        if not (used & in_window).any():  # without any face: keep a graph, with logits of 0
            used[in_window.nonzero()[0]] = True
        rows = used.nonzero()[:, 0]  # [L]
        window_rows = in_window[rows].nonzero()[:, 0]
        window = slice(int(window_rows[0]), int(window_rows[-1]) + 1)
        has_face, frame_s = batch.has_face[:, rows], batch.times_s[:, rows]  # [1, L] each
        audio = AudioInput(self.audio_mix(batch.audio.float()), batch.audio_times_s, batch.audio_valid)
        first_window = torch.zeros_like(rows[:1])[None]  # [1, 1]
        grad_enabled, previous, fused, aligned = torch.is_grad_enabled(), None, {}, None
        before = chunk_slices(window.start, CHUNK_FRAMES)
        after = chunk_slices(len(rows) - window.stop, CHUNK_FRAMES, window.stop)
        for chunk in (*before, window, *after):
            is_window = chunk.start == window.start
            with torch.set_grad_enabled(grad_enabled and is_window):
                face, patches = self._tokens(batch, first_window, rows[None, chunk], has_face[:, chunk])
                chunk_aligned: AlignmentOutput = self.alignment(face, patches, previous)
                previous = patches[:, -1].detach()
                embedding = chunk_aligned.embedding.float()
                fused[chunk.start] = self.temporal.fuse_audio(embedding, frame_s[:, chunk], audio)
            aligned = chunk_aligned if is_window else aligned
        assert aligned is not None
        x = torch.cat([each.x[0] for each in fused.values()])  # [L, d]
        conditions = [each.audio_condition[0] for each in fused.values() if each.audio_condition is not None]
        audio_condition = torch.cat(conditions) if conditions else None  # [L, Da]
        memory = self.temporal.memory
        assert isinstance(memory, BiMamba)
        state = memory.forward_long(x, audio_condition, frame_s[0], grad_window=window)[window]  # [Tw, d]
        audio_logits = fused[window.start].audio_logits
        output = self.temporal.classify(state[None], aligned.au_tokens.float(), audio_logits)  # [1, Tw, A]
        frames = Frames(rows[None, window], frame_s[:, window], has_face[:, window])
        return self._predictions(batch, aligned, output, audio, frames)

    def _tokens(self, batch: Batch, rows: Tensor, order: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed face [B, L, Dv] and patches [B, L, N, Dv] of the frames with a face."""
        if self.encoder is None:
            assert batch.face is not None
            assert batch.patches is not None
            return self._mix(batch.face[rows, order], batch.patches[rows, order])
        assert batch.crops is not None
        # Only frames with a face are encoded. Without any, one frame of each window is encoded all the same:
        # every weight needs a gradient.
        encoded = valid if valid.any() else torch.ones_like(valid)
        tokens = self.encoder(batch.crops[rows, order][encoded])
        face, patches = (_scatter_rows(each.float(), encoded) for each in tokens)
        return self._mix(face, patches)

    def _mix(self, face: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Mix face [..., Dv] and patches [..., N, Dv] of one or several encoders, as float32."""
        return self.visual_mix(face.float()), self.visual_mix(patches.float())

    def _views(self, batch: Batch, aligned: AlignmentOutput, frames: Frames) -> Views | None:
        """Return the views of up to `view_frames` frames of each window, spread evenly."""
        if not self.view_frames:
            return None
        assert isinstance(self.alignment, GranularityAlignment)
        valid = frames.valid
        count = valid.sum(1, keepdim=True)  # [B, 1]
        share = (torch.arange(self.view_frames, device=valid.device) + 0.5) / self.view_frames
        frame = (share * count).long()  # [B, F], the middle of each of F equal parts
        distinct = torch.ones_like(frame, dtype=torch.bool)
        distinct[:, 1:] = frame[:, 1:] > frame[:, :-1]  # a short window has fewer views
        distinct &= frame < count
        window = torch.arange(len(valid), device=valid.device)[:, None].expand_as(frame)[distinct]  # [V]
        frame = frame[distinct]  # [V]
        faces, regions = self.alignment.contrast(aligned.face[window, frame], aligned.local[window, frame])
        numbers = torch.tensor([crc32(track.encode()) for track in batch.tracks], device=valid.device)
        labels = batch.labels[window, frames.order[window, frame]]
        return Views(faces, regions, numbers[window], frames.times_s[window, frame], labels)

    @torch.no_grad()
    def predict_track(self, features: TrackFeatures, crops: TrackCrops | None = None) -> TrackPrediction:
        """Predict a whole track, in bounded memory; NaN for frames without a crop.

        crops: crops of the track, for a network with an encoder
        """
        rows = np.flatnonzero(features.has_image)
        prediction = TrackPrediction.unknown(len(features.has_image), self)
        if not len(rows):
            return prediction
        device = next(self.parameters()).device
        embeddings, au_tokens = [], []
        previous: Tensor | None = None
        for chunk in chunk_slices(len(rows), CHUNK_FRAMES):
            face, patches = self._track_tokens(features, crops, rows[chunk], device)
            aligned: AlignmentOutput = self.alignment(face, patches, previous)
            previous = patches[:, -1]
            embeddings.append(aligned.embedding[0])
            au_tokens.append(aligned.au_tokens[0])
        frame_s = torch.from_numpy(features.times_s[rows]).to(device)
        audio = self._track_audio(features, device)
        output = self.temporal.forward_long(torch.cat(embeddings), torch.cat(au_tokens), frame_s, audio)
        prediction.fill(rows, output.logits, output.intensity_logits)
        return prediction

    def _track_tokens(
        self, features: TrackFeatures, crops: TrackCrops | None, rows: NDArray[np.intp], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Mixed face [1, L, Dv] and patches [1, L, N, Dv] of some rows of a track that have a crop."""
        if self.encoder is None:
            face, patches = (
                torch.from_numpy(np.array(features.read(name, rows))).to(device)
                for name in ("face", "patches")
            )
        else:
            assert crops is not None
            pixels = crops.read(rows, np.ones(len(rows), bool))
            face, patches = self.encoder(torch.from_numpy(pixels).to(device))
        return self._mix(face[None], patches[None])

    def _track_audio(self, features: TrackFeatures, device: torch.device) -> AudioInput | None:
        """All audio tokens of a track, mixed; None without sound."""
        if not len(features.audio):
            return None
        chunks = (
            torch.from_numpy(np.array(features.read("audio", chunk))).to(device).float()
            for chunk in chunk_slices(len(features.audio), CHUNK_TOKENS)
        )
        tokens = torch.cat([self.audio_mix(chunk) for chunk in chunks])[None]
        times_s = torch.from_numpy(features.audio_times_s()).to(device)[None]
        return AudioInput(tokens, times_s, torch.ones(tokens.shape[:2], dtype=torch.bool, device=device))


def build_network(
    sizes: FeatureSizes,
    model: ModelConfig,
    view_frames: int = 4,
    encoder: CropEncoder | None = None,
    au_names: tuple[str, ...] = AFFWILD2_AUS,
    intensity: bool = False,
) -> FeatureNetwork:
    """Build the network described by a training config, with `encoder` in front if it is fine-tuned.

    au_names: AU of each output    intensity: whether it estimates intensities
    Raises InputError as `network_config`.
    """
    config = network_config(sizes, model, au_names, intensity)
    return FeatureNetwork(sizes, config, model.controls, view_frames, encoder)


def network_config(
    sizes: FeatureSizes,
    model: ModelConfig,
    au_names: tuple[str, ...] = AFFWILD2_AUS,
    intensity: bool = False,
) -> NetworkConfig:
    """Return the settings of a new network, with the number k of active patches.

    Raises InputError if k is not below the number N of patches: such a network would select nothing.
    """
    config, grid, count = model.network(), sizes.grid, sizes.grid**2
    given, share = config.alignment.active_patches, config.alignment.active_share
    alignment = config.alignment.with_active_count(count)
    if model.controls.visual == "alignment" and alignment.active_count(count) == count:
        setting = f"active_share {share}" if given is None else f"active_patches {given}"
        omit = "" if given is None else f", or omit it to keep a share of {share}"
        raise InputError(
            f"model.alignment.{setting} keeps k = {given or count} patches a frame, but the features have "
            f"N = {count} (grid {grid} x {grid}), so nothing would be selected. Set it so that k is below "
            f"{count}{omit}, or run auscan extract with a larger --grid."
        )
    return config.model_copy(update={"alignment": alignment, "au_names": au_names, "intensity": intensity})


def pack_visible_frames(has_face: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positions of the frames with a face, padded to the window that has most of them.

    has_face: [B, T] bool    returns order [B, L] int64 and valid [B, L] bool, False for padding
    """
    count = has_face.sum(1)  # [B]
    longest = max(1, int(count.max()))
    order = torch.argsort((~has_face).to(torch.int8), dim=1, stable=True)[:, :longest]
    return order, torch.arange(longest, device=has_face.device) < count[:, None]


def _scatter_rows(rows: Tensor, mask: Tensor) -> Tensor:
    """Scatter rows [F, ...] to the positions where mask [B, L] is True, 0 elsewhere: [B, L, ...]."""
    return rows.new_zeros(*mask.shape, *rows.shape[1:]).index_put((mask,), rows)
