"""Configs are frozen and refuse unknown keys, so that a config.json of another version is an error.

An operating point changes only the thresholds.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from auscan.core import config
from auscan.core.aus import AFFWILD2_AUS
from auscan.core.config import (
    AlignmentConfig,
    Calibration,
    CheckpointConfig,
    ConvVisualConfig,
    FusionConfig,
    HubAudioConfig,
    HubVisualConfig,
    LogMelAudioConfig,
    NetworkConfig,
    OperatingPoints,
    Settings,
    SeveralAudioConfig,
    SeveralVisualConfig,
    TemporalConfig,
    TokenPart,
    base,
    large,
    nano,
    with_operating_point,
)
from auscan.core.errors import InputError

CHECKPOINT = CheckpointConfig(name="tiny", auscan_version="0.1.0", network=nano())
CONFIGS: list[Settings] = [
    ConvVisualConfig(),
    HubVisualConfig(),
    SeveralVisualConfig(members=(HubVisualConfig(), HubVisualConfig(kind="clip"))),
    LogMelAudioConfig(),
    HubAudioConfig(),
    SeveralAudioConfig(members=(HubAudioConfig(), HubAudioConfig(kind="whisper"))),
    TokenPart(width=16),
    AlignmentConfig(),
    FusionConfig(),
    TemporalConfig(),
    Calibration(scale=(1.0,) * 12, shift=(0.0,) * 12),
    OperatingPoints(balanced=(0.5,) * 12, precise=(0.5,) * 12, sensitive=(0.5,) * 12),
    nano(),
    CHECKPOINT,
]


def test_every_config_class_is_tested_here() -> None:
    kinds = {each for each in vars(config).values() if isinstance(each, type) and issubclass(each, Settings)}
    assert kinds == {Settings, *map(type, CONFIGS)}


@pytest.mark.parametrize("part", CONFIGS, ids=lambda part: type(part).__name__)
def test_an_unknown_key_is_refused(part: Settings) -> None:
    with pytest.raises(ValidationError, match="typo"):
        type(part).model_validate({**part.model_dump(), "typo": 1})


@pytest.mark.parametrize("part", CONFIGS, ids=lambda part: type(part).__name__)
def test_settings_cannot_be_changed_afterwards(part: Settings) -> None:
    name = next(iter(type(part).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(part, name, getattr(part, name))


@pytest.mark.parametrize("size", [nano, base, large])
def test_a_named_size_survives_json(size: Callable[[], NetworkConfig]) -> None:
    assert NetworkConfig.model_validate_json(size().model_dump_json()) == size()


def test_base_and_large_are_dinov2_and_wavlm_and_nano_needs_no_hub() -> None:
    kinds = [(size().visual.kind, size().audio.kind) for size in (nano, base, large)]
    assert kinds == [("conv", "logmel"), ("dinov2", "wavlm"), ("dinov2", "wavlm")]
    for size, name in ((base, "base"), (large, "large")):
        visual, audio = size().visual, size().audio
        assert isinstance(visual, HubVisualConfig)
        assert isinstance(audio, HubAudioConfig)
        assert visual.source == f"facebook/dinov2-{name}"
        assert audio.source == f"microsoft/wavlm-{name}"
        assert visual.arch is None
        assert audio.arch is None


def test_the_kind_selects_the_encoder() -> None:
    """Without it, a config with only default values would be ambiguous."""
    visual = {"kind": "dinov2", "source": "somewhere"}
    network = NetworkConfig.model_validate({"visual": visual, "audio": {"kind": "wavlm"}})
    assert network.visual == HubVisualConfig(source="somewhere")
    with pytest.raises(ValidationError, match="kind"):
        NetworkConfig.model_validate({"visual": {"crop_size": 112}, "audio": {"kind": "wavlm"}})


def test_several_encoders_have_the_largest_crop_and_normalise_if_one_does() -> None:
    visual = SeveralVisualConfig(members=(HubVisualConfig(crop_size=32), HubVisualConfig(crop_size=48)))
    assert visual.crop_size == 48
    for members, expected in ((("no", "file"), True), (("no", "segment"), False)):
        audio = SeveralAudioConfig(members=tuple(HubAudioConfig(normalise=each) for each in members))
        network = NetworkConfig(visual=visual, audio=audio)
        assert network.normalises_file is expected
        assert NetworkConfig.model_validate_json(network.model_dump_json()) == network
    with pytest.raises(ValidationError, match="at least 2 items"):
        SeveralAudioConfig(members=(HubAudioConfig(),))


def test_each_stage_of_the_compact_encoder_halves_the_map() -> None:
    assert ConvVisualConfig(crop_size=112, widths=(8, 8, 8, 8)).patch_grid == 7
    assert ConvVisualConfig(crop_size=64, widths=(8, 16)).patch_grid == 16
    assert ConvVisualConfig(widths=(8, 24)).width == 24


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"format": 3}, "format"),
        ({"thresholds": [0.5] * 11}, "thresholds"),
        ({"thresholds": [0.5] * 13}, "thresholds"),
        ({"au_names": [*AFFWILD2_AUS, "AU12"]}, "au_names"),
        ({"untaught": ["AU23", "AU3"]}, "AU3"),
        ({"untrained_intensities": ["AU45"]}, "AU45"),
        ({"crop_template": "eyes"}, "crop_template"),
        ({"sample_rate_hz": 8000}, "sample_rate_hz"),
    ],
)
def test_a_checkpoint_that_would_be_read_wrongly_is_refused(wrong: dict[str, Any], named: str) -> None:
    """For example, columns in another order would be written under the names of other AUs."""
    right = json.loads(CHECKPOINT.to_json())
    assert CheckpointConfig.model_validate(right) == CHECKPOINT
    with pytest.raises(ValidationError, match=named):
        CheckpointConfig.model_validate(right | wrong)


def test_a_checkpoint_is_stored_under_the_keys_of_format_1() -> None:
    """Renamed fields keep their stored key, so that earlier checkpoints load."""
    config = CHECKPOINT.model_copy(update={"untrained_aus": ("AU23",), "has_pose_occlusion": True})
    stored = json.loads(config.to_json())
    assert (stored["untaught"], stored["sight"]) == (["AU23"], True)
    assert not {"untrained_aus", "has_pose_occlusion"} & stored.keys()
    assert CheckpointConfig.model_validate(stored) == config


def test_a_number_of_active_patches_has_priority_over_the_share() -> None:
    """A stored network has the number; one that is larger than the number of patches keeps all of them."""
    assert AlignmentConfig().active_count(49) == 12
    assert AlignmentConfig().active_count(1) == 1
    assert AlignmentConfig().with_active_count(16) == AlignmentConfig(active_patches=4)
    stored = AlignmentConfig.model_validate({"width": 8, "active_patches": 64})
    assert stored.with_active_count(16) is stored
    assert (stored.active_count(16), stored.active_count(256)) == (16, 64)
    for wrong in ({"active_patches": 0}, {"active_share": 0.0}, {"active_share": 1.0}):
        with pytest.raises(ValueError, match=r"greater than|less than"):
            AlignmentConfig.model_validate(wrong)


POINTS = OperatingPoints(balanced=(0.2,) * 12, precise=(0.8,) * 12, sensitive=(0.1,) * 12)
PLAIN = CheckpointConfig(name="mine", auscan_version="0", network=nano())
CHOSEN = PLAIN.model_copy(
    update={"operating_points": POINTS, "calibration": Calibration(scale=(2.0,) * 12, shift=(0.0,) * 12)}
)


def test_each_operating_point_has_its_own_thresholds() -> None:
    assert with_operating_point(CHOSEN, "default") == CHOSEN
    for point, value in (("balanced", 0.2), ("precise", 0.8), ("sensitive", 0.1)):
        config = with_operating_point(CHOSEN, point)
        assert config.thresholds == (value,) * 12
        assert config.model_copy(update={"thresholds": CHOSEN.thresholds}) == CHOSEN


def test_a_checkpoint_without_operating_points_refuses_all_but_the_default() -> None:
    assert with_operating_point(PLAIN, "default") == PLAIN
    with pytest.raises(InputError, match=r"mine has no operating points.*'precise'"):
        with_operating_point(PLAIN, "precise")


def test_an_unknown_operating_point_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"'bold' is not an operating point\. Use one of: default, balanced, precise, "
    ):
        with_operating_point(CHOSEN, "bold")  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_calibration_that_would_reverse_the_order_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Calibration(scale=(1.0,) * 11 + (scale,), shift=(0.0,) * 12)


FIVE = ("AU45", "AU12", "AU05", "AU25", "AU09")


def test_a_checkpoint_has_the_aus_of_its_network() -> None:
    network = nano().model_copy(update={"au_names": FIVE})
    config = CheckpointConfig(name="five", auscan_version="0", network=network)
    assert config.au_names == FIVE
    assert config.thresholds == (0.5,) * 5


def test_the_aus_are_stored_beside_the_network_and_read_back_into_it() -> None:
    network = nano().model_copy(update={"au_names": FIVE})
    config = CheckpointConfig(name="five", auscan_version="0", network=network)
    stored = json.loads(config.to_json())
    assert stored["au_names"] == list(FIVE)
    assert "au_names" not in stored["network"]
    assert CheckpointConfig.model_validate(stored) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": (0.5,) * 5}, "thresholds\n.*must have 12 numbers, one per AU, got 5"),
        ({"untaught": ("AU45",)}, "'AU45' is not one of AU01"),
        ({"au_names": ("AU12", "AU12")}, "AU12: given more than once"),
        ({"au_names": ("AU1",)}, "Write AU01 in place of 'AU1'"),
        ({"au_names": ("AU03",)}, "'AU03' is not an action unit"),
        ({"au_names": ()}, "needs at least one"),
        ({"operating_points": {"balanced": (0.1,), "precise": (0.1,), "sensitive": (0.1,)}}, "must have 12"),
    ],
)
def test_numbers_and_names_that_do_not_fit_the_au_set_are_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        CheckpointConfig.model_validate({**json.loads(PLAIN.to_json()), **change})


def test_a_config_without_calibration_is_read_as_uncalibrated() -> None:
    written = PLAIN.model_dump(exclude={"calibration", "operating_points"})
    assert CheckpointConfig.model_validate(written) == PLAIN
