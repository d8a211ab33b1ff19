"""Score one track of any length with any engine, and convert logits to calibrated probabilities.

    fuse_audio   cross-attention to the audio around each frame
    scan_block   each block, forward from the first frame and backward from the last
    classify     logits, and from them intensities

Results equal those of the network's temporal stage for the whole track. Frames are processed in chunks, and
only the scan states are carried from chunk to chunk.

Inputs: output of `encode_faces` and audio tokens, as arrays or memmaps (read a chunk at a time).
Returns: logits [T, A] and intensities [T, A]; probabilities [..., A], NaN for untrained AUs.
See also: engine.py (the engines), model/bidirectional.py (order of chunks), training/operating_points.py
(fitting a calibration).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from auscan.core.config import TOKEN_RATE_HZ, Calibration, CheckpointConfig
from auscan.core.environment import chunk_slices
from auscan.inference.engine import AudioTokens, FusedFrames, InferenceEngine, MouthOpening, ScanState
from auscan.inference.synchrony import MAX_OFFSET_S, VOICE_REACH_S, HeardOpening
from auscan.model.bidirectional import Direction, elapsed_frames, scan_bidirectional

MAX_LOGIT = 700.0
"""Limit of the calibrated logit; exp would overflow beyond it, where the probability is 0 or 1 anyway."""
MIN_PROBABILITY = 1e-7
"""Minimal distance of probabilities from 0 and 1 when they are converted to logits."""


def probabilities(logits: NDArray[np.floating], config: CheckpointConfig) -> NDArray[np.float32]:
    """Return calibrated probabilities [..., A] for logits [..., A]; NaN for untrained AUs."""
    shares = calibrate(logits, config.calibration)
    shares[..., [config.au_names.index(name) for name in config.untrained_aus]] = np.nan
    return shares.astype(np.float32)


def trained_intensities(
    intensity: NDArray[np.float32] | None, config: CheckpointConfig
) -> NDArray[np.float32] | None:
    """Return intensities [..., A] with NaN for AUs without training labels or intensities; None for None."""
    if intensity is None:
        return None
    untrained = {*config.untrained_aus, *config.untrained_intensities}
    return np.where([name in untrained for name in config.au_names], np.float32(np.nan), intensity)


def calibrate(logits: NDArray[np.floating], calibration: Calibration | None) -> NDArray[np.float64]:
    """Compute sigmoid(scale * logit + shift) per AU (Platt scaling): [..., A]; None: sigmoid(logit)."""
    u = logits.astype(np.float64)
    if calibration is not None:
        u = np.asarray(calibration.scale) * u + np.asarray(calibration.shift)
    u = np.clip(u, -MAX_LOGIT, MAX_LOGIT)
    return np.asarray(1.0 / (1.0 + np.exp(-u)))


def to_logits(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Convert uncalibrated probabilities to logits; 0 and 1 become about -16 and +16."""
    shares = np.clip(probabilities.astype(np.float64), MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return np.asarray(np.log(shares / (1.0 - shares)))


CHUNK_FRAMES = 2048
"""Frames of a chunk; bounds the memory, does not change results."""


class RowStorage(Protocol):
    """Array [n, ...] that supports only shape and slices of rows: an ndarray, a memmap or a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, then the shape of a row."""

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        """Return rows as an array in memory."""

    def __setitem__(self, rows: slice, values: NDArray[np.float32] | float, /) -> None:
        """Overwrite rows."""


class AudioTokenSource(Protocol):
    """`AudioTokens` with tokens that may be stored outside memory."""

    @property
    def tokens(self) -> RowStorage:
        """Audio tokens [Ta, Da]."""

    @property
    def times_s(self) -> NDArray[np.float64]:
        """Token times [Ta] in seconds, as in `AudioTokens`."""


class FrameScores(NamedTuple):
    """Output of the network for frames of one face."""

    logits: NDArray[np.float32]
    """Detection logits [T, A], not calibrated."""
    intensity: NDArray[np.float32] | None
    """Intensities [T, A], 0 to 5; None for a checkpoint without intensities."""


Allocate = Callable[[tuple[int, ...]], RowStorage]
"""Function that returns an uninitialised float32 array of a shape: in memory, or a memmap for long tracks."""


def score_track(
    engine: InferenceEngine,
    embedding: RowStorage,
    au_tokens: RowStorage,
    times_s: NDArray[np.float64],
    audio: AudioTokenSource | None,
    chunk_frames: int = CHUNK_FRAMES,
    allocate: Allocate | None = None,
    trust: NDArray[np.float32] | None = None,
) -> FrameScores:
    """Compute the logits, and intensities if the checkpoint has them, of one whole track.

    embedding: [T, d]    au_tokens: [T, A, da]    times_s: [T] seconds, ascending    audio: None if there is
    none
    chunk_frames: frames of a chunk; does not change results
    allocate: called for two arrays [T, d] and, with audio, one [T, Da]; None uses memory
    trust: how far the sound belongs to the face, 0 to 1: [T]; None: fully
    """
    allocate = _allocate_in_memory if allocate is None else allocate
    count = len(times_s)
    chunks = chunk_slices(count, chunk_frames)
    x, spare = allocate(embedding.shape), allocate(embedding.shape)
    audio_condition = None if audio is None else allocate((count, audio.tokens.shape[1]))
    audio_logits: dict[int, NDArray[np.float32] | None] = {}
    for chunk in chunks:
        shares = None if trust is None else trust[chunk]
        fused = fuse_nearby_audio(engine, embedding[chunk], times_s[chunk], audio, shares)
        x[chunk], audio_logits[chunk.start] = fused.x, fused.audio_logits
        if audio_condition is not None:
            audio_condition[chunk] = 0.0 if fused.audio_condition is None else fused.audio_condition
    for block in range(engine.blocks):
        _scan_track(engine, block, x, audio_condition, times_s, chunks, spare)
        x, spare = spare, x
    return join_scores(
        [classify_frames(engine, x[chunk], au_tokens[chunk], audio_logits[chunk.start]) for chunk in chunks]
    )


def join_scores(parts: Sequence[FrameScores]) -> FrameScores:
    """Concatenate consecutive frames."""
    intensity = [part.intensity for part in parts if part.intensity is not None]
    return FrameScores(
        np.concatenate([part.logits for part in parts]), np.concatenate(intensity) if intensity else None
    )


def classify_frames(
    engine: InferenceEngine,
    x: NDArray[np.float32],
    au_tokens: NDArray[np.float32],
    audio_logits: NDArray[np.float32] | None,
) -> FrameScores:
    """Compute the logits of frames, those of the head plus the audio logits [T, A] if any, and intensities.

    x: [T, d], after the last block    au_tokens: [T, A, da]
    """
    logits = engine.classify(x, au_tokens)
    logits = logits if audio_logits is None else logits + audio_logits
    return FrameScores(
        logits, engine.intensity(x, au_tokens, logits) if engine.config.network.intensity else None
    )


def fuse_nearby_audio(
    engine: InferenceEngine,
    embedding: NDArray[np.float32],
    times_s: NDArray[np.float64],
    audio: AudioTokenSource | None,
    trust: NDArray[np.float32] | None = None,
) -> FusedFrames:
    """Run `InferenceEngine.fuse_audio` with only the audio in reach of the frames [T, d].

    trust: [T] in 0..1, scales the influence of the sound; None: 1 for all frames
    """
    nearby = _audio_within_reach(times_s, audio, audio_margin_s(engine))
    if nearby is None:
        return FusedFrames(embedding, None, None)
    fused = engine.fuse_audio(embedding, times_s, nearby)
    return fused if trust is None else _scale_audio(embedding, fused, trust[:, None])


def _scale_audio(
    embedding: NDArray[np.float32], fused: FusedFrames, trust: NDArray[np.float32]
) -> FusedFrames:
    """Scale what the sound changed by the trust [T, 1]; where that is 1, the frames are exactly `fused`."""
    scaled = embedding + trust * (fused.x - embedding)
    return FusedFrames(
        np.where(trust == 1.0, fused.x, scaled),
        *(None if each is None else trust * each for each in (fused.audio_condition, fused.audio_logits)),
    )


def predict_opening(
    engine: InferenceEngine,
    embedding: RowStorage,
    times_s: NDArray[np.float64],
    audio: AudioTokenSource | None,
    chunk_frames: int = CHUNK_FRAMES,
) -> tuple[NDArray[np.float32], HeardOpening] | None:
    """Predict the opening of the mouth in each frame [T], and in the sound that may belong to the frames.

    embedding: [T, d]    times_s: [T] seconds    chunk_frames: does not change results
    None without sound, and for a checkpoint of format 1, which cannot predict it.
    """
    if audio is None or not len(times_s) or engine.config.format == 1:
        return None
    margin_s = VOICE_REACH_S + MAX_OFFSET_S
    first, last = np.searchsorted(audio.times_s, [times_s[0] - margin_s, times_s[-1] + margin_s])
    if first == last:
        return None

    def predict(frames: NDArray[np.float32], tokens: AudioTokens | None) -> MouthOpening:
        opening = engine.mouth_opening(frames, tokens)
        assert opening is not None
        return opening

    frame_chunks = chunk_slices(len(times_s), chunk_frames)
    token_chunks = chunk_slices(int(last - first), chunk_frames, int(first))
    seen = [predict(embedding[chunk], None).seen for chunk in frame_chunks]
    heard = [
        predict(embedding[:0], AudioTokens(audio.tokens[chunk], audio.times_s[chunk])).heard
        for chunk in token_chunks
    ]
    return np.concatenate(seen), HeardOpening(audio.times_s[first:last], np.concatenate(heard))


def audio_margin_s(engine: InferenceEngine) -> float:
    """Return the largest distance between a frame and an audio token that can affect it, in seconds."""
    return engine.config.network.fusion.reach_s + 2 / TOKEN_RATE_HZ  # the reach and the next token


def reading_margin_s(engine: InferenceEngine) -> float:
    """Return `audio_margin_s` for a file whose offset of the sound is not known yet, in seconds."""
    margin_s = audio_margin_s(engine)
    return margin_s if engine.config.format == 1 else max(margin_s, VOICE_REACH_S) + MAX_OFFSET_S


def audio_gates(
    engine: InferenceEngine,
    embedding: RowStorage,
    times_s: NDArray[np.float64],
    audio: AudioTokenSource | None,
    chunk_frames: int = CHUNK_FRAMES,
) -> NDArray[np.float32]:
    """Compute the audio gate of each frame of a track: [T] in 0..1, exactly 0 without audio in reach.

    embedding: [T, d]    times_s: [T] seconds    audio: None if there is none
    `score_track` does not return the gates; this runs the cross-attention again.
    Raises CheckpointError for an engine without attributions.
    """
    gates = np.zeros(len(times_s), np.float32)
    for chunk in chunk_slices(len(times_s), chunk_frames):
        nearby = _audio_within_reach(times_s[chunk], audio, audio_margin_s(engine))
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
    """Write the output of a block for x [T, d] to `out` [T, d]."""
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
    times_s: NDArray[np.float64], audio: AudioTokenSource | None, reach_s: float
) -> AudioTokens | None:
    """Return the audio tokens within `reach_s` of the frames at times_s [T]; None if there are none."""
    if audio is None or not len(times_s):
        return None
    first, last = np.searchsorted(audio.times_s, [times_s[0] - reach_s, times_s[-1] + reach_s])
    return None if first == last else AudioTokens(audio.tokens[first:last], audio.times_s[first:last])


def _allocate_in_memory(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.empty(shape, dtype=np.float32)
