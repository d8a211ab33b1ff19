"""The network that learns: alignment, fusion, memory and head, from features or behind an encoder.

Frames without a face are passed over, exactly as at inference, where a track has no rows for them: the frames
that are seen move together, each with its own time, so the memory knows how long the gap was and the voice is
still asked at the right moment. Their logits are 0 and nobody reads them.

In: batches of features or of crops (windows.py), or one whole track.  Out: logits.
Not here: the parts (model/), those that take their places (controls.py), the encoder (encoder.py), losses.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from auscan.core.aus import AU_COUNT
from auscan.core.config import NetworkConfig, Settings
from auscan.datasets.cache import CacheHeader, TrackFeatures
from auscan.datasets.crops import TrackCrops
from auscan.model.alignment import Aligned
from auscan.model.mamba import BiMamba
from auscan.model.network import Sound
from auscan.training.config import ControlConfig, ModelConfig
from auscan.training.context import remember_within
from auscan.training.controls import ControlledStage, build_alignment, weight_count
from auscan.training.encoder import CropEncoder
from auscan.training.windows import Batch

PADDING_S = 1e9
"""Where in time padding lies: out of everybody's hearing."""
FRAMES_AT_ONCE = 512
"""Frames of a whole track that alignment reads at a time; changes no result."""


class FeatureSizes(Settings):
    """What the features look like."""

    width: int
    """Dv."""
    grid: int
    """Patches along one side."""
    audio_width: int
    """Da."""

    @classmethod
    def of(cls, header: CacheHeader) -> "FeatureSizes":
        """The sizes of a track's features."""
        return cls(width=header.width, grid=header.grid, audio_width=header.audio_width)


@dataclass(frozen=True, eq=False)
class Output:
    """What the network says of a batch."""

    logits: Tensor
    """[B, T, A], 0 where no face is seen."""
    views: tuple[Tensor, Tensor] | None
    """Face and regions [F, d] of some frames of each window, for the alignment loss; None without regions."""


class FeatureNetwork(nn.Module):
    """The trainable part, with or without controls."""

    def __init__(
        self,
        sizes: FeatureSizes,
        config: NetworkConfig,
        controls: ControlConfig,
        view_frames: int = 4,
        encoder: CropEncoder | None = None,
    ) -> None:
        """view_frames: frames of each window whose views are given out; encoder: None to read features."""
        super().__init__()
        self.encoder = encoder
        self.view_frames = view_frames if controls.visual == "alignment" else 0
        self.alignment = build_alignment(sizes.width, sizes.grid**2, config.alignment, controls)
        self.temporal = ControlledStage(config, sizes.audio_width, controls)

    def forward(self, batch: Batch) -> Output:
        """Logits of B windows; those in the margins, where windows have some, are 0 and without gradients."""
        if batch.inside is None:
            return self._read(batch)
        outputs = [self._read_within(batch.row(number)) for number in range(len(batch.seen))]
        views = [each.views for each in outputs if each.views is not None]
        face, regions = (torch.cat(each) for each in zip(*views, strict=True)) if views else (None, None)
        joined = None if face is None or regions is None else (face, regions)
        return Output(torch.cat([each.logits for each in outputs]), joined)

    def _read(self, batch: Batch) -> Output:
        """Windows side by side, each as if there were nothing beyond it."""
        order, valid = seen_first(batch.seen)  # [B, L], [B, L]
        rows = torch.arange(len(order), device=order.device)[:, None]  # [B, 1]
        face, patches = self._tokens(batch, rows, order, valid)
        aligned: Aligned = self.alignment(face, patches)
        sound = Sound(batch.audio.float(), batch.audio_times_s, batch.audio_valid)
        frame_s = batch.times_s[rows, order].masked_fill(~valid, PADDING_S)
        # Autocast may have shortened them; sums over time are kept in float32.
        embedding, au_tokens = aligned.embedding.float(), aligned.au_tokens.float()
        said = self.temporal(embedding, au_tokens, frame_s, sound, valid)  # [B, L, A]
        said = said.float().masked_fill(~valid[..., None], 0.0)
        logits = said.new_zeros(*batch.seen.shape, AU_COUNT)
        logits = logits.scatter(1, order[..., None].expand_as(said), said)  # [B, T, A]
        return Output(logits, self._views(aligned, valid))

    def _read_within(self, one: Batch) -> Output:
        """One window in the light of its margins, which are read without gradients (context.py)."""
        assert one.inside is not None
        inside, there = one.inside[0], one.seen[0].clone()  # [T] each
        if not (there & inside).any():  # a window without any face still has a graph, and says 0
            there[inside.nonzero()[0]] = True
        places = there.nonzero()[:, 0]  # [L]
        own = inside[places].nonzero()[:, 0]
        window = slice(int(own[0]), int(own[-1]) + 1)
        seen, frame_s = one.seen[:, places], one.times_s[:, places]  # [1, L] each
        sound = Sound(one.audio.float(), one.audio_times_s, one.audio_valid)
        first_row = torch.zeros_like(places[:1])[None]  # [1, 1]
        learns, previous, heard, aligned = torch.is_grad_enabled(), None, [], None
        for part in (*_chunks(0, window.start), window, *_chunks(window.stop, len(places))):
            is_window = part.start == window.start
            with torch.set_grad_enabled(learns and is_window):
                face, patches = self._tokens(one, first_row, places[None, part], seen[:, part])
                looked: Aligned = self.alignment(face, patches, previous)
                previous = patches[:, -1].detach()
                heard.append(self.temporal.hear(looked.embedding.float(), frame_s[:, part], sound))
            aligned = looked if is_window else aligned
        assert aligned is not None
        x = torch.cat([embedding[0] for embedding, _ in heard])  # [L, d]
        guides = [guide[0] for _, guide in heard if guide is not None]
        guide = torch.cat(guides) if guides else None  # [L, Da]
        memory = self.temporal.memory
        assert isinstance(memory, BiMamba)
        state = remember_within(memory, x, guide, frame_s[0], window)  # [Tw, d]
        said = self.temporal.head(state, aligned.au_tokens[0].float()).float()  # [Tw, A]
        said = said.masked_fill(~seen[0, window, None], 0.0)
        logits = said.new_zeros(*one.seen.shape, AU_COUNT)
        logits = logits.index_put((torch.zeros_like(places[window]), places[window]), said)  # [1, T, A]
        return Output(logits, self._views(aligned, seen[:, window]))

    def _tokens(self, batch: Batch, rows: Tensor, order: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Face [B, L, Dv] and patches [B, L, N, Dv] of the seen frames; only those are encoded."""
        if self.encoder is None:
            assert batch.face is not None
            assert batch.patches is not None
            return batch.face[rows, order].float(), batch.patches[rows, order].float()
        assert batch.crops is not None
        # A batch without any face still has a frame encoded, so that every weight has its gradient.
        there = valid if valid.any() else torch.ones_like(valid)
        encoded = self.encoder(batch.crops[rows, order][there])
        face, patches = (_at_places(each.float(), there) for each in encoded)
        return face, patches

    def _views(self, aligned: Aligned, valid: Tensor) -> tuple[Tensor, Tensor] | None:
        """The two views of up to `view_frames` frames of each window, as far apart as there is room."""
        if not self.view_frames:
            return None
        count = valid.sum(1, keepdim=True)  # [B, 1]
        share = (torch.arange(self.view_frames, device=valid.device) + 0.5) / self.view_frames
        place = (share * count).long()  # [B, F], the middle of each part
        fresh = torch.ones_like(place, dtype=torch.bool)
        fresh[:, 1:] = place[:, 1:] > place[:, :-1]  # a short window gives fewer
        fresh &= place < count
        rows = torch.arange(len(valid), device=valid.device)[:, None]
        return aligned.global_view[rows, place][fresh], aligned.local_view[rows, place][fresh]

    @torch.no_grad()
    def follow_track(self, features: TrackFeatures, crops: TrackCrops | None = None) -> NDArray[np.float32]:
        """Probabilities [T, A] of a whole track, NaN where it has no picture; in bounded memory.

        crops: the track's pictures, for a network with an encoder
        """
        seen = np.flatnonzero(features.has_image)
        out = np.full((len(features.has_image), AU_COUNT), np.nan, np.float32)
        if not len(seen):
            return out
        device = next(self.parameters()).device
        embeddings, au_tokens = [], []
        previous: Tensor | None = None
        for part in np.split(seen, range(FRAMES_AT_ONCE, len(seen), FRAMES_AT_ONCE)):
            face, patches = self._tokens_of(features, crops, part, device)
            aligned: Aligned = self.alignment(face, patches, previous)
            previous = patches[:, -1]
            embeddings.append(aligned.embedding[0])
            au_tokens.append(aligned.au_tokens[0])
        frame_s = torch.from_numpy(features.times_s[seen]).to(device)
        logits = self.temporal.follow_long(
            torch.cat(embeddings), torch.cat(au_tokens), frame_s, _sound(features, device)
        )
        out[seen] = torch.sigmoid(logits.float()).cpu().numpy()
        return out

    def _tokens_of(
        self, features: TrackFeatures, crops: TrackCrops | None, part: NDArray[np.intp], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Face [1, L, Dv] and patches [1, L, N, Dv] of some seen rows of a track."""
        if self.encoder is None:
            both = (features.face, features.patches)
            face, patches = (torch.from_numpy(np.array(each[part])).to(device) for each in both)
        else:
            assert crops is not None
            pictures = crops.read(part, np.ones(len(part), bool))
            face, patches = self.encoder(torch.from_numpy(pictures).to(device))
        return face.float()[None], patches.float()[None]


def seen_first(seen: Tensor) -> tuple[Tensor, Tensor]:
    """Where the seen frames are, in their order, as many as the fullest window has.

    seen: [B, T] bool    returns order [B, L] int64 and valid [B, L] bool: False once a window has no more
    """
    count = seen.sum(1)  # [B]
    longest = max(1, int(count.max()))
    order = torch.argsort((~seen).to(torch.int8), dim=1, stable=True)[:, :longest]
    return order, torch.arange(longest, device=seen.device) < count[:, None]


def _chunks(start: int, stop: int) -> list[slice]:
    """From start to stop, `FRAMES_AT_ONCE` at a time."""
    return [slice(at, min(at + FRAMES_AT_ONCE, stop)) for at in range(start, stop, FRAMES_AT_ONCE)]


def _at_places(rows: Tensor, places: Tensor) -> Tensor:
    """Rows [F, ...] put where places [B, L] bool are, 0 elsewhere: [B, L, ...]."""
    return rows.new_zeros(*places.shape, *rows.shape[1:]).index_put((places,), rows)


def _sound(features: TrackFeatures, device: torch.device) -> Sound | None:
    if not len(features.audio):
        return None
    tokens = torch.from_numpy(np.array(features.audio)).to(device).float()[None]
    times_s = torch.from_numpy(features.audio_times_s()).to(device)[None]
    return Sound(tokens, times_s, torch.ones(tokens.shape[:2], dtype=torch.bool, device=device))


def build_network(
    sizes: FeatureSizes, model: ModelConfig, view_frames: int = 4, encoder: CropEncoder | None = None
) -> FeatureNetwork:
    """The network that a training config asks for, behind `encoder` if that is to learn."""
    return FeatureNetwork(sizes, model.network(), model.controls, view_frames, encoder)


def budget(network: FeatureNetwork, sizes: FeatureSizes, model: ModelConfig) -> str:
    """How many weights each part has, and has without controls: lines of text."""
    with torch.device("meta"):
        plain = FeatureNetwork(sizes, model.network(), ControlConfig())
    lines = ["weights      this run     the method"]
    for name in ("alignment", "temporal.fusion", "temporal.memory", "temporal.head"):
        ours, theirs = (weight_count(each.get_submodule(name)) for each in (network, plain))
        lines.append(f"{name.rpartition('.')[2]:10} {ours:10,} {theirs:14,}")
    encoding = 0 if network.encoder is None else weight_count(network.encoder)
    lines.append(f"{'together':10} {weight_count(network) - encoding:10,} {weight_count(plain):14,}")
    if network.encoder is not None:
        learn = sum(weight.numel() for weight in network.encoder.parameters() if weight.requires_grad)
        lines.append(f"{'encoder':10} {learn:10,} of {encoding:,} learn")
    return "\n".join(lines)
