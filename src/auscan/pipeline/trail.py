"""What the network went by for one face, kept on the disk until the face is gone, then passed on in pieces.

In: the face in frame after frame.  Out: Evidence.
Not here: its file (results/evidence.py), reading it out of the network (inference/).
"""

from collections.abc import Iterator, Sequence

import numpy as np

from auscan.inference.follow import audio_gates
from auscan.inference.stages import AudioTokens, FaceEvidence, Stages
from auscan.pipeline.rows import DiskRows
from auscan.pipeline.watch import SeenFace
from auscan.results.evidence import ROWS, Evidence, to_bytes, to_open_bytes


class Trail:
    """One face while its video is being read."""

    def __init__(self, first: FaceEvidence) -> None:
        self._points = DiskRows((5, 2))
        self._patches = DiskRows(first.patch_weights.shape[1:], np.uint8)
        self._attention = DiskRows(first.attention.shape[1:], np.uint8)
        self._gates = DiskRows(first.gates.shape[1:], np.uint8)

    def add(self, seen: SeenFace) -> None:
        """The face in one more frame."""
        assert seen.evidence is not None
        self._points.append(seen.face.points[None].astype(np.float32))
        self._patches.append(to_open_bytes(seen.evidence.patch_weights))
        self._attention.append(to_bytes(seen.evidence.attention))
        self._gates.append(to_bytes(seen.evidence.gates))

    def pieces(
        self,
        face_id: int,
        frames: Sequence[int],
        times_s: Sequence[float],
        embeddings: DiskRows,
        stages: Stages,
        sound: AudioTokens | None,
    ) -> Iterator[Evidence]:
        """The whole track, ROWS frames at a time; its voice is asked for here, as it was not heard before.

        frames, times_s: [T]    embeddings: [T, d]    sound: all that the track can hear
        """
        for start in range(0, len(frames), ROWS):
            part = slice(start, start + ROWS)
            numbers = np.asarray(frames[part], np.int64)
            gates = audio_gates(stages, embeddings[part], np.asarray(times_s[part], np.float64), sound)
            yield Evidence(
                stages.config.network.visual.crop_size,
                numbers,
                np.full(len(numbers), face_id, np.int64),
                self._points[part],
                self._patches[part],
                self._attention[part],
                self._gates[part],
                to_open_bytes(gates),
            )
