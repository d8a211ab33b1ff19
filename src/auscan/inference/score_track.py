"""From logits to what is written into tables: calibrated probabilities, NaN where nothing was taught.

In: logits [..., A], the checkpoint's answers.  Out: probabilities [..., A].
Not here: fitting a calibration (training/calibration.py), thresholds (core/operating.py).

Follow one track over time, whichever engine runs the stages: a whole track of any length.

    hear      every frame asks the sound around it
    sweep     each block's memory, forward from the beginning and backward from the end
    read      the logits

The same numbers as the network's temporal stage at once, but only a stretch of frames is worked on at a time
and only the states of the memory are carried from one to the next.

In: what `look` and `listen` gave, as arrays or as memmaps (read a stretch at a time).  Out: logits [T, A].
Not here: the stages (stages.py and the engines).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import AU_NAMES
from auscan.core.config import CLOCK_HZ, LONGEST_GAP, TOKEN_RATE_HZ, Calibration, CheckpointConfig
from auscan.inference.engine import AudioTokens, Direction, Stages

FAR = 700.0
"""Beyond this a logit would overflow, and its probability is 0 or 1 anyhow."""
SURE = 1e-7
"""Probabilities are kept this far from 0 and 1 where they are turned back into logits."""


def probabilities(logits: NDArray[np.floating], config: CheckpointConfig) -> NDArray[np.float32]:
    """Calibrated; NaN for AUs that the checkpoint was never taught: [T, A]."""
    shares = calibrate(logits, config.calibration)
    shares[..., [AU_NAMES.index(name) for name in config.untaught]] = np.nan
    return shares.astype(np.float32)


def calibrate(logits: NDArray[np.floating], calibration: Calibration) -> NDArray[np.float64]:
    """sigmoid(scale * logit + shift), AU by AU: [..., A]."""
    scale, shift = np.asarray(calibration.scale), np.asarray(calibration.shift)
    u = np.clip(scale * logits.astype(np.float64) + shift, -FAR, FAR)
    return np.asarray(1.0 / (1.0 + np.exp(-u)))


def logits_of(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """The logits behind uncalibrated probabilities; those of a sheer 0 or 1 end at +-16."""
    shares = np.clip(probabilities.astype(np.float64), SURE, 1 - SURE)
    return np.asarray(np.log(shares / (1.0 - shares)))


STRETCH = 2048
"""Frames that are worked on at a time; bounds the memory, changes no result."""

Room = Callable[[tuple[int, int]], NDArray[np.float32]]
"""Gives a float32 array of a shape to write to, its content free: in memory, or a memmap for long tracks."""


def follow(
    stages: Stages,
    embedding: NDArray[np.float32],
    au_tokens: NDArray[np.float32],
    times_s: NDArray[np.float64],
    sound: AudioTokens | None,
    stretch: int = STRETCH,
    room: Room | None = None,
) -> NDArray[np.float32]:
    """Logits [T, A] of one whole track.

    embedding: [T, d]    au_tokens: [T, A, da]    times_s: [T], ascending    sound: None if there is none
    room: asked for two arrays [T, d] and, with sound, one [T, Da]; plain memory if None
    """
    room = _in_memory if room is None else room
    count = len(times_s)
    parts = [slice(start, min(start + stretch, count)) for start in range(0, count, stretch)]
    x, spare = room(embedding.shape), room(embedding.shape)
    guide = None if sound is None else room((count, sound.tokens.shape[1]))
    for part in parts:
        x[part], heard = hear_around(stages, embedding[part], times_s[part], sound)
        if guide is not None:
            guide[part] = 0.0 if heard is None else heard
    for block in range(stages.blocks):
        _remember(stages, block, x, guide, times_s, parts, spare)
        x, spare = spare, x
    return np.concatenate([stages.read(x[part], au_tokens[part]) for part in parts])


def hear_around(
    stages: Stages,
    embedding: NDArray[np.float32],
    times_s: NDArray[np.float64],
    sound: AudioTokens | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """`Stages.hear`, given no more of the sound than the frames can hear: x [T, d], guide [T, Da] or None.

    None also where all sound is far away: a guide of zeros says the same.
    """
    near = _within_reach(stages, times_s, sound)
    return (embedding, None) if near is None else stages.hear(embedding, times_s, near)


def earshot_s(stages: Stages) -> float:
    """How far from a frame the sound may lie that it is given, s."""
    return stages.config.network.fusion.reach_s + 2 / TOKEN_RATE_HZ  # and the next token


def audio_gates(
    stages: Stages,
    embedding: NDArray[np.float32],
    times_s: NDArray[np.float64],
    sound: AudioTokens | None,
    stretch: int = STRETCH,
) -> NDArray[np.float32]:
    """How far each frame of a track takes the voice in: [T], exactly 0 where none is in reach.

    As `follow` reads it, but on its own: the frames ask a second time, and only where somebody wants to know.
    Raises CheckpointError for stages without evidence.
    """
    count = len(times_s)
    gates = np.zeros(count, np.float32)
    for start in range(0, count, stretch):
        part = slice(start, min(start + stretch, count))
        near = _within_reach(stages, times_s[part], sound)
        gates[part] = stages.audio_gate(embedding[part], times_s[part], near)
    return gates


def elapsed_frames(times_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Time since the previous frame, and until the next one, in 1/30 s: two arrays [T].

    times_s: [T], ascending.  As in model/mamba.py: clamped to [0, 30], and 1 where there is no neighbour.
    """
    gaps = np.clip(np.diff(times_s) * CLOCK_HZ, 0.0, LONGEST_GAP)  # [T - 1]
    return np.concatenate([[1.0], gaps]), np.concatenate([gaps, [1.0]])


def _remember(
    stages: Stages,
    block: int,
    x: NDArray[np.float32],
    guide: NDArray[np.float32] | None,
    times_s: NDArray[np.float64],
    parts: list[slice],
    out: NDArray[np.float32],
) -> None:
    """Write to `out` what a block makes of x: [T, d] each."""
    ahead, back = elapsed_frames(times_s)
    sweeps: list[tuple[Direction, NDArray[np.float64], list[slice]]] = [
        ("ahead", ahead, parts),
        ("back", back, parts[::-1]),
    ]
    for direction, elapsed, order in sweeps:
        state = None
        for part in order:
            heard = None if guide is None else guide[part]
            update, state = stages.sweep(block, direction, x[part], heard, elapsed[part], state)
            out[part] = (x if direction == "ahead" else out)[part] + update


def _within_reach(
    stages: Stages, times_s: NDArray[np.float64], sound: AudioTokens | None
) -> AudioTokens | None:
    """The sound that frames at times_s [T] can hear; None where there is none."""
    if sound is None or not len(times_s):
        return None
    reach_s = earshot_s(stages)
    first, last = np.searchsorted(sound.times_s, [times_s[0] - reach_s, times_s[-1] + reach_s])
    return None if first == last else AudioTokens(sound.tokens[first:last], sound.times_s[first:last])


def _in_memory(shape: tuple[int, int]) -> NDArray[np.float32]:
    return np.empty(shape, dtype=np.float32)
