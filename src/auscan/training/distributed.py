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


def rows_of_all(accelerator: Any, rows: Tensor) -> Tensor:
    """Rows [F, ...] of every process, F its own affair, in the order of processes: [sum of F, ...].

    Those of this process keep their gradient, the others have none.
    """
    if accelerator.num_processes == 1:
        return rows
    counts = accelerator.gather(torch.tensor([len(rows)], device=rows.device)).tolist()
    filled = rows.new_zeros(max(counts), *rows.shape[1:])
    filled[: len(rows)] = rows.detach()
    everybodys = accelerator.gather(filled).reshape(len(counts), *filled.shape)  # [processes, max F, ...]
    parts = [part[:count] for part, count in zip(everybodys, counts, strict=True)]
    parts[accelerator.process_index] = rows
    return torch.cat(parts)
