"""An operating point changes the thresholds and nothing else, and is never made up."""

import pytest

from auscan.core.config import Calibration, CheckpointConfig, OperatingPoints, nano
from auscan.core.errors import InputError
from auscan.core.operating import at_point

POINTS = OperatingPoints(balanced=(0.2,) * 12, precise=(0.8,) * 12, sensitive=(0.1,) * 12)
PLAIN = CheckpointConfig(name="mine", auscan_version="0", network=nano())
CHOSEN = PLAIN.model_copy(update={"operating_points": POINTS, "calibration": Calibration(scale=(2.0,) * 12)})


def test_each_point_brings_its_own_thresholds() -> None:
    assert at_point(CHOSEN, "default") == CHOSEN
    for point, value in (("balanced", 0.2), ("precise", 0.8), ("sensitive", 0.1)):
        config = at_point(CHOSEN, point)
        assert config.thresholds == (value,) * 12
        assert config.model_copy(update={"thresholds": CHOSEN.thresholds}) == CHOSEN


def test_a_checkpoint_without_points_refuses_all_but_its_own() -> None:
    assert at_point(PLAIN, "default") == PLAIN
    with pytest.raises(InputError, match=r"mine holds no operating points.*'precise'"):
        at_point(PLAIN, "precise")


def test_a_point_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match=r"'bold' is no operating point\. Take default, balanced, precise, "):
        at_point(CHOSEN, "bold")  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_calibration_that_would_turn_the_order_round_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Calibration(scale=(1.0,) * 11 + (scale,))


def test_a_config_written_before_there_was_calibration_reads_as_uncalibrated() -> None:
    written = PLAIN.model_dump(exclude={"calibration", "operating_points"})
    assert CheckpointConfig.model_validate(written) == PLAIN
