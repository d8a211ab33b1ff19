"""Gather the outputs of several processes, so that a step has the loss of all its windows.

The mean over the labels of a step is not the mean of the processes' means, and soft F1 and the contrastive
loss depend on the whole batch. Each process therefore gathers the outputs of the others, which are small, and
computes the loss of the whole step. Gradients flow into its own rows only; their sum over the processes is
the gradient of the step.

Inputs: the rows of one process. Returns: the rows of all processes.
See also: loop.py (gradients, averaged by accelerate), epoch.py (batches of each process).
"""

from typing import Any

import torch
from torch import Tensor


def gather_rows(accelerator: Any, rows: Tensor) -> Tensor:
    """Gather rows [F, ...] of every process in the order of processes: [sum of F, ...].

    F may differ between processes. The rows of this process keep their gradient, the others have none.
    """
    if accelerator.num_processes == 1:
        return rows
    counts = accelerator.gather(torch.tensor([len(rows)], device=rows.device)).tolist()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    gathered = accelerator.gather(padded).reshape(len(counts), *padded.shape)  # [processes, max F, ...]
    by_process = [part[:count] for part, count in zip(gathered, counts, strict=True)]
    by_process[accelerator.process_index] = rows
    return torch.cat(by_process)
