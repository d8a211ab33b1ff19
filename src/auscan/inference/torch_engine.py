"""Run a checkpoint with PyTorch: the reference engine, and the engine for a GPU.

Inputs and outputs: NumPy arrays, see engine.py.
See also: model/ (the network), onnx_engine.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auscan.core.config import CheckpointConfig
from auscan.core.errors import InputError
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
from auscan.model.checkpoint import load_checkpoint
from auscan.model.head import to_intensity
from auscan.model.mamba import BiMambaBlock, TorchScanState
from auscan.model.network import AudioInput


class TorchEngine:
    """Inference engine for the PyTorch weights of a checkpoint, on one device."""

    def __init__(self, checkpoint: str | Path, device: str = "auto", threads: int | None = None) -> None:
        """Load the network of a shipped checkpoint or of a folder.

        device: "auto" (the first GPU, else the CPU), "cpu" or "cuda:0"
        threads: number of torch threads, set for the whole process; None leaves it unchanged

        Raises CheckpointError if the checkpoint is not found or is invalid, InputError if the device is not
        available.
        """
        self.device = find_device(device)
        self.network, self._config = load_checkpoint(checkpoint)
        self.network.to(self.device)
        # Convolutions on a CPU run faster with channels last.
        self.network.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if threads is not None:
            torch.set_num_threads(threads)

    @property
    def config(self) -> CheckpointConfig:
        """Config of the checkpoint."""
        return self._config

    @property
    def blocks(self) -> int:
        """Number of blocks of the temporal model."""
        return len(self.network.temporal.memory.blocks)

    @property
    def has_attributions(self) -> bool:
        """Always True."""
        return True

    @torch.inference_mode()
    def encode_faces(
        self,
        crops: NDArray[np.uint8],
        faces: Sequence[int],
        previous: Mapping[int, NDArray[np.float32]],
        attributions: bool = False,
    ) -> VisualFeatures:
        """Encode crops [B, S, S, 3] RGB of the faces [B], given the previous patches [N, Dv] of each face."""
        before = previous_rows(faces, previous)
        patches = self.network.visual.patch_shape
        carried = np.stack(before.carried) if before.carried else np.empty((0, *patches), np.float32)
        output = self.network.visual.encode_rows(
            self._tensor(crops), self._tensor(carried), self._tensor(before.rows)
        )
        aligned = output.aligned
        by_head = aligned.patch_weights, aligned.attention, aligned.gates
        last = _array(output.last_patches)  # [B, N, Dv]
        return VisualFeatures(
            _array(aligned.embedding[:, 0]),
            _array(aligned.au_tokens[:, 0]),
            _array(output.points[:, 0]),
            _array(output.pose_occlusion[:, 0]),
            # Copied, because a view would keep the patches of the whole call alive.
            {face: last[row].copy() for face, row in before.last.items()},
            None if self._config.format == 1 else _array(aligned.gates[:, 0]),
            FaceAttributions.from_heads(*(_array(each[:, 0]) for each in by_head)) if attributions else None,
        )

    @torch.inference_mode()
    def encode_audio(
        self, samples: NDArray[np.float32], level: AudioLevel | None = None
    ) -> NDArray[np.float32]:
        """Encode samples [M] at 16 kHz, with the level of the whole audio, as tokens [M // 320, Da]."""
        return _array(self.network.encode_audio(self._tensor(samples)[None], level)[0])

    @torch.inference_mode()
    def fuse_audio(
        self, embedding: NDArray[np.float32], times_s: NDArray[np.float64], audio: AudioTokens | None
    ) -> FusedFrames:
        """Fuse audio into the frames: embedding [T, d], times_s [T]."""
        if audio is None:
            return FusedFrames(embedding, None, None)
        fused = self.network.temporal.fuse_audio(
            self._tensor(embedding)[None], self._tensor(times_s)[None], self._audio_input(audio)
        )
        optional = (None if each is None else _array(each[0]) for each in fused[1:])
        return FusedFrames(_array(fused.x[0]), *optional)

    @torch.inference_mode()
    def mouth_opening(self, embedding: NDArray[np.float32], audio: AudioTokens | None) -> MouthOpening | None:
        """Predict the opening from embedding [T, d] and from the audio tokens; None for format 1."""
        if self._config.format == 1:
            return None
        temporal = self.network.temporal
        tokens = np.empty((0, self.network.audio_mix.width), np.float32) if audio is None else audio.tokens
        seen, heard = temporal.opening(self._tensor(embedding), temporal.norm_audio(self._tensor(tokens)))
        return MouthOpening(_array(seen), _array(heard))

    @torch.inference_mode()
    def audio_gate(
        self, embedding: NDArray[np.float32], times_s: NDArray[np.float64], audio: AudioTokens | None
    ) -> NDArray[np.float32]:
        """Return the gate [T] for embedding [T, d] at times_s [T]."""
        if audio is None:
            return np.zeros(len(times_s), np.float32)
        inputs = self._audio_input(audio)
        temporal = self.network.temporal
        fused = temporal.fusion(
            self._tensor(embedding)[None],
            self._tensor(times_s)[None],
            temporal.norm_audio(inputs.tokens),
            inputs.times_s,
            inputs.valid,
        )
        return _array(fused.gate[0])

    @torch.inference_mode()
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
        module = self.network.temporal.memory.blocks[block]
        assert isinstance(module, BiMambaBlock)
        update, after = module.scan(
            direction,
            self._tensor(x)[None],
            None if audio_condition is None else self._tensor(audio_condition)[None],
            self._tensor(elapsed)[None],
            None if state is None else TorchScanState(*(self._tensor(each)[None] for each in state)),
        )
        return _array(update[0]), ScanState(*(_array(each[0]) for each in after))

    @torch.inference_mode()
    def classify(self, x: NDArray[np.float32], au_tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits [T, A] from x [T, d] and au_tokens [T, A, da]."""
        return _array(self.network.temporal.head(self._tensor(x), self._tensor(au_tokens)))

    @torch.inference_mode()
    def intensity(
        self, x: NDArray[np.float32], au_tokens: NDArray[np.float32], logits: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Estimate intensities [T, A] from x [T, d], au_tokens [T, A, da] and logits [T, A]."""
        head = self.network.temporal.intensity_head
        assert head is not None
        return _array(to_intensity(head(*(self._tensor(each) for each in (x, au_tokens, logits)))))

    def _audio_input(self, audio: AudioTokens) -> AudioInput:
        tokens = self._tensor(audio.tokens)[None]
        valid = torch.ones(tokens.shape[:2], dtype=torch.bool, device=self.device)
        return AudioInput(tokens, self._tensor(audio.times_s)[None], valid)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        """Move an array to the device; a read-only array (part of a memmap) is copied, as torch requires."""
        return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(self.device)


def find_device(name: str) -> torch.device:
    """Return the torch device for "auto", "cpu" or "cuda:0"; raise InputError if it is not available."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"{name!r} is not a device. Give auto, cpu or cuda:0.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"{name} is not available; torch finds {torch.cuda.device_count()} GPUs. Give cpu.")
    return device


def gpus() -> list[str]:
    """Return the names of the GPUs that torch can use, cuda:0 first."""
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.cpu().numpy()
    return array
