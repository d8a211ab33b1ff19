"""Tiny networks and features for every layer above: random, a few thousand weights, every part has a say.

Torch is imported inside the fixtures, so that the tests of the layers below it start at once.
"""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from skimage.data import astronaut

from auscan.core.config import (
    AlignmentConfig,
    CheckpointConfig,
    ConvVisualConfig,
    FusionConfig,
    LogMelAudioConfig,
    NetworkConfig,
    TemporalConfig,
)

if TYPE_CHECKING:
    from auscan.datasets.index import Index
    from auscan.model.network import AuscanNetwork

# Read once, when transformers is first imported: no test may ask the hub, on any machine.
os.environ["HF_HUB_OFFLINE"] = "1"

# No test fails because the machine is busy, and CI repeats the same examples.
settings.register_profile(
    "auscan", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("auscan")

MARKERS = {
    "browser": "browser",
    "batch/test_ray.py": "ray",
    "cli/test_train.py": "train",
    "training/test_crossval.py": "train",
    "training/test_encoder.py": "train",
    "training/test_loop.py": "train",
    "training/test_two_processes.py": "train",
    "batch/test_api.py": "slow",
    "batch/test_end_to_end.py": "slow",
    "batch/test_run.py": "slow",
    "benchmarks": "slow",
    "cli/test_demo.py": "slow",
    "cli/test_detect.py": "slow",
    "cli/test_evaluate.py": "slow",
    "cli/test_export.py": "slow",
    "cli/test_live.py": "slow",
    "cli/test_prepare_evaluate.py": "slow",
    "contracts/test_base_install.py": "slow",
    "contracts/test_commands_run.py": "slow",
    "contracts/test_quickstart.py": "slow",
    "contracts/test_site.py": "slow",
    "datasets/synth": "slow",
    "datasets/test_features.py": "slow",
    "datasets/test_video_crops.py": "slow",
    "datasets/test_same_instant.py": "slow",
    "encoders/test_hub.py": "slow",
    "encoders/test_hub_kinds.py": "slow",
    "faults": "slow",
    "media/test_bad_files.py": "slow",
    "pipeline/test_attributions.py": "slow",
    "pipeline/test_demo.py": "slow",
    "pipeline/test_live.py": "slow",
    "pipeline/test_shipped.py": "slow",
    "planted": "planted",
    "recipes": "slow",
    "results/figures/test_report.py": "slow",
    "server/test_attacks.py": "slow",
    "server/test_camera.py": "slow",
    "server/test_jobs.py": "slow",
    "training/test_evaluation.py": "slow",
    "training/test_margins.py": "slow",
    "training/test_module.py": "slow",
    "training/test_not_finite.py": "slow",
    "training/test_operating_points.py": "slow",
    "training/test_optim.py": "slow",
    "training/test_pack.py": "slow",
    "training/test_precision.py": "slow",
    "training/test_several_encoders.py": "slow",
}
"""The marker of all tests of a folder or module below tests/."""
SLOW_FIXTURES = {"tiny_graphs", "other_aus_graphs", "backbones", "desk"}
"""Fixtures that take half a minute, import transformers, or whose tests start many processes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Apply MARKERS; tests that need a browser, Ray or training are also slow."""
    for item in items:
        place = item.path.relative_to(Path(__file__).parent)
        for path in (place, *place.parents):
            if path.as_posix() in MARKERS:
                item.add_marker(MARKERS[path.as_posix()])
        slow = {"browser", "ray", "train", "planted"} & {marker.name for marker in item.iter_markers()}
        if slow or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run the tests of a file in one process, so that its fixtures are made once."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


TINY = NetworkConfig(
    visual=ConvVisualConfig(crop_size=32, widths=(8, 8, 16), blocks=(1, 1, 1)),
    audio=LogMelAudioConfig(mel_bands=16, width=12, blocks=2),
    alignment=AlignmentConfig(width=16, au_width=4, heads=2, active_patches=6),
    fusion=FusionConfig(heads=2),
    temporal=TemporalConfig(blocks=2, head_width=8, state_width=4),
)
UNTRAINED_AUS = ("AU23",)


def _build(config: NetworkConfig = TINY, seed: int = 0) -> "AuscanNetwork":
    """A network in evaluation mode whose weights are all random, also those that start at zero."""
    import torch

    from auscan.model.network import AuscanNetwork

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AuscanNetwork(config)
        for weight in network.parameters():
            if not weight.any():
                weight.data = 0.3 * torch.randn(weight.shape)
        # Heads that are hardly turned and not covered, or no face of the tests would be judged.
        network.visual.pose_occlusion.weight.data *= 0.3
        network.visual.pose_occlusion.bias.data[2] = -4.0
    return network.eval()


@pytest.fixture(scope="session")
def tiny_config() -> NetworkConfig:
    return TINY


@pytest.fixture
def build_network() -> Callable[..., "AuscanNetwork"]:
    """build_network(config, seed) -> a network in which sound, time and every patch matter."""
    return _build


@pytest.fixture
def tiny_network() -> "AuscanNetwork":
    return _build()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny checkpoint that was never taught AU23; not to be written to."""
    from auscan.model.checkpoint import save_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    thresholds = tuple(np.linspace(0.3, 0.7, 12).tolist())
    config = CheckpointConfig(
        name="tiny",
        untrained_aus=UNTRAINED_AUS,
        has_pose_occlusion=True,
        thresholds=thresholds,
        auscan_version="0.1.0",
        network=TINY,
    )
    save_checkpoint(folder, _build(), config, "# Tiny\n")
    return folder


@pytest.fixture(scope="session")
def tiny_graphs(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """The folder `auscan export` makes of it, float32; takes half a minute, not to be written to."""
    from auscan.inference.export import export

    folder = tmp_path_factory.mktemp("graphs") / "tiny"
    crops = np.random.default_rng(5).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    export(tiny_checkpoint, folder, crops)
    return folder


OTHER_AUS = ("AU45", "AU12", "AU05", "AU25", "AU09")
"""AUs in another order than those of Aff-Wild2, and some that it lacks."""


@pytest.fixture(scope="session")
def other_aus_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny checkpoint with `OTHER_AUS` and intensities; not to be written to.

    It was never taught AU05, nor the intensity of AU25.
    """
    from auscan.model.checkpoint import save_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints") / "other-aus"
    network = TINY.model_copy(update={"au_names": OTHER_AUS, "intensity": True})
    config = CheckpointConfig(
        name="other-aus",
        untrained_aus=("AU05",),
        untrained_intensities=("AU25",),
        has_pose_occlusion=True,
        thresholds=(0.4, 0.45, 0.5, 0.55, 0.6),
        auscan_version="0.1.0",
        network=network,
    )
    save_checkpoint(folder, _build(network, seed=1), config, "# Other AUs\n")
    return folder


@pytest.fixture(scope="session")
def other_aus_graphs(tmp_path_factory: pytest.TempPathFactory, other_aus_checkpoint: Path) -> Path:
    """The folder `auscan export` makes of it, float32; takes half a minute, not to be written to."""
    from auscan.inference.export import export

    folder = tmp_path_factory.mktemp("graphs") / "other-aus"
    crops = np.random.default_rng(5).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    export(other_aus_checkpoint, folder, crops)
    return folder


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders dinov2, registers and wavlm in it, as save_pretrained writes them: width 16, two layers."""
    import torch
    from transformers import (
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
        WavLMConfig,
        WavLMModel,
    )

    folder = tmp_path_factory.mktemp("backbones")
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    visual_size = {**size, "mlp_ratio": 2, "image_size": 70, "patch_size": 14, "initializer_range": 0.2}
    audio_size = {**size, "intermediate_size": 32, "conv_dim": (8,) * 7, "initializer_range": 0.2}
    audio_size |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Dinov2Model(Dinov2Config(**visual_size)).save_pretrained(folder / "dinov2")
        registers = Dinov2WithRegistersConfig(num_register_tokens=3, **visual_size)
        Dinov2WithRegistersModel(registers).save_pretrained(folder / "registers")
        WavLMModel(WavLMConfig(**audio_size)).save_pretrained(folder / "wavlm")
    return folder


@pytest.fixture(scope="session")
def portrait() -> NDArray[np.uint8]:
    """[512, 512, 3] RGB: one smiling face, about 84 x 112 px, around x 226, y 119."""
    return np.asarray(astronaut(), dtype=np.uint8)


@pytest.fixture(scope="session")
def make_features() -> Callable[..., tuple[Path, Path]]:
    """make_features(folder, tracks=..., seed, holes) -> folders of an index and of its features."""
    spec = importlib.util.spec_from_file_location(
        "make_features", Path(__file__).parent / "training" / "make_features.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make: Callable[..., tuple[Path, Path]] = module.make_features
    return make


def write_video(path: Path, sound_s: float = 2.0) -> None:
    """A grey video at 10 Hz with a tone that grows higher."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        for _ in range(int(10 * sound_s)):
            image = np.full((48, 64, 3), 90, np.uint8)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(pictures.encode(None))
        time_s = np.arange(int(16_000 * sound_s)) / 16_000
        tone = np.sin(2 * np.pi * (200 + 300 * time_s) * time_s).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.rate, frame.pts = 16_000, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


@pytest.fixture
def make_index(tmp_path: Path) -> Callable[..., "Index"]:
    """make_index({track: one character a frame}): a digit is the picture's brightness, '-' a missing one,
    'x' a broken one. The tracks talk_left and talk_right share the video talk.mp4.
    """

    from auscan.core.aus import AFFWILD2_AUS
    from auscan.datasets.clock import ASSUMED, FrameClock
    from auscan.datasets.index import Track, open_index_writer, read_index
    from auscan.media.video import probe

    def make(tracks: dict[str, str], folder: str = "index") -> "Index":
        root = tmp_path / "data"
        root.mkdir(exist_ok=True)
        if not (root / "talk.mp4").exists():
            write_video(root / "talk.mp4")
        with open_index_writer(tmp_path / folder, {"root": str(root)}) as writer:
            for name, pattern in tracks.items():
                (root / name).mkdir(exist_ok=True)
                images: list[str | None] = []
                for number, sign in enumerate(pattern, start=1):
                    image = f"{name}/{number:05d}.png"
                    if sign == "x":
                        (root / image).write_bytes(b"no picture")
                    elif sign != "-":
                        noise = np.random.default_rng(int(sign)).integers(0, 255, (40, 40, 3), np.uint8)
                        cv2.imwrite(str(root / image), noise)
                    images.append(None if sign == "-" else image)
                has_video = name.startswith("talk")
                info = probe(root / "talk.mp4") if has_video else None
                numbers = np.arange(1, len(pattern) + 1)
                writer.add(
                    Track(
                        name=name,
                        split="train",
                        source_video=name.removesuffix("_left").removesuffix("_right"),
                        numbers=numbers,
                        labels=np.zeros((len(pattern), len(AFFWILD2_AUS)), np.int8),
                        images=images,
                        times_s=(numbers - 1) / 10,
                        clock=FrameClock(times_s=np.empty(0), rate_hz=10.0, source=ASSUMED, info=info),
                        video="talk.mp4" if has_video else None,
                    )
                )
        return read_index(tmp_path / folder)

    return make
