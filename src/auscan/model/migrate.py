"""Convert weights of checkpoint format 1 (auscan 0.1.0) to the network of format 2.

The network of format 1 is a special case of today's: all AUs select the same patches, nothing is added on the
late path, and no audio condition is added to the input of the temporal model. The conversion therefore
renames weights, copies the projections that gate and contrast shared, and sets the new ones to the values at
which they have no effect. Logits are exactly the same.

Inputs: weights of model.safetensors by name. Returns: the same for format 2.
See also: checkpoint.py (reads the file), training/run.py (networks of auscan train).
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

RENAMED = (
    (r"\bahead_scan\.", "forward_scan."),
    (r"\bback_scan\.", "backward_scan."),
    (r"\bmemory\.guide_proj\.", "audio_condition.proj."),  # of the temporal controls
    (r"\bguide_proj\.", "audio_condition.proj."),
    (r"\bvisual\.sight\.", "visual.pose_occlusion."),
    (r"\bfusion\.face_asks\.", "fusion.face_attention."),
    (r"\bfusion\.voice_asks\.", "fusion.audio_attention."),
    (r"\bfusion\.voice_in\.", "fusion.audio_in."),
    (r"\bfusion\.voice_out\.", "fusion.audio_out."),
    (r"\balignment\.gate_weight$", "alignment.gate.agreement"),
    (r"\balignment\.gate_bias$", "alignment.gate.bias"),
    (r"\balignment\.share_local\.", "alignment.contrast.local."),
    (r"\balignment\.share_global\.", "alignment.contrast.face."),
)
"""Pattern in a name of format 1 -> its replacement."""
ADDED = (
    r"\balignment\.own_response$",
    r"\balignment\.gate\.evidence$",
    r"\balignment\.contrast\.(aspect|raw_scale)$",
    r"\btemporal\.norm_audio\.(mean|std)$",
    r"\btemporal\.audio_condition\.proj\.weight$",
    r"\btemporal\.late_path\.",
    r"\btemporal\.opening\.",
)
"""Patterns of the names that format 1 lacks."""
KEEPS_INITIAL_VALUE = r"\.(aspect|raw_scale|std)$"
"""Of these, the names whose initial value has no effect. That of the others is 0."""


def from_format_1(weights: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Return weights of format 1 for `module`, which has the names of format 2.

    Weights that cannot be converted keep their names, so that the caller can name them.
    """
    migrated: dict[str, Tensor] = {}
    for stored, value in weights.items():
        name = stored
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        migrated[name] = value
        if "share_" in stored:  # format 1 has one projection for contrast and gate
            migrated[name.replace(".contrast.", ".gate.")] = value
    for name, value in module.state_dict().items():
        if name not in migrated and any(re.search(pattern, name) for pattern in ADDED):
            keeps = re.search(KEEPS_INITIAL_VALUE, name) is not None
            migrated[name] = value if keeps else torch.zeros_like(value)
    return migrated
