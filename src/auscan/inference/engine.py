"""What a stage is: the contract between whatever runs over time and whatever engine runs the network.

The network is three stages with plain arrays between them. An engine does only what holds for a frame or
for a stretch of frames; everything that goes on over time is written once, in numpy, for all engines:
follow.py reads a whole track, the live detector a track that never ends.

    look          crops of any faces       -> frame embeddings, AU tokens, refined points
    encode_sound  a stretch of sound       -> audio tokens          (`listen`: sound of any length)
    hear          frames and the sound     -> frames that have heard it
    sweep         frames, one direction    -> what the memory adds to them, and the state to go on with
    read          frames and AU tokens     -> logits

In and out: numpy.  Not here: the engines (with_onnx.py, with_torch.py), whole tracks (follow.py).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from auscan.core.checkpoint_folder import find_checkpoint, has_graphs
from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP, CheckpointConfig
from auscan.core.environment import need_torch
from auscan.core.errors import CheckpointError, InputError
from auscan.media.audio import Waveform

SEGMENT_S = 20.0
"""Sound is encoded in segments of this length, counted from its start, however the file was chunked."""
CONTEXT_S = 1.0
"""Sound on each side that a segment may hear, but whose tokens are thrown away."""


Backend = Literal["auto", "torch", "onnx"]
Direction = Literal["ahead", "back"]
"""In the order of time, or against it."""


@dataclass(frozen=True, slots=True)
class FaceEvidence:
    """What the visual stage went by in B crops; read out of the network, not worked out afterwards."""

    patch_weights: NDArray[np.float32]
    """[B, N] in 0..1; exactly 0 for a patch that was not read."""
    attention: NDArray[np.float32]
    """[B, A, N] where the query of each AU looked, the mean of its heads; sums to 1, 0 where not read."""
    gates: NDArray[np.float32]
    """[B, A] in 0..1; how far what the AU's query found is taken in beside the face as a whole."""

    def rows(self, part: slice) -> "FaceEvidence":
        """Those of some of the crops."""
        return FaceEvidence(self.patch_weights[part], self.attention[part], self.gates[part])


@dataclass(frozen=True, slots=True)
class FaceFeatures:
    """What the visual stage knows of B crops."""

    embedding: NDArray[np.float32]
    """[B, d]."""
    au_tokens: NDArray[np.float32]
    """[B, A, da]."""
    points: NDArray[np.float32]
    """[B, 5, 2] px of the crop."""
    sight: NDArray[np.float32]
    """[B, 3] yaw deg, pitch deg, covered share of the face 0 to 1; means something only where the
    checkpoint's config says `sight`."""
    last_patches: dict[int, NDArray[np.float32]]
    """[N, Dv] of the last crop of each face in the call; what the next call is to know of them."""
    evidence: FaceEvidence | None = None
    """None unless asked for."""


@dataclass(frozen=True, slots=True)
class AudioTokens:
    """The sound of an input as the temporal stage hears it."""

    tokens: NDArray[np.float32]
    """[Ta, Da]."""
    times_s: NDArray[np.float64]
    """[Ta] on the clock of the frames, ascending; sound that no face hears may be left out."""


class SweepState(NamedTuple):
    """What one direction of one block carries from one stretch of frames to the next."""

    tail: NDArray[np.float32]
    """[conv_width - 1, channels] the last inputs of the short convolution."""
    memory: NDArray[np.float32]
    """[H, P, N] the state of the scan."""


class Stages(Protocol):
    """The stages of one checkpoint.  No array that is given is kept or written to."""

    @property
    def config(self) -> CheckpointConfig:
        """The checkpoint's answers about itself."""

    @property
    def blocks(self) -> int:
        """How many blocks `sweep` has."""

    @property
    def has_evidence(self) -> bool:
        """Whether the stages can say what they went by; graphs of an earlier auscan cannot."""

    def look(
        self,
        crops: NDArray[np.uint8],
        faces: Sequence[int],
        previous: Mapping[int, NDArray[np.float32]],
        evidence: bool = False,
    ) -> FaceFeatures:
        """Crops of any faces in any mixture.

        crops: [B, S, S, 3] RGB, B >= 1    faces: [B] whose each one is; those of a face in order of time
        previous: [N, Dv] patches of a face's last crop before this call; a face not in it just appeared
        evidence: also give what it went by; CheckpointError unless `has_evidence`
        """

    def encode_sound(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """samples [M] at 16 kHz -> tokens [M // 320, Da]."""

    def hear(
        self, embedding: NDArray[np.float32], times_s: NDArray[np.float64], sound: AudioTokens | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Let the face ask the voice: x [T, d], and the voice at each frame [T, Da]; x, None without sound.

        embedding: [T, d]    times_s: [T]    sound: all of it within reach; its cost grows with its length
        """

    def audio_gate(
        self, embedding: NDArray[np.float32], times_s: NDArray[np.float64], sound: AudioTokens | None
    ) -> NDArray[np.float32]:
        """How far `hear`, given the same, takes the voice in: [T] in 0..1, exactly 0 where none is in reach.

        Raises CheckpointError unless `has_evidence`.
        """

    def sweep(
        self,
        block: int,
        direction: Direction,
        x: NDArray[np.float32],
        guide: NDArray[np.float32] | None,
        elapsed: NDArray[np.float64],
        state: SweepState | None,
    ) -> tuple[NDArray[np.float32], SweepState]:
        """What a block's memory adds to a stretch of frames [T, d], in one direction.

        x: [T, d] and guide: [T, Da] in the order of time, whichever the direction; T >= 1
        elapsed: [T] of `elapsed_frames`, the side that fits the direction
        state: of the stretch before this one, seen in the direction; None at the end where the track begins
        The block's output is x + both updates.  Any split into stretches gives the same numbers.
        """

    def read(self, x: NDArray[np.float32], au_tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """x [T, d] after the last block, au_tokens [T, A, da] -> logits [T, A]."""


def load(
    checkpoint: str | Path = "nano",
    backend: Backend = "auto",
    device: str = "auto",
    threads: int | None = None,
) -> Stages:
    """The stages of a shipped checkpoint or of a folder.

    backend: "onnx" (ONNX Runtime, on the CPU), "torch", or "auto": onnx where the checkpoint holds graphs
    and no GPU is asked for, else torch
    device: "cpu", "cuda:0", or "auto": the CPU for onnx; for torch the first GPU, else the CPU
    threads: how many the engine may use; None leaves it to the engine

    Raises CheckpointError where it cannot be found or does not fit, InputError for a device that is not there
    and where PyTorch is needed but not installed.
    """
    folder = find_checkpoint(checkpoint)
    on_cpu = device in ("auto", "cpu")
    if backend == "onnx" or (backend == "auto" and on_cpu and has_graphs(folder)):
        if not on_cpu:
            raise InputError(f"The backend onnx runs on the CPU only. Give the backend torch for {device}.")
        from auscan.inference.onnx_engine import OnnxStages  # the engines load here, not with the pipeline

        return OnnxStages(folder, threads)
    need_torch(f"The backend torch, by which {checkpoint} is to be run on device {device},")
    from auscan.inference.torch_engine import TorchStages

    return TorchStages(folder, device, threads)


def need_evidence(stages: Stages) -> None:
    """Raise CheckpointError unless the stages can say what they went by."""
    if not stages.has_evidence:
        raise CheckpointError(
            f"The graphs of {stages.config.name} give no evidence: an earlier auscan wrote them. Write them "
            f"anew with `auscan export`, or run the weights with `--backend torch`."
        )


def evidence_of(
    patch_weights: NDArray[np.float32], attention: NDArray[np.float32], gates: NDArray[np.float32]
) -> FaceEvidence:
    """What an engine read out of the network, its attention by heads: [B, N], [B, A, H, N], [B, A]."""
    return FaceEvidence(patch_weights, attention.mean(axis=2), gates)


class RowsBefore(NamedTuple):
    """Where the patches of the frame before are found for each of B crops."""

    rows: NDArray[np.int64]
    """[B] into the B patches of this call, followed by the F carried ones."""
    carried: list[NDArray[np.float32]]
    """F times [N, Dv]."""
    last: dict[int, int]
    """The last row of each face."""


def rows_before(faces: Sequence[int], previous: Mapping[int, NDArray[np.float32]]) -> RowsBefore:
    """Which patches came before: the face's earlier row, else what is carried of it, else its own.

    A face that just appeared is its own past, so that nothing moved.
    """
    last: dict[int, int] = {}
    rows: list[int] = []
    carried: list[NDArray[np.float32]] = []
    for row, face in enumerate(faces):
        if face in last:
            rows.append(last[face])
        elif face in previous:
            rows.append(len(faces) + len(carried))
            carried.append(previous[face])
        else:
            rows.append(row)
        last[face] = row
    return RowsBefore(np.asarray(rows, dtype=np.int64), carried, last)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a sound that is encoded on its own; at least one token long."""

    samples: NDArray[np.float32]
    """[M] at 16 kHz, with context on both sides."""
    own: slice
    """Which of the tokens that the samples give are the segment's, Ta of them."""
    times_s: NDArray[np.float64]
    """[Ta] when these are heard."""

    def encode(self, stages: Stages) -> AudioTokens:
        """Its tokens."""
        return AudioTokens(stages.encode_sound(self.samples)[self.own], self.times_s)


def listen(stages: Stages, sound: Iterable[Waveform]) -> AudioTokens | None:
    """Encode sound of any length; None where it is shorter than one token.

    sound: contiguous stretches.
    """
    heard = [segment.encode(stages) for segment in segments(sound)]
    if not heard:
        return None
    return AudioTokens(
        np.concatenate([each.tokens for each in heard]), np.concatenate([each.times_s for each in heard])
    )


def segments(sound: Iterable[Waveform]) -> Iterator[Segment]:
    """Contiguous stretches of sound, cut anew.

    The cuts lie at fixed times from the start, so that no token depends on how the caller stretched them, nor
    on which segments are encoded; only one is in memory.
    """
    first = 0  # token of the sound
    for start_s, samples, own in _cut(sound):
        count = len(range(len(samples) // TOKEN_HOP)[own])
        if count:
            places = np.arange(first, first + count, dtype=np.float64)
            yield Segment(samples, own, start_s + (places + 0.5) * (TOKEN_HOP / SAMPLE_RATE_HZ))
        first += count


def _cut(sound: Iterable[Waveform]) -> Iterator[tuple[float, NDArray[np.float32], slice]]:
    """Start of the sound (s), samples of a segment with its context, and which tokens are its own."""
    length, context = round(SEGMENT_S * SAMPLE_RATE_HZ), round(CONTEXT_S * SAMPLE_RATE_HZ)
    held = np.empty(0, dtype=np.float32)
    start_s, before = 0.0, 0  # samples of context at the front of `held`
    first = True
    for stretch in sound:
        start_s, first = (stretch.start_s, False) if first else (start_s, False)
        held = np.concatenate([held, stretch.samples])
        while len(held) >= before + length + context:
            own = slice(before // TOKEN_HOP, (before + length) // TOKEN_HOP)
            yield start_s, held[: before + length + context], own
            held = held[before + length - context :]
            before = context
    if len(held) > before:
        yield start_s, held, slice(before // TOKEN_HOP, None)
