"""Run a checkpoint with ONNX Runtime: the default engine on a CPU, without PyTorch.

`align_audio` computes in NumPy, from float64 times, which audio tokens belong to each frame. The fusion graph
attends to these tokens. model/fusion.py computes the same for batches of tensors with padding; tests compare
the two.

Inputs and outputs: NumPy arrays, see engine.py.
See also: model/graphs.py (the graphs as modules), export.py (writing them).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from auscan.core.checkpoint_folder import (
    find_checkpoint,
    graph_names,
    read_config,
    scan_graph_name,
    verify_checksums,
)
from auscan.core.config import MAX_TOKEN_DISTANCE_S, TOKEN_HOP, CheckpointConfig
from auscan.core.environment import chunk_slices
from auscan.core.errors import CheckpointError
from auscan.inference.engine import (
    AudioLevel,
    AudioTokens,
    FaceAttributions,
    FusedFrames,
    MouthOpening,
    ScanState,
    VisualFeatures,
    previous_rows,
)
from auscan.model.bidirectional import Direction


class AudioWindow(NamedTuple):
    """Inputs of the fusion graph that depend only on times; names as in hear.onnx."""

    window: NDArray[np.int64]
    """Indices of the tokens around each frame [T, W]."""
    audible: NDArray[np.bool_]
    """Mask [T, W]; False beyond the reach and outside the audio."""
    offset_s: NDArray[np.float32]
    """Token time minus frame time [T, W], seconds; 0 if not audible."""
    neighbours: NDArray[np.int64]
    """Indices of the tokens before and after each frame [T, 2]."""
    weights: NDArray[np.float32]
    """Interpolation weights of the neighbours [T, 2]; 0 if no token is near."""


def align_audio(
    frame_s: NDArray[np.float64], token_s: NDArray[np.float64], reach_s: float, width: int
) -> AudioWindow:
    """Compute the audio windows of frames.

    frame_s: [T] seconds    token_s: [Ta] seconds, ascending, Ta >= 1
    reach_s: half-width of the window, seconds    width: tokens in a window, W
    """
    count = len(token_s)
    first = np.searchsorted(token_s, frame_s - reach_s) - 1  # [T]
    indices = first[:, None] + np.arange(width)  # [T, W]
    window = np.clip(indices, 0, count - 1)
    offset_s = token_s[window] - frame_s[:, None]
    audible = (indices == window) & (np.abs(offset_s) <= reach_s)

    after = np.searchsorted(token_s, frame_s)[:, None] + np.array([-1, 0])  # [T, 2]
    neighbours = np.clip(after, 0, count - 1)
    distance_s = np.abs(token_s[neighbours] - frame_s[:, None])
    near = (after == neighbours) & (distance_s <= MAX_TOKEN_DISTANCE_S)
    between = distance_s[:, ::-1] / np.maximum(distance_s.sum(1, keepdims=True), 1e-9)
    weights = np.where(near.all(1, keepdims=True), between, near)
    return AudioWindow(
        window,
        audible,
        np.where(audible, offset_s, 0.0).astype(np.float32),
        neighbours,
        weights.astype(np.float32),
    )


SCAN_FRAMES = 128
"""Frames per call of a scan graph; its cost is quadratic in them."""
FUSION_FRAMES = 256
"""Frames per call of the fusion graph; bounds the memory of their token windows."""
FEATURES = ("embedding", "au_tokens", "points", "sight", "patches")
"""Outputs of the visual graph that every call copies."""
ATTRIBUTIONS = ("patch_weights", "attention", "gates")
"""Outputs of the visual graph that are copied on request."""


class OnnxEngine:
    """Inference engine for the ONNX graphs of a checkpoint, on the CPU."""

    def __init__(self, checkpoint: str | Path, threads: int | None = None) -> None:
        """Open the graphs of a shipped checkpoint or of a folder.

        threads: threads of each call; None uses all cores

        Raises CheckpointError if the checkpoint is not found, or if a graph is missing, unreadable or does
        not match its checksum.
        """
        folder = find_checkpoint(checkpoint)
        self._config = read_config(folder)
        names = graph_names(self._config)
        verify_checksums(folder, [f"{name}.onnx" for name in names])
        self._graphs = {name: open_graph(folder / f"{name}.onnx", threads) for name in names}
        self._outputs = {
            name: {each.name for each in graph.get_outputs()} for name, graph in self._graphs.items()
        }

    @property
    def config(self) -> CheckpointConfig:
        """Config of the checkpoint."""
        return self._config

    @property
    def blocks(self) -> int:
        """Number of blocks of the temporal model."""
        return self._config.network.temporal.blocks

    @property
    def has_attributions(self) -> bool:
        """Whether the graphs have attributions as outputs; graphs written by early versions lack them."""
        return {*ATTRIBUTIONS, "gate"} <= self._outputs["visual"] | self._outputs["hear"]

    def encode_faces(
        self,
        crops: NDArray[np.uint8],
        faces: Sequence[int],
        previous: Mapping[int, NDArray[np.float32]],
        attributions: bool = False,
    ) -> VisualFeatures:
        """Encode crops [B, S, S, 3] RGB of the faces [B], given the previous patches [N, Dv] of each face."""
        before = previous_rows(faces, previous)
        no_patches = np.empty((0, *self._shape("visual", "carried")[1:]), np.float32)
        gates = ("gates",) if self._config.format > 1 and "gates" in self._outputs["visual"] else ()
        embedding, au_tokens, points, pose_occlusion, patches, *others = self._run(
            "visual",
            FEATURES + (ATTRIBUTIONS if attributions else gates),
            crops=crops,
            carried=np.stack(before.carried) if before.carried else no_patches,
            before=before.rows,
        )
        # Copied, because a view would keep the patches of the whole call alive.
        last = {face: patches[row].copy() for face, row in before.last.items()}
        averaged = FaceAttributions.from_heads(*others) if attributions else None
        return VisualFeatures(
            *(embedding, au_tokens, points, pose_occlusion, last),
            others[-1] if gates else None,
            averaged,
        )

    def encode_audio(
        self, samples: NDArray[np.float32], level: AudioLevel | None = None
    ) -> NDArray[np.float32]:
        """Encode samples [M] at 16 kHz, with the level of the whole audio, as tokens [M // 320, Da]."""
        if level is not None:
            samples = level.scale(samples)
        if len(samples) < TOKEN_HOP:
            return np.empty((0, *self._shape("hear", "tokens")[1:]), np.float32)
        return self._run("audio", ("tokens",), samples=samples)[0]

    def fuse_audio(
        self, embedding: NDArray[np.float32], times_s: NDArray[np.float64], audio: AudioTokens | None
    ) -> FusedFrames:
        """Fuse audio into the frames: embedding [T, d], times_s [T]."""
        if audio is None or not len(audio.tokens):
            return FusedFrames(embedding, None, None)
        wanted = ("x", "guide") if self._config.format == 1 else ("x", "guide", "audio_logits")
        x, audio_condition, *late = self._run_fusion(wanted, embedding, times_s, audio)
        return FusedFrames(x, audio_condition, late[0] if late else None)

    def mouth_opening(self, embedding: NDArray[np.float32], audio: AudioTokens | None) -> MouthOpening | None:
        """Predict the opening from embedding [T, d] and from the audio tokens; None for format 1."""
        if self._config.format == 1:
            return None
        tokens = self.encode_audio(np.empty(0, np.float32)) if audio is None else audio.tokens
        return MouthOpening(*self._run("opening", ("seen", "heard"), embedding=embedding, tokens=tokens))

    def audio_gate(
        self, embedding: NDArray[np.float32], times_s: NDArray[np.float64], audio: AudioTokens | None
    ) -> NDArray[np.float32]:
        """Return the gate [T] for embedding [T, d] at times_s [T]."""
        if audio is None or not len(audio.tokens):
            return np.zeros(len(times_s), np.float32)
        return self._run_fusion(("gate",), embedding, times_s, audio)[0]

    def _run_fusion(
        self,
        wanted: tuple[str, ...],
        embedding: NDArray[np.float32],
        times_s: NDArray[np.float64],
        audio: AudioTokens,
    ) -> list[NDArray[np.float32]]:
        """Run the fusion graph over all frames, in calls of `FUSION_FRAMES`; return the wanted outputs."""
        reach_s, width = self._config.network.fusion.reach_s, self._shape("hear", "window")[1]
        window = align_audio(times_s, audio.times_s, reach_s, width)
        outputs = [
            self._run(
                "hear",
                wanted,
                embedding=embedding[chunk],
                tokens=audio.tokens,
                **{name: each[chunk] for name, each in window._asdict().items()},
            )
            for chunk in chunk_slices(len(times_s), FUSION_FRAMES)
        ]
        return [np.concatenate(each) for each in zip(*outputs, strict=True)]

    def scan_block(
        self,
        block: int,
        direction: Direction,
        x: NDArray[np.float32],
        audio_condition: NDArray[np.float32] | None,
        elapsed: NDArray[np.float64],
        state: ScanState | None,
    ) -> tuple[NDArray[np.float32], ScanState]:
        """Scan x [T, d] with audio_condition [T, Da], elapsed [T]; return update [T, d], state after it."""
        name = scan_graph_name(block, direction)
        if audio_condition is None:  # equivalent to zeros
            audio_condition = np.zeros((len(x), *self._shape(name, "guide")[1:]), np.float32)
        if state is None:
            empty = (np.zeros(self._shape(name, each), np.float32) for each in ("tail", "memory"))
            state = ScanState(*empty)
        update = np.empty(x.shape, np.float32)
        order, step = (slice(None), 1) if direction == "forward" else (slice(None, None, -1), -1)
        for chunk in chunk_slices(len(x), SCAN_FRAMES)[::step]:
            chunk_update, tail, memory = self._run(
                name,
                ("update", "tail_after", "memory_after"),
                x=x[chunk][order],
                guide=audio_condition[chunk][order],
                elapsed=elapsed[chunk][order].astype(np.float32),
                tail=state.tail,
                memory=state.memory,
            )
            update[chunk] = chunk_update[order]
            state = ScanState(tail, memory)
        return update, state

    def classify(self, x: NDArray[np.float32], au_tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits [T, A] from x [T, d] and au_tokens [T, A, da]."""
        return self._run("read", ("logits",), x=x, au_tokens=au_tokens)[0]

    def intensity(
        self, x: NDArray[np.float32], au_tokens: NDArray[np.float32], logits: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Estimate intensities [T, A] from x [T, d], au_tokens [T, A, da] and logits [T, A]."""
        return self._run("intensity", ("intensity",), x=x, au_tokens=au_tokens, logits=logits)[0]

    def _run(self, name: str, wanted: tuple[str, ...], **inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Run a graph and return the wanted outputs, in that order; raise CheckpointError if it lacks one."""
        missing = set(wanted) - self._outputs[name]
        if missing:
            raise CheckpointError(
                f"{name}.onnx of {self._config.name} was written by an early version of auscan and has no "
                f"output {', '.join(sorted(missing))}. Write it again with `auscan export`."
            )
        feed = {key: np.ascontiguousarray(value) for key, value in inputs.items()}
        outputs: list[NDArray[np.float32]] = self._graphs[name].run(wanted, feed)
        return outputs

    def _shape(self, name: str, wanted: str) -> tuple[int, ...]:
        """Return the shape of a graph's input; its first entry may be the name of an axis."""
        return next(tuple(each.shape) for each in self._graphs[name].get_inputs() if each.name == wanted)


def open_graph(file: Path, threads: int | None = None) -> ort.InferenceSession:
    """Open a graph on the CPU; raise CheckpointError if the file is missing or unreadable.

    threads: threads of each call; None uses all cores
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # only errors; the warnings are about graph optimisation
    # Idle threads would spin and take CPU time from decoding and face detection, which run in parallel.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not file.is_file():
        raise CheckpointError(
            f"{file} is missing: the checkpoint has no graphs or only some. Write them with `auscan export`."
        )
    try:
        return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has many exception types without a common base
        raise CheckpointError(
            f"{file} cannot be read by ONNX Runtime ({str(error).splitlines()[0][:200]}). "
            f"Copy the checkpoint again, or write the graph again with `auscan export`."
        ) from error
