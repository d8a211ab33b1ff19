"""Several processes, one step: the loss is that of all their windows together.

The mean over the labels of a step is not the mean of the processes' means, and F1 and the contrast between
faces are of a batch as a whole. So each process gathers what the others' networks said, which is small, and
computes the one loss. Gradients flow into its own rows alone; their sum over the processes is the gradient.

In: one process's rows.  Out: everybody's.
Not here: averaging gradients, which accelerate does; who reads what (epoch.py).
"""

from typing import Any

import torch
from torch import Tensor


def gather_rows(accelerator: Any, rows: Tensor) -> Tensor:
    """Rows [F, ...] of every process, F its own affair, in the order of processes: [sum of F, ...].

    Those of this process keep their gradient, the others have none.
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
