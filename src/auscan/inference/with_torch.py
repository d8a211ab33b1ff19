"""The stages in PyTorch: the reference engine.

In and out: numpy, as stages.py says.  Not here: anything the network itself does (model/).
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from auscan.core.config import CheckpointConfig
from auscan.inference.stages import AudioTokens, FaceFeatures
from auscan.model.checkpoint import load_checkpoint
from auscan.model.network import Sound


class TorchStages:
    """The three stages of a checkpoint on the CPU."""

    def __init__(self, checkpoint: str | Path) -> None:
        """Raises CheckpointError where the checkpoint cannot be found or does not fit."""
        self.network, self._config = load_checkpoint(checkpoint)
        # Convolutions on a CPU run faster with channels last.
        self.network.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def config(self) -> CheckpointConfig:
        """The checkpoint's answers about itself."""
        return self._config

    @torch.inference_mode()
    def look(self, crops: NDArray[np.uint8], previous: NDArray[np.float32] | None) -> FaceFeatures:
        """crops [T, S, S, 3] RGB of one face in order of time; previous [N, Dv], None at its first frame."""
        before = None if previous is None else torch.from_numpy(previous)[None]
        looked = self.network.visual(torch.from_numpy(crops)[None], before)
        return FaceFeatures(
            looked.aligned.embedding[0].numpy(),
            looked.aligned.au_tokens[0].numpy(),
            looked.points[0].numpy(),
            looked.last_patches[0].numpy(),
        )

    @torch.inference_mode()
    def encode_sound(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """samples [M] at 16 kHz -> tokens [M // 320, Da]."""
        tokens: NDArray[np.float32] = self.network.audio(torch.from_numpy(samples)[None])[0].numpy()
        return tokens

    @torch.inference_mode()
    def follow(
        self,
        embedding: NDArray[np.float32],
        au_tokens: NDArray[np.float32],
        times_s: NDArray[np.float64],
        sound: AudioTokens | None,
    ) -> NDArray[np.float32]:
        """One whole track [T, d], [T, A, da], [T] s and the sound, None if there is none -> logits [T, A]."""
        heard = None
        if sound is not None:
            tokens = torch.from_numpy(sound.tokens)[None]
            valid = torch.ones(tokens.shape[:2], dtype=torch.bool)
            heard = Sound(tokens, torch.from_numpy(sound.times_s)[None], valid)
        logits: NDArray[np.float32] = self.network.temporal.follow_long(
            torch.from_numpy(embedding), torch.from_numpy(au_tokens), torch.from_numpy(times_s), heard
        ).numpy()
        return logits
