"""Read one face over time while it goes on: forward exactly, backward as far as has been seen.

Each block's forward memory is carried over what was given out. Behind it lies a window of frames that still
wait; the backward memory begins at the window's end as if the video ended there. So the first frames of the
window know all that came before and the look-ahead, and those are given out. With the whole video as the
window this is `inference.follow`.

In: the face frame after frame, the sound so far.  Out: logits of the frames that have waited long enough.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from auscan.core.aus import AU_COUNT
from auscan.inference.follow import elapsed_frames, hear_around
from auscan.inference.stages import AudioTokens, Stages, SweepState
from auscan.pipeline.watch import SeenFace


@dataclass(frozen=True, slots=True)
class Waiting:
    """One frame of the window."""

    index: int
    time_s: float
    seen: SeenFace


@dataclass
class LiveTrack:
    """One face of a video that has not ended."""

    stages: Stages
    window: list[Waiting] = field(default_factory=list)
    seen_s: float = -np.inf
    """When it was last in the picture."""
    _states: dict[int, SweepState] = field(default_factory=dict)
    """Of each block, after the last frame that was given out."""
    _given_s: float | None = None
    """Time of that frame."""

    def add(self, index: int, time_s: float, seen: SeenFace) -> None:
        """The face in the next frame."""
        self.window.append(Waiting(index, time_s, seen))
        self.seen_s = time_s

    def give(self, until_s: float, sound: AudioTokens | None) -> tuple[list[Waiting], NDArray[np.float32]]:
        """The frames up to a moment with their logits [n, A]; they leave the window."""
        times_s = np.array([frame.time_s for frame in self.window])
        count = int(np.searchsorted(times_s, until_s, side="right"))
        if count == 0:
            return [], np.empty((0, AU_COUNT), np.float32)
        embedding = np.stack([frame.seen.embedding for frame in self.window])  # [T, d]
        x, guide = hear_around(self.stages, embedding, times_s, sound)
        for block in range(self.stages.blocks):
            x = self._remember(block, x, guide, times_s, count)
        au_tokens = np.stack([frame.seen.au_tokens for frame in self.window[:count]])
        given, self.window = self.window[:count], self.window[count:]
        self._given_s = given[-1].time_s
        return given, self.stages.read(x[:count], au_tokens)

    def _remember(
        self,
        block: int,
        x: NDArray[np.float32],
        guide: NDArray[np.float32] | None,
        times_s: NDArray[np.float64],
        count: int,
    ) -> NDArray[np.float32]:
        """What a block makes of the window [T, d]; its forward memory goes on by `count` frames."""
        ahead, back = elapsed_frames(times_s)
        if self._given_s is not None:
            ahead = elapsed_frames(np.concatenate([[self._given_s], times_s]))[0][1:]
        out = x + self.stages.sweep(block, "back", x, guide, back, None)[0]
        state = self._states.get(block)
        for part in (slice(0, count), slice(count, None)):
            if len(x[part]):
                heard = None if guide is None else guide[part]
                update, state = self.stages.sweep(block, "ahead", x[part], heard, ahead[part], state)
                out[part] += update
            if part.stop is not None:
                assert state is not None
                self._states[block] = state
        return out
