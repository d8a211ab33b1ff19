"""Contract of the engines that run the network: ONNX Runtime or PyTorch.

The network is three stages with plain arrays between them. An engine runs what holds for a frame or for a
chunk of frames; everything over time is written once, in NumPy, for all engines: score_track.py for a whole
track, pipeline/live.py for a track that has not ended.

    encode_faces   crops of any faces      -> frame embeddings, AU tokens, refined points
    encode_audio   a segment of sound      -> audio tokens    (audio_segments.py: sound of any length)
    fuse_audio     frames, audio tokens    -> frames after the cross-attention, audio condition
    scan_block     frames, one direction   -> update of a block, state after it
    classify       frames, AU tokens       -> logits

Inputs and outputs: NumPy arrays.
See also: load.py (choose an engine), onnx_engine.py, torch_engine.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from auscan.core.config import CheckpointConfig
from auscan.model.bidirectional import Direction


@dataclass(frozen=True, slots=True)
class FaceAttributions:
    """What the visual stage went by in B crops; read out of the network, not worked out afterwards."""

    patch_weights: NDArray[np.float32]
    """[B, N] in 0..1; exactly 0 for a patch that was not read."""
    attention: NDArray[np.float32]
    """[B, A, N] where the query of each AU looked, the mean of its heads; sums to 1, 0 where not read."""
    gates: NDArray[np.float32]
    """[B, A] in 0..1; how far what the AU's query found is taken in beside the face as a whole."""

    @classmethod
    def from_heads(
        cls, patch_weights: NDArray[np.float32], attention: NDArray[np.float32], gates: NDArray[np.float32]
    ) -> "FaceAttributions":
        """Average the attention over its heads: [B, N], [B, A, H, N], [B, A]."""
        return cls(patch_weights, attention.mean(axis=2), gates)

    def rows(self, part: slice) -> "FaceAttributions":
        """Those of some of the crops."""
        return FaceAttributions(self.patch_weights[part], self.attention[part], self.gates[part])


@dataclass(frozen=True, slots=True)
class VisualFeatures:
    """What the visual stage knows of B crops."""

    embedding: NDArray[np.float32]
    """[B, d]."""
    au_tokens: NDArray[np.float32]
    """[B, A, da]."""
    points: NDArray[np.float32]
    """[B, 5, 2] px of the crop."""
    pose_occlusion: NDArray[np.float32]
    """[B, 3] yaw deg, pitch deg, covered share of the face 0 to 1; means something only where the
    checkpoint's config says so (`has_pose_occlusion`)."""
    last_patches: dict[int, NDArray[np.float32]]
    """[N, Dv] of the last crop of each face in the call; what the next call is to know of them."""
    attributions: FaceAttributions | None = None
    """None unless asked for."""


@dataclass(frozen=True, slots=True)
class AudioTokens:
    """The sound of an input as the temporal stage hears it."""

    tokens: NDArray[np.float32]
    """[Ta, Da]."""
    times_s: NDArray[np.float64]
    """[Ta] on the clock of the frames, ascending; sound that no face hears may be left out."""


class ScanState(NamedTuple):
    """What one direction of one block carries from one chunk of frames to the next."""

    tail: NDArray[np.float32]
    """[conv_width - 1, channels] the last inputs of the short convolution."""
    memory: NDArray[np.float32]
    """[H, P, N] the state of the scan."""


class InferenceEngine(Protocol):
    """The stages of one checkpoint.  No array that is given is kept or written to."""

    @property
    def config(self) -> CheckpointConfig:
        """The checkpoint's answers about itself."""

    @property
    def blocks(self) -> int:
        """How many blocks `scan_block` has."""

    @property
    def has_attributions(self) -> bool:
        """Whether the stages can say what they went by; graphs of an earlier auscan cannot."""

    def encode_faces(
        self,
        crops: NDArray[np.uint8],
        faces: Sequence[int],
        previous: Mapping[int, NDArray[np.float32]],
        attributions: bool = False,
    ) -> VisualFeatures:
        """Crops of any faces in any mixture.

        crops: [B, S, S, 3] RGB, B >= 1    faces: [B] whose each one is; those of a face in order of time
        previous: [N, Dv] patches of a face's last crop before this call; a face not in it just appeared
        attributions: also give what it went by; CheckpointError unless `has_attributions`
        """

    def encode_audio(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """samples [M] at 16 kHz -> tokens [M // 320, Da]."""

    def fuse_audio(
        self, embedding: NDArray[np.float32], times_s: NDArray[np.float64], sound: AudioTokens | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Fuse audio into the frames: x [T, d], and the audio condition [T, Da]; x, None without sound.

        embedding: [T, d]    times_s: [T]    sound: all of it within reach; its cost grows with its length
        """

    def audio_gate(
        self, embedding: NDArray[np.float32], times_s: NDArray[np.float64], sound: AudioTokens | None
    ) -> NDArray[np.float32]:
        """Gate of `fuse_audio` for the same frames: [T] in 0..1, exactly 0 where no audio is in reach.

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
        """Scan a chunk of frames in one direction: the update of a block [T, d], and the state after it.

        x: [T, d] and audio_condition: [T, Da] in the order of time, whichever the direction; T >= 1
        elapsed: [T] of `elapsed_frames`, the side that fits the direction
        state: after the chunk before this one, in the direction of the scan; None at its start
        The block's output is x + both updates.  Any split into chunks gives the same numbers.
        """

    def classify(self, x: NDArray[np.float32], au_tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """x [T, d] after the last block, au_tokens [T, A, da] -> logits [T, A]."""


class PreviousRows(NamedTuple):
    """Where the patches of the frame before are found for each of B crops."""

    rows: NDArray[np.int64]
    """[B] into the B patches of this call, followed by the F carried ones."""
    carried: list[NDArray[np.float32]]
    """F times [N, Dv]."""
    last: dict[int, int]
    """The last row of each face."""


def previous_rows(faces: Sequence[int], previous: Mapping[int, NDArray[np.float32]]) -> PreviousRows:
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
    return PreviousRows(np.asarray(rows, dtype=np.int64), carried, last)
