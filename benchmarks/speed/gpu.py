"""Measure the throughput of the large encoders and of a training step on a GPU.

    python benchmarks/speed/gpu.py [--size large] [--write]

Measures crops a second of DINOv2, seconds of audio a second of WavLM, and frames a second of a training step
from features, in bf16, each with its share of the arithmetic peak (a large bf16 matrix product in the same
run). The encoders have their real sizes but random weights, so nothing is downloaded; speed does not depend
on the weights. --write puts the table into docs/benchmarks/gpu.md. Needs a GPU.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import Dinov2Config, WavLMConfig

from auscan.core.aus import AFFWILD2_AUS
from auscan.core.config import HubAudioConfig, HubVisualConfig
from auscan.encoders.audio import build_audio_encoder
from auscan.encoders.visual import build_visual_encoder
from auscan.training.config import LossConfig, ModelConfig
from auscan.training.losses import Criterion
from auscan.training.module import FeatureSizes, build_network
from auscan.training.windows import Batch

WIDTHS: Final = {"base": (768, 12, 12), "large": (1024, 24, 16)}
"""Width, layers and heads of both DINOv2 and WavLM."""
CROPS, SOUND_S, WINDOWS, FRAMES = 128, 20, 32, 300
"""Crops in a batch, seconds of audio, windows in a batch, frames in a window."""
SAMPLES_HZ: Final = 16_000
REPEATS: Final = 10


class Throughput(NamedTuple):
    """One row of the table."""

    what: str
    """Name of the row."""
    unit: str
    count: float
    """Units in a call."""
    call_s: float
    """Seconds of a call."""
    flop: float
    """Floating-point operations in a call."""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=list(WIDTHS), default="large", help="size of the encoders")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/gpu.md")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit(
            "torch finds no GPU: torch.cuda.is_available() is False. Run this script on a machine with one."
        )
    device = torch.device("cuda")
    peak = matmul_peak(device)
    lines = [
        visual_throughput(args.size, device),
        audio_throughput(args.size, device),
        training_throughput(args.size, device),
    ]
    table = "\n".join(
        [
            f"{torch.cuda.get_device_name()}, torch {torch.__version__}, `{args.size}`, bf16. Peak: a matrix "
            f"product of size 8,192 reaches {peak / 1e12:.0f} TFLOP/s.",
            "",
            "| stage | throughput | share of the peak |",
            "| --- | --- | --- |",
            *(
                f"| {line.what} | {line.count / line.call_s:,.0f} {line.unit}/s "
                f"| {line.flop / line.call_s / peak:.0%} |"
                for line in lines
            ),
        ]
    )
    print(table)
    if args.write:
        out = Path("docs/benchmarks/gpu.md")
        out.write_text(
            f"# Throughput on a GPU\n\n{table}\n\n`python benchmarks/speed/gpu.py --write`\n",
            encoding="utf-8",
        )


def visual_throughput(size: str, device: torch.device) -> Throughput:
    """Measure DINOv2 on crops."""
    width, layers, heads = WIDTHS[size]
    arch = Dinov2Config(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, image_size=518, patch_size=14
    )
    encoder = build_visual_encoder(HubVisualConfig(arch=arch.to_dict())).to(device).eval()
    crops = torch.randint(0, 256, (CROPS, 224, 224, 3), dtype=torch.uint8, device=device)
    return measure(f"DINOv2-{size}, crops of 224 px", "crops", CROPS, lambda: encoder(crops), device)


def audio_throughput(size: str, device: torch.device) -> Throughput:
    """Measure WavLM on audio."""
    width, layers, heads = WIDTHS[size]
    arch = WavLMConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        feat_extract_norm="layer" if size == "large" else "group",
        do_stable_layer_norm=size == "large",
    )
    encoder: nn.Module = build_audio_encoder(HubAudioConfig(arch=arch.to_dict())).to(device).eval()
    sound = torch.randn(4, SOUND_S * SAMPLES_HZ, device=device)
    return measure(f"WavLM-{size}, audio", "s", 4 * SOUND_S, lambda: encoder(sound), device)


def training_throughput(size: str, device: torch.device) -> Throughput:
    """Measure a training step from features."""
    width, _, _ = WIDTHS[size]
    network = build_network(FeatureSizes(width=width, grid=4, audio_width=width), ModelConfig(size=size)).to(
        device
    )  # type: ignore[arg-type]
    criterion = Criterion(LossConfig(), torch.ones(len(AFFWILD2_AUS)), AFFWILD2_AUS)
    optimizer = torch.optim.AdamW(network.parameters())
    batch = random_batch(width).to(device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            output = network(batch)
        criterion(output).total.backward()
        optimizer.step()
        optimizer.zero_grad()

    return measure(f"training step of `{size}` from features", "frames", WINDOWS * FRAMES, step, device, True)


def random_batch(width: int) -> Batch:
    """Make random features: WINDOWS windows of FRAMES frames at 30 a second, with audio."""
    tokens = FRAMES * 50 // 30
    shape = (WINDOWS, FRAMES)
    return Batch(
        face=torch.randn(*shape, width).half(),
        patches=torch.randn(*shape, 16, width).half(),
        has_face=torch.ones(shape, dtype=torch.bool),
        times_s=(torch.arange(FRAMES, dtype=torch.float64) / 30).repeat(WINDOWS, 1),
        labels=torch.randint(0, 2, (*shape, len(AFFWILD2_AUS))).to(torch.int8),
        covers=torch.full((*shape, len(AFFWILD2_AUS)), -1, dtype=torch.int8),
        intensities=torch.full((*shape, len(AFFWILD2_AUS)), torch.nan),
        own_audio=torch.ones(shape, dtype=torch.bool),
        tracks=tuple(map(str, range(WINDOWS))),
        audio=torch.randn(WINDOWS, tokens, width).half(),
        audio_times_s=((torch.arange(tokens, dtype=torch.float64) + 0.5) / 50).repeat(WINDOWS, 1),
        audio_valid=torch.ones(WINDOWS, tokens, dtype=torch.bool),
        crops=None,
    )


def measure(
    what: str,
    unit: str,
    count: float,
    call: Callable[[], Any],
    device: torch.device,
    has_gradients: bool = False,
) -> Throughput:
    """Measure the mean time of a call after warm-up."""

    def once() -> None:
        if has_gradients:
            call()
            return
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            call()

    once()
    with FlopCounterMode(display=False) as counter:
        once()
    return Throughput(what, unit, count, seconds_of(once), counter.get_total_flops())


def matmul_peak(device: torch.device) -> float:
    """Measure floating-point operations a second of a large bf16 matrix product."""
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    return float(2 * 8192**3 / seconds_of(lambda: a @ b))


def seconds_of(call: Callable[[], Any]) -> float:
    """Measure the seconds of one call, mean over REPEATS."""
    call()
    torch.cuda.synchronize()
    began_s = time.perf_counter()
    for _ in range(REPEATS):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - began_s) / REPEATS


if __name__ == "__main__":
    main()
