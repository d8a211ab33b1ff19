"""Test saving and loading of checkpoints, and the errors for damaged ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from auscan.core.checkpoint_folder import CARD_FILE, CHECKSUMS_FILE, CONFIG_FILE, WEIGHTS_FILE
from auscan.core.config import CheckpointConfig, HubAudioConfig, HubVisualConfig, NetworkConfig
from auscan.core.errors import CheckpointError
from auscan.model.checkpoint import load_checkpoint, save_checkpoint
from auscan.model.network import AudioInput, AuscanNetwork

BIAS = "temporal.head.bias"


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny checkpoint without checksums, which a test may damage."""
    return Path(
        shutil.copytree(
            tiny_checkpoint, tmp_path / "corrupted", ignore=shutil.ignore_patterns(CHECKSUMS_FILE)
        )
    )


def corrupt_weights(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    weights = load_file(folder / WEIGHTS_FILE)
    change(weights)
    save_file(weights, folder / WEIGHTS_FILE)


def corrupt_config(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    change(content)
    (folder / CONFIG_FILE).write_text(json.dumps(content), encoding="utf-8")


def refusal(folder: Path) -> str:
    """Return the error message of loading; assert that it names the folder."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    message = str(caught.value)
    assert str(folder) in message
    return message


@torch.no_grad()
def logits_of(network: AuscanNetwork, side: int = 32) -> Tensor:
    """Compute the logits of the network for random crops and noise."""
    random = torch.Generator().manual_seed(0)
    crops = torch.randint(0, 256, (1, 6, side, side, 3), generator=random, dtype=torch.uint8)
    frame_s = torch.arange(6, dtype=torch.float64)[None] / 25
    tokens = network.audio(0.1 * torch.randn(1, 4800, generator=random))
    times_s = (torch.arange(tokens.shape[1], dtype=torch.float64)[None] + 0.5) * 0.02
    logits: Tensor = network(crops, frame_s, AudioInput(tokens, times_s, torch.ones_like(times_s).bool()))
    return logits


def test_a_loaded_network_is_the_saved_one_ready_to_infer(
    tiny_checkpoint: Path, tiny_network: AuscanNetwork
) -> None:
    network, config = load_checkpoint(tiny_checkpoint)
    assert torch.equal(logits_of(network), logits_of(tiny_network))
    assert not network.training
    assert not any(weight.requires_grad for weight in network.parameters())
    assert (config.name, config.untrained_aus) == ("tiny", ("AU23",))
    assert config.thresholds[0] == pytest.approx(0.3)


def test_a_checkpoint_of_format_1_gives_the_logits_of_auscan_0_1() -> None:
    """The shipped nano has format 1. The figures were computed by the commit before format 2."""
    network, config = load_checkpoint("nano")
    assert config.format == 1
    expected = [-0.91965, -0.90752, -1.12054, -0.83441, -0.62566, -1.6573]
    expected += [-1.14341, -2.15, -1.67183, -1.83793, -0.12673, -1.68267]
    assert logits_of(network, side=112)[0, 5].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_converted_checkpoint_has_no_late_path_and_one_selection_for_all_aus() -> None:
    network, _ = load_checkpoint("nano")
    temporal, alignment = network.temporal, network.visual.alignment
    assert not any(weight.any() for weight in temporal.late_path.parameters())
    assert not temporal.audio_condition.proj.weight.any()
    assert not alignment.own_response.any()
    assert torch.equal(alignment.gate.local.weight, alignment.contrast.local.weight)


def test_a_converted_checkpoint_is_saved_as_format_2(tmp_path: Path) -> None:
    network, config = load_checkpoint("nano")
    save_checkpoint(tmp_path / "nano", network, config, "")
    again, config = load_checkpoint(tmp_path / "nano")
    assert config.format == 2
    assert torch.equal(logits_of(again, side=112), logits_of(network, side=112))


def test_a_weight_that_format_1_did_not_have_is_required_of_format_2(folder: Path) -> None:
    corrupt_weights(folder, lambda weights: weights.pop("temporal.late_path.visual.weight"))
    assert "1 missing (temporal.late_path.visual.weight)" in refusal(folder)


def test_running_statistics_of_training_are_part_of_the_checkpoint(
    tiny_network: AuscanNetwork, tmp_path: Path
) -> None:
    crops = torch.randint(0, 256, (1, 8, 32, 32, 3), dtype=torch.uint8)
    tiny_network.train().visual(crops)
    tiny_network.eval()
    config = CheckpointConfig(name="tiny", auscan_version="0.1.0", network=tiny_network.config)
    save_checkpoint(tmp_path / "trained", tiny_network, config, "")
    assert torch.equal(logits_of(load_checkpoint(tmp_path / "trained")[0]), logits_of(tiny_network))


def test_a_folder_holds_weights_config_card_and_sums_and_nothing_half_written(tiny_checkpoint: Path) -> None:
    names = sorted(path.name for path in tiny_checkpoint.iterdir())
    assert names == sorted([CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, CHECKSUMS_FILE])
    assert (tiny_checkpoint / CARD_FILE).read_text("utf-8") == "# Tiny\n"


def test_the_stored_settings_are_those_of_the_network(tiny_network: AuscanNetwork, tmp_path: Path) -> None:
    """A checkpoint with the settings of another network could not be loaded."""
    other = tiny_network.config.model_copy(
        update={"temporal": tiny_network.config.temporal.model_copy(update={"blocks": 5})}
    )
    config = CheckpointConfig(name="tiny", auscan_version="0.1.0", network=other)
    save_checkpoint(tmp_path / "new", tiny_network, config, "")
    assert load_checkpoint(tmp_path / "new")[1].network == tiny_network.config


def test_a_missing_weight_is_named(folder: Path) -> None:
    corrupt_weights(folder, lambda weights: weights.pop(BIAS))
    assert f"1 missing ({BIAS})" in refusal(folder)


def test_an_extra_weight_is_named(folder: Path) -> None:
    corrupt_weights(folder, lambda weights: weights.update({"temporal.tail.bias": torch.zeros(3)}))
    assert "1 unknown (temporal.tail.bias)" in refusal(folder)


def test_a_misshapen_weight_is_named(folder: Path) -> None:
    corrupt_weights(folder, lambda weights: weights.update({BIAS: torch.zeros(11)}))
    assert f"1 misshapen ({BIAS})" in refusal(folder)


def test_a_weight_that_would_only_broadcast_is_misshapen(folder: Path) -> None:
    corrupt_weights(folder, lambda weights: weights.update({BIAS: torch.zeros(1)}))
    assert f"1 misshapen ({BIAS})" in refusal(folder)


def test_a_missing_running_mean_is_named(folder: Path) -> None:
    corrupt_weights(folder, lambda weights: weights.pop("visual.encoder.layers.1.running_mean"))
    assert "1 missing (visual.encoder.layers.1.running_mean)" in refusal(folder)


def test_one_message_names_all_kinds_of_faults_and_shortens_long_lists(folder: Path) -> None:
    def change(weights: dict[str, Tensor]) -> None:
        audio = [name for name in weights if name.startswith("audio.")]
        for name in audio:
            weights[f"x.{name}"] = weights.pop(name)
        weights[BIAS] = torch.zeros(13)

    corrupt_weights(folder, change)
    message = refusal(folder)
    assert f"1 misshapen ({BIAS})" in message
    assert "missing (audio." in message
    assert message.count("x.audio.") == 3
    assert ", ...)" in message


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    """For example the config of one training run with the weights of another."""
    corrupt_config(folder, lambda content: content["network"]["alignment"].update(au_width=8))
    assert "misshapen" in refusal(folder)


def test_sizes_that_do_not_fit_each_other_are_a_config_error(folder: Path) -> None:
    corrupt_config(folder, lambda content: content["network"]["fusion"].update(heads=5))
    message = refusal(folder)
    assert CONFIG_FILE in message
    assert "describes a network that cannot be built" in message


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x08\x00\x00\x00\x00\x00\x00\x00{}{}{}{}"])
def test_weights_that_are_not_safetensors_are_refused(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS_FILE).write_bytes(content)
    assert f"{WEIGHTS_FILE} cannot be read" in refusal(folder)


def test_weights_cut_off_in_copying_are_refused(folder: Path) -> None:
    whole = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(whole[: len(whole) // 2])
    assert f"{WEIGHTS_FILE} cannot be read" in refusal(folder)


def test_weights_with_one_flipped_bit_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Without the checksum they would load and give other results."""
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "flipped"))
    data = bytearray((folder / WEIGHTS_FILE).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(data)
    assert "damaged or changed" in refusal(folder)
    (folder / CHECKSUMS_FILE).unlink()
    load_checkpoint(folder)


def test_missing_weights_are_refused(folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()
    assert f"{WEIGHTS_FILE} cannot be read" in refusal(folder)


def test_a_pickle_is_never_loaded(folder: Path) -> None:
    """Unpickling can run any code that is in the file."""
    # Copied, because load_file maps the file that is overwritten here.
    weights = {name: value.clone() for name, value in load_file(folder / WEIGHTS_FILE).items()}
    torch.save(weights, folder / "pytorch_model.bin")
    torch.save(weights, folder / WEIGHTS_FILE)
    assert f"{WEIGHTS_FILE} cannot be read" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda content: content.update(typo=1), "typo"),
        (lambda content: content["network"]["audio"].update(typo=1), r"network.audio.logmel.typo"),
        (lambda content: content.update(format=3), "format 3"),
        (lambda content: content["au_names"].append("AU01"), "au_names"),
    ],
)
def test_a_config_that_cannot_be_trusted_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], Any], named: str
) -> None:
    corrupt_config(folder, change)
    assert named in refusal(folder)


def test_a_broken_config_is_refused(folder: Path) -> None:
    (folder / CONFIG_FILE).write_text('{"format": 1', encoding="utf-8")
    assert "cannot be read as JSON" in refusal(folder)


@pytest.mark.parametrize("visual", ["dinov2", "registers"])
def test_a_checkpoint_with_backbones_needs_neither_hub_nor_folder(
    backbones: Path,
    tmp_path: Path,
    build_network: Callable[..., AuscanNetwork],
    tiny_config: NetworkConfig,
    visual: str,
) -> None:
    """The folder of the backbones is deleted before loading, and tests have no access to the hub."""
    source = Path(shutil.copytree(backbones, tmp_path / "source"))
    dinov2 = HubVisualConfig(crop_size=28, source=str(source / visual))
    wavlm = HubAudioConfig(source=str(source / "wavlm"))
    network = build_network(tiny_config.model_copy(update={"visual": dinov2, "audio": wavlm}))
    config = CheckpointConfig(name="tiny-vit", auscan_version="0.1.0", network=network.config)
    save_checkpoint(tmp_path / "checkpoint", network, config, "")
    shutil.rmtree(source)
    loaded, _ = load_checkpoint(tmp_path / "checkpoint")
    assert_close(logits_of(loaded, side=28), logits_of(network, side=28))
    assert loaded.config == network.config
