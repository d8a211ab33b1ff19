"""How much two boxes overlap: the one measure that detector, tracker and follow share.

In: boxes as x, y, width, height in px.  Out: intersection over union, 0 (apart) to 1 (the same).
"""

import numpy as np
from numpy.typing import NDArray


def overlap(boxes: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of boxes [n, 4] with others [m, 4] -> [n, m]; 0 where both are empty."""
    a, b = boxes[:, None].astype(np.float64), others[None].astype(np.float64)  # [n, 1, 4], [1, m, 4]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)  # [n, m]
    union = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - shared
    return np.asarray(shared / np.maximum(union, 1e-9))
