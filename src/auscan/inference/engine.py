"""Define the interface of the engines that run the network: ONNX Runtime or PyTorch.

The network has three stages with plain arrays between them. An engine processes one frame or one chunk of
frames. The order of chunks and their states is implemented once, in NumPy, for all engines: score_track.py
for a whole track, pipeline/live.py for a running one.

    encode_faces   crops of any faces      -> frame embeddings, AU tokens, refined points
    encode_audio   a segment of audio      -> audio tokens
    fuse_audio     frames, audio tokens    -> frames after the cross-attention, audio condition and logits
    mouth_opening  frames, audio tokens    -> opening of the mouth from the picture and from the sound
    scan_block     frames, one direction   -> update of a block, state after it
    classify       frames, AU tokens       -> logits
    intensity      frames, AU tokens, logits -> intensities, if the checkpoint has them

`encode_audio_stream` encodes audio of any length in overlapping segments, in bounded memory.

Inputs and outputs: NumPy arrays.
See also: load.py (choose an engine), onnx_engine.py, torch_engine.py, pipeline/audio_stream.py (only the
audio near faces).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP, CheckpointConfig
from auscan.media.audio import Waveform
from auscan.model.bidirectional import Direction


@dataclass(frozen=True, slots=True)
class FaceAttributions:
    """Attributions of B crops: values that the network computed, not estimates made afterwards."""

    patch_weights: NDArray[np.float32]
    """Patch weights [B, N] in 0..1; exactly 0 for an inactive patch."""
    attention: NDArray[np.float32]
    """Attention of each AU query [B, A, N], mean over its heads; sums to 1, 0 for an inactive patch."""
    gates: NDArray[np.float32]
    """Gates [B, A] in 0..1: weight of the local features of each AU beside those of the whole face."""

    @classmethod
    def from_heads(
        cls, patch_weights: NDArray[np.float32], attention: NDArray[np.float32], gates: NDArray[np.float32]
    ) -> "FaceAttributions":
        """Build attributions from [B, N], [B, A, H, N] and [B, A]; average the attention over its heads."""
        return cls(patch_weights, attention.mean(axis=2), gates)

    def rows(self, part: slice) -> "FaceAttributions":
        """Return the attributions of some of the crops."""
        return FaceAttributions(self.patch_weights[part], self.attention[part], self.gates[part])


@dataclass(frozen=True, slots=True)
class VisualFeatures:
    """Output of the visual stage for B crops."""

    embedding: NDArray[np.float32]
    """Frame embeddings [B, d]."""
    au_tokens: NDArray[np.float32]
    """AU tokens [B, A, da]."""
    points: NDArray[np.float32]
    """Refined face points [B, 5, 2], px of the crop."""
    pose_occlusion: NDArray[np.float32]
    """Head pose and occlusion [B, 3]: yaw and pitch in degrees, covered share of the face 0 to 1. Only valid
    if the checkpoint was trained for it (`has_pose_occlusion` of its config)."""
    last_patches: dict[int, NDArray[np.float32]]
    """Patches [N, Dv] of the last crop of each face; `previous` of the next call."""
    gates: NDArray[np.float32] | None = None
    """Gates [B, A] in 0..1: how far the local features of each AU can be trusted; None for format 1 and for
    graphs without attributions."""
    attributions: FaceAttributions | None = None
    """Attributions; None unless requested."""


@dataclass(frozen=True, slots=True)
class AudioTokens:
    """Audio tokens of an input with their times."""

    tokens: NDArray[np.float32]
    """Audio tokens [Ta, Da]."""
    times_s: NDArray[np.float64]
    """Token times [Ta], seconds on the clock of the frames, ascending; may omit audio far from faces."""


class ScanState(NamedTuple):
    """State of one direction of one block between two chunks of frames."""

    tail: NDArray[np.float32]
    """Last inputs of the short convolution [conv_width - 1, channels]."""
    memory: NDArray[np.float32]
    """State of the scan [H, P, N]."""


class FusedFrames(NamedTuple):
    """Frames after the sound was fused into them."""

    x: NDArray[np.float32]
    """Input of the temporal model [T, d]; the embedding, unchanged, for frames without sound."""
    audio_condition: NDArray[np.float32] | None
    """Audio condition [T, Da]; None without sound, which is equivalent to zeros."""
    audio_logits: NDArray[np.float32] | None
    """Audio logits [T, A], to be added to those of `classify`; None without sound or if the checkpoint has no
    late path, which is equivalent to zeros."""


class MouthOpening(NamedTuple):
    """Logits of an open mouth, predicted from the picture and from the sound."""

    seen: NDArray[np.float32]
    """From each frame [T]."""
    heard: NDArray[np.float32]
    """From each audio token [Ta]."""


class InferenceEngine(Protocol):
    """Interface of an engine that runs one checkpoint. Methods neither keep nor modify their arguments."""

    @property
    def config(self) -> CheckpointConfig:
        """Config of the checkpoint."""

    @property
    def blocks(self) -> int:
        """Number of blocks of the temporal model."""

    @property
    def has_attributions(self) -> bool:
        """Whether attributions and gates are available; graphs written by early versions lack them."""

    def encode_faces(
        self,
        crops: NDArray[np.uint8],
        faces: Sequence[int],
        previous: Mapping[int, NDArray[np.float32]],
        attributions: bool = False,
    ) -> VisualFeatures:
        """Encode crops of one or more faces.

        crops: [B, S, S, 3] RGB, B >= 1
        faces: [B], id of the face in each crop; crops of one face are in time order, faces may be mixed
        previous: patches [N, Dv] of each face's last crop before this call; omit faces that have just
        appeared
        attributions: also return attributions; raises CheckpointError unless `has_attributions`
        """

    def encode_audio(
        self, samples: NDArray[np.float32], level: "AudioLevel | None" = None
    ) -> NDArray[np.float32]:
        """Encode samples [M] at 16 kHz as tokens [M // 320, Da].

        level: level of the whole audio, for an encoder with normalise: file
        """

    def fuse_audio(
        self, embedding: NDArray[np.float32], times_s: NDArray[np.float64], audio: AudioTokens | None
    ) -> FusedFrames:
        """Fuse audio into the frames; without audio the embedding is unchanged.

        embedding: [T, d]    times_s: [T] seconds    audio: all tokens within reach; the cost grows with their
        number
        """

    def mouth_opening(self, embedding: NDArray[np.float32], audio: AudioTokens | None) -> MouthOpening | None:
        """Predict the opening of the mouth for embedding [T, d] and for all audio tokens.

        None for a checkpoint of format 1, which cannot predict it. Without audio `heard` is empty.
        """

    def audio_gate(
        self, embedding: NDArray[np.float32], times_s: NDArray[np.float64], audio: AudioTokens | None
    ) -> NDArray[np.float32]:
        """Return the gate of `fuse_audio` for the same frames: [T] in 0..1, exactly 0 without audio in reach.

        Raises CheckpointError unless `has_attributions`.
        """

    def scan_block(
        self,
        block: int,
        direction: Direction,
        x: NDArray[np.float32],
        audio_condition: NDArray[np.float32] | None,
        elapsed: NDArray[np.float64],
        state: ScanState | None,
    ) -> tuple[NDArray[np.float32], ScanState]:
        """Scan a chunk of frames in one direction; return the update of a block [T, d] and the state after
        it.

        x: [T, d], T >= 1    audio_condition: [T, Da]; both in time order in both directions
        elapsed: [T], the array of `elapsed_frames` for this direction
        state: state after the previous chunk in scan order; None for the first chunk
        The output of the block is x plus the updates of both directions. Results do not depend on the chunks.
        """

    def classify(self, x: NDArray[np.float32], au_tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits [T, A] from x [T, d] after the last block and au_tokens [T, A, da]."""

    def intensity(
        self, x: NDArray[np.float32], au_tokens: NDArray[np.float32], logits: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Estimate intensities [T, A], 0 to 5, of frames for which `classify` was called.

        logits: [T, A] of `classify` with the audio logits, not calibrated
        Only for a checkpoint with `network.intensity`.
        """


class PreviousRows(NamedTuple):
    """Indices of the previous frame of each of B crops."""

    rows: NDArray[np.int64]
    """Row [B] of the previous frame in the B patches of this call followed by the F carried ones."""
    carried: list[NDArray[np.float32]]
    """Patches of earlier calls, F arrays [N, Dv]."""
    last: dict[int, int]
    """Last row of each face."""


def previous_rows(faces: Sequence[int], previous: Mapping[int, NDArray[np.float32]]) -> PreviousRows:
    """Find the previous frame of each crop: an earlier row of the face, else its carried patches, else its
    own row.

    faces: [B], id of the face in each crop    previous: patches [N, Dv] of faces from earlier calls
    For a face that has just appeared the own row is used, so that the change of its patches is 0.
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
    return PreviousRows(np.asarray(rows, dtype=np.int64), carried, last)


SEGMENT_S = 20.0
"""Length of a segment; segments are counted from the start of the audio, independent of the input chunks."""
CONTEXT_S = 1.0
"""Audio on each side of a segment that is encoded with it; its tokens are dropped."""


class AudioLevel(NamedTuple):
    """Mean and standard deviation of audio, as transformers measures them over a file (do_normalize)."""

    mean: float
    """Mean of the samples."""
    std: float
    """Standard deviation of the samples; above 0, also for silence."""

    def scale(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale samples [M] to mean 0 and standard deviation 1 of the measured audio."""
        return (samples - np.float32(self.mean)) / np.float32(self.std)


class AudioLevelMeter:
    """Measure the level of audio that arrives in chunks."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares = 0, 0.0, 0.0

    def push(self, samples: NDArray[np.float32]) -> None:
        """Add samples [M]."""
        exact = samples.astype(np.float64)
        self._count += len(exact)
        self._sum += float(exact.sum())
        self._squares += float(exact @ exact)

    @property
    def level(self) -> AudioLevel:
        """Level of all samples so far."""
        mean = self._sum / max(self._count, 1)
        variance = max(self._squares / max(self._count, 1) - mean**2, 0.0)
        return AudioLevel(mean, (variance + 1e-7) ** 0.5)  # 1e-7 as in transformers


def measure_level(audio: Iterable[Waveform]) -> AudioLevel:
    """Return the level of audio given as chunks, which are read to their end."""
    meter = AudioLevelMeter()
    for chunk in audio:
        meter.push(chunk.samples)
    return meter.level


class AudioEncoder(Protocol):
    """Object with `encode_audio`: an `InferenceEngine`, or the encoders of datasets/frozen_encoders.py."""

    def encode_audio(
        self, samples: NDArray[np.float32], level: "AudioLevel | None" = None
    ) -> NDArray[np.float32]:
        """Encode samples [M] at 16 kHz as tokens [M // 320, Da].

        level: level of the whole audio, for an encoder with normalise: file
        """


@dataclass(frozen=True, slots=True)
class Segment:
    """Part of an audio stream that is encoded in one call; at least one token long."""

    samples: NDArray[np.float32]
    """Samples [M] at 16 kHz, with context on both sides."""
    level: AudioLevel | None
    """Level of the whole audio, for an encoder with normalise: file."""
    token_slice: slice
    """Slice of the Ta tokens of the segment among all tokens of the samples."""
    times_s: NDArray[np.float64]
    """Times [Ta] of these tokens, seconds."""

    def encode(self, encoder: AudioEncoder) -> AudioTokens:
        """Encode the samples and return the tokens of the segment."""
        tokens = encoder.encode_audio(self.samples, self.level)
        return AudioTokens(tokens[self.token_slice], self.times_s)


def encode_audio_stream(
    encoder: AudioEncoder, audio: Iterable[Waveform], level: AudioLevel | None = None
) -> AudioTokens | None:
    """Encode audio of any length, given as contiguous chunks; return None if it is shorter than one token.

    level: level of the whole audio, for an encoder with normalise: file
    """
    encoded = [segment.encode(encoder) for segment in segments(audio, level)]
    if not encoded:
        return None
    return AudioTokens(
        np.concatenate([each.tokens for each in encoded]), np.concatenate([each.times_s for each in encoded])
    )


def segments(audio: Iterable[Waveform], level: AudioLevel | None = None) -> Iterator[Segment]:
    """Split contiguous chunks of audio into segments, each with the level of the whole audio.

    Segments start at fixed times from the start of the audio, so no token depends on the chunks of the caller
    or on the choice of encoded segments. Only one segment is in memory.
    """
    first = 0  # index of the segment's first token in the stream
    for start_s, samples, token_slice in _split(audio):
        count = len(range(len(samples) // TOKEN_HOP)[token_slice])
        if count:
            indices = np.arange(first, first + count, dtype=np.float64)
            yield Segment(
                samples, level, token_slice, start_s + (indices + 0.5) * (TOKEN_HOP / SAMPLE_RATE_HZ)
            )
        first += count


def _split(audio: Iterable[Waveform]) -> Iterator[tuple[float, NDArray[np.float32], slice]]:
    """Yield for each segment: start of the audio (s), samples with context, slice of the segment's tokens."""
    length, context = round(SEGMENT_S * SAMPLE_RATE_HZ), round(CONTEXT_S * SAMPLE_RATE_HZ)
    held = np.empty(0, dtype=np.float32)
    start_s, before = 0.0, 0  # samples of context at the front of `held`
    first = True
    for chunk in audio:
        start_s, first = (chunk.start_s, False) if first else (start_s, False)
        held = np.concatenate([held, chunk.samples])
        while len(held) >= before + length + context:
            token_slice = slice(before // TOKEN_HOP, (before + length) // TOKEN_HOP)
            yield start_s, held[: before + length + context], token_slice
            held = held[before + length - context :]
            before = context
    if len(held) > before:
        yield start_s, held, slice(before // TOKEN_HOP, None)
