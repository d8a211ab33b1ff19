"""One face over the whole of a video: its features pile up on the disk until it is gone, then it is scored.

In: the face in frame after frame.  Out: TrackScores.
Not here: seeing (watch.py), reading over time (inference/follow.py).
"""

from collections.abc import Iterator

import numpy as np

from auscan.inference.follow import follow
from auscan.inference.probabilities import probabilities
from auscan.inference.stages import AudioTokens, Stages
from auscan.pipeline.rows import DiskRows
from auscan.pipeline.trail import Trail
from auscan.pipeline.watch import SeenFace
from auscan.results.evidence import Evidence
from auscan.results.table import TrackScores

PLACE = 15
"""Numbers that say where a face is: box, score, five points; the parts of its quality follow."""


class Track:
    """One face while its video is being read."""

    def __init__(self, face_id: int, first: SeenFace) -> None:
        self.face_id = face_id
        self.frames: list[int] = []
        self.times_s: list[float] = []
        self._places = DiskRows((PLACE + len(first.parts),))
        self._embeddings = DiskRows(first.embedding.shape)
        self._au_tokens = DiskRows(first.au_tokens.shape)
        self._trail = None if first.evidence is None else Trail(first.evidence)

    def add(self, frame: int, time_s: float, seen: SeenFace) -> None:
        """The face in one more frame."""
        self.frames.append(frame)
        self.times_s.append(time_s)
        place = np.concatenate([seen.face.box, [seen.face.score], seen.points.ravel(), seen.parts])
        self._places.append(place[None].astype(np.float32))
        self._embeddings.append(seen.embedding[None])
        self._au_tokens.append(seen.au_tokens[None])
        if self._trail is not None:
            self._trail.add(seen)

    def evidence(self, stages: Stages, sound: AudioTokens | None) -> Iterator[Evidence]:
        """What the network went by, a piece at a time; nothing where it was not asked for."""
        if self._trail is not None:
            track = self.face_id, self.frames, self.times_s, self._embeddings
            yield from self._trail.pieces(*track, stages, sound)

    def score(self, stages: Stages, sound: AudioTokens | None) -> TrackScores:
        """Read the whole track over time."""
        logits = follow(
            stages,
            self._embeddings.as_array(),
            self._au_tokens.as_array(),
            np.asarray(self.times_s, dtype=np.float64),
            sound,
            room=DiskRows.room,
        )
        places = self._places[:]  # [T, 15 + P]
        return TrackScores(
            face_id=self.face_id,
            frames=np.asarray(self.frames, dtype=np.int64),
            boxes=places[:, :4],
            points=places[:, 5:PLACE].reshape(-1, 5, 2),
            scores=places[:, 4],
            parts=places[:, PLACE:],
            probabilities=probabilities(logits, stages.config),
        )
