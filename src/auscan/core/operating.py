"""Thresholds for a stated goal: a study may bear misses or false marks, seldom both alike.

    default    the checkpoint's own thresholds: best F1, where a recipe chose them
    balanced   as many misses as false marks: how often and how long an AU is active comes out right
    precise    few false marks: best F0.5, precision weighs twice as much as recall
    sensitive  few misses: best F2, recall weighs twice as much as precision

In: the config of a checkpoint.  Out: the same with the thresholds of a point.
Not here: how points are chosen (training/operating.py).
"""

from typing import Literal

from auscan.core.config import CheckpointConfig
from auscan.core.errors import InputError

OperatingPoint = Literal["default", "balanced", "precise", "sensitive"]


def at_point(config: CheckpointConfig, point: OperatingPoint) -> CheckpointConfig:
    """The config with the thresholds of a point in place of its own.

    Raises InputError for a point that does not exist or that the checkpoint does not hold.
    """
    if point == "default":
        return config
    if config.operating_points is None:
        raise InputError(
            f"{config.name} holds no operating points, so there is none called {point!r}. Leave the option "
            "out, or pack the checkpoint again with thresholds from `auscan evaluate --save-thresholds`."
        )
    points = config.operating_points.model_dump()
    if point not in points:
        raise InputError(f"{point!r} is no operating point. Take default, {', '.join(points)}.")
    return config.model_copy(update={"thresholds": points[point]})
