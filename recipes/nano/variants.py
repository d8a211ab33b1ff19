"""Networks that nano is held against, made by closing a door in it and keeping it shut while it learns.

    whole-face-only    every gate of the alignment is 0: nothing local is read
    no-audio           sound reaches neither the fusion nor the memory

Nothing else differs, so they train, export and run as nano does.
"""

import torch
from torch import Tensor

from auscan.model.mamba import SelectiveScan
from auscan.model.network import AuscanNetwork

VARIANTS = ("full", "whole-face-only", "no-audio")
_SHUT = -1e4
"""The sigmoid of this is 0 in any precision, whatever is added to it here."""


def close_doors(network: AuscanNetwork, variant: str) -> None:
    """Change the network, in place, to one of VARIANTS."""
    if variant == "whole-face-only":
        freeze_at(network.visual.alignment.gate_weight, 0.0)
        freeze_at(network.visual.alignment.gate_bias, _SHUT)
    if variant == "no-audio":
        freeze_at(network.temporal.fusion.out.weight, 0.0)
        for module in network.temporal.memory.modules():
            if isinstance(module, SelectiveScan):
                freeze_at(module.guide_proj.weight, 0.0)


@torch.no_grad()
def freeze_at(parameter: Tensor, value: float) -> None:
    """Fill a weight and let nothing teach it."""
    parameter.fill_(value).requires_grad_(False)
