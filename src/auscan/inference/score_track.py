"""Score one track of any length with any engine, then turn logits into calibrated probabilities.

    fuse_audio   cross-attention to the audio around each frame
    scan_block   each block, forward from the first frame and backward from the last
    classify     logits

The same numbers as the network's temporal stage at once, but only a chunk of frames is processed at a time
and only the states of the scans are carried from one to the next.

Inputs: output of `encode_faces` and audio tokens, as arrays or memmaps (read a chunk at a time).
Returns: logits [T, A]; probabilities [..., A], NaN for untrained AUs.
See also: engine.py (the engines), model/bidirectional.py (order of chunks), training/operating_points.py
(fitting a calibration).
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import AU_NAMES
from auscan.core.chunking import chunk_slices
from auscan.core.config import TOKEN_RATE_HZ, Calibration, CheckpointConfig
from auscan.inference.engine import AudioTokens, InferenceEngine, ScanState
from auscan.model.bidirectional import Direction, elapsed_frames, scan_bidirectional

MAX_LOGIT = 700.0
"""Beyond this a logit would overflow, and its probability is 0 or 1 anyhow."""
MIN_PROBABILITY = 1e-7
"""Probabilities are kept this far from 0 and 1 where they are turned back into logits."""


def probabilities(logits: NDArray[np.floating], config: CheckpointConfig) -> NDArray[np.float32]:
    """Calibrated; NaN for AUs that the checkpoint was never taught: [T, A]."""
    shares = calibrate(logits, config.calibration)
    shares[..., [AU_NAMES.index(name) for name in config.untrained_aus]] = np.nan
    return shares.astype(np.float32)


def calibrate(logits: NDArray[np.floating], calibration: Calibration) -> NDArray[np.float64]:
    """sigmoid(scale * logit + shift), AU by AU: [..., A]."""
    scale, shift = np.asarray(calibration.scale), np.asarray(calibration.shift)
    u = np.clip(scale * logits.astype(np.float64) + shift, -MAX_LOGIT, MAX_LOGIT)
    return np.asarray(1.0 / (1.0 + np.exp(-u)))


def to_logits(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """The logits behind uncalibrated probabilities; those of a sheer 0 or 1 end at +-16."""
    shares = np.clip(probabilities.astype(np.float64), MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return np.asarray(np.log(shares / (1.0 - shares)))


CHUNK_FRAMES = 2048
"""Frames that are worked on at a time; bounds the memory, changes no result."""


class RowStorage(Protocol):
    """Array [n, ...] with only a shape and slices of rows: an ndarray, a memmap, or one kept in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, and the shape of each."""

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        """Return rows as an array in memory."""

    def __setitem__(self, rows: slice, values: NDArray[np.float32] | float, /) -> None:
        """Overwrite rows."""


class AudioTokenSource(Protocol):
    """`AudioTokens` whose tokens may be kept outside memory."""

    @property
    def tokens(self) -> RowStorage:
        """[Ta, Da]."""

    @property
    def times_s(self) -> NDArray[np.float64]:
        """[Ta], as in `AudioTokens`."""


Allocate = Callable[[tuple[int, ...]], RowStorage]
"""Gives a float32 array of a shape to write to, its content free: in memory, or a memmap for long tracks."""


def score_track(
    engine: InferenceEngine,
    embedding: RowStorage,
    au_tokens: RowStorage,
    times_s: NDArray[np.float64],
    sound: AudioTokenSource | None,
    chunk_frames: int = CHUNK_FRAMES,
    allocate: Allocate | None = None,
) -> NDArray[np.float32]:
    """Logits [T, A] of one whole track.

    embedding: [T, d]    au_tokens: [T, A, da]    times_s: [T], ascending    sound: None if there is none
    room: asked for two arrays [T, d] and, with sound, one [T, Da]; plain memory if None
    """
    allocate = _allocate_in_memory if allocate is None else allocate
    count = len(times_s)
    chunks = chunk_slices(count, chunk_frames)
    x, spare = allocate(embedding.shape), allocate(embedding.shape)
    audio_condition = None if sound is None else allocate((count, sound.tokens.shape[1]))
    for chunk in chunks:
        x[chunk], condition = fuse_nearby_audio(engine, embedding[chunk], times_s[chunk], sound)
        if audio_condition is not None:
            audio_condition[chunk] = 0.0 if condition is None else condition
    for block in range(engine.blocks):
        _scan_track(engine, block, x, audio_condition, times_s, chunks, spare)
        x, spare = spare, x
    return np.concatenate([engine.classify(x[chunk], au_tokens[chunk]) for chunk in chunks])


def fuse_nearby_audio(
    engine: InferenceEngine,
    embedding: NDArray[np.float32],
    times_s: NDArray[np.float64],
    sound: AudioTokenSource | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """`InferenceEngine.fuse_audio` with only the audio within reach: x [T, d], condition [T, Da] or None.

    None also where no audio is in reach, which is the same as a condition of zeros.
    """
    nearby = _audio_within_reach(engine, times_s, sound)
    return (embedding, None) if nearby is None else engine.fuse_audio(embedding, times_s, nearby)


def audio_margin_s(engine: InferenceEngine) -> float:
    """How far from a frame the sound may lie that it is given, s."""
    return engine.config.network.fusion.reach_s + 2 / TOKEN_RATE_HZ  # and the next token


def audio_gates(
    engine: InferenceEngine,
    embedding: RowStorage,
    times_s: NDArray[np.float64],
    sound: AudioTokenSource | None,
    chunk_frames: int = CHUNK_FRAMES,
) -> NDArray[np.float32]:
    """How far each frame of a track takes the voice in: [T], exactly 0 where none is in reach.

    As `follow` reads it, but on its own: the frames ask a second time, and only where somebody wants to know.
    Raises CheckpointError for an engine without attributions.
    """
    gates = np.zeros(len(times_s), np.float32)
    for chunk in chunk_slices(len(times_s), chunk_frames):
        nearby = _audio_within_reach(engine, times_s[chunk], sound)
        gates[chunk] = engine.audio_gate(embedding[chunk], times_s[chunk], nearby)
    return gates


def _scan_track(
    engine: InferenceEngine,
    block: int,
    x: RowStorage,
    audio_condition: RowStorage | None,
    times_s: NDArray[np.float64],
    chunks: list[slice],
    out: RowStorage,
) -> None:
    """Write the output of a block for x to `out`: [T, d] each."""
    since, until = elapsed_frames(times_s)

    def scan_chunk(
        direction: Direction, chunk: slice, state: ScanState | None
    ) -> tuple[NDArray[np.float32], ScanState]:
        condition = None if audio_condition is None else audio_condition[chunk]
        elapsed = (since if direction == "forward" else until)[chunk]
        return engine.scan_block(block, direction, x[chunk], condition, elapsed, state)

    for direction, chunk, update, _ in scan_bidirectional(scan_chunk, chunks):
        out[chunk] = (x if direction == "forward" else out)[chunk] + update


def _audio_within_reach(
    engine: InferenceEngine, times_s: NDArray[np.float64], sound: AudioTokenSource | None
) -> AudioTokens | None:
    """The sound that frames at times_s [T] can hear; None where there is none."""
    if sound is None or not len(times_s):
        return None
    reach_s = audio_margin_s(engine)
    first, last = np.searchsorted(sound.times_s, [times_s[0] - reach_s, times_s[-1] + reach_s])
    return None if first == last else AudioTokens(sound.tokens[first:last], sound.times_s[first:last])


def _allocate_in_memory(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.empty(shape, dtype=np.float32)
