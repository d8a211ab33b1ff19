"""Write a checkpoint as ONNX graphs and compare them with PyTorch.

    visual.onnx                         visual stage, float32 or int8
    audio.onnx                          audio encoder
    hear.onnx, sweep_*.onnx, read.onnx  temporal stage: fusion, scans with explicit state, head
    opening.onnx                        opening of the mouth, from the picture and from the sound
    intensity.onnx                      intensity head, if the checkpoint has intensities
    export.json                         precision, versions and differences from PyTorch
    SHA256SUMS                          checksums of all files

Together with config.json the folder is a checkpoint that runs without PyTorch.

Inputs: a checkpoint with weights, crops of real faces. Returns: a folder and its export report.
See also: model/graphs.py (the graphs as modules), onnx_engine.py (runs them), engine_parity.py (comparison).
"""

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn
from torch.export import Dim

from auscan.core.checkpoint_folder import (
    CHECKSUMS_FILE,
    CONFIG_FILE,
    EXPORT_FILE,
    find_checkpoint,
    scan_graph_name,
    write_checksums,
)
from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP, CheckpointConfig, SeveralAudioConfig
from auscan.core.environment import atomic_path, versions
from auscan.core.errors import AuscanError, InputError
from auscan.inference.engine_parity import compare_engines
from auscan.inference.onnx_engine import OnnxEngine
from auscan.inference.torch_engine import TorchEngine
from auscan.model.bidirectional import DIRECTIONS
from auscan.model.graphs import (
    AudioGraph,
    ClassifierGraph,
    FusionGraph,
    IntensityGraph,
    OpeningGraph,
    ScanGraph,
    VisualGraph,
)
from auscan.model.mamba import BiMambaBlock
from auscan.model.network import AuscanNetwork

OPSET = 20
"""ONNX operator set; the first with GELU as one operator."""
FLOAT_LIMIT = 1e-4
"""Largest allowed difference between the logits of float32 graphs and PyTorch, on real faces."""
INT8_LIMIT = 0.02
"""Largest allowed mean difference between the probabilities of int8 graphs and PyTorch, on real faces."""
CALIBRATION_BATCH = 16
"""Crops per step of the int8 calibration."""


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """Specification of one ONNX graph."""

    module: nn.Module
    """Module to trace."""
    inputs: dict[str, tuple[Tensor, str | None]]
    """Name of each input -> example and name of its first axis; None if the axis has a fixed size."""
    outputs: tuple[str, ...]
    """Names of the outputs."""


def export(checkpoint: str | Path, out: Path, crops: NDArray[np.uint8], int8: bool = False) -> dict[str, Any]:
    """Write the graphs of a checkpoint, compare them with PyTorch and return the content of export.json.

    crops: [n, S, S, 3] uint8 RGB crops of real faces, for the comparison and the int8 calibration
    int8: quantise the residual convolutions of the visual stage to 8 bits; everything else stays float32

    Raises InputError if the crops have another shape or type or the audio encoders need different inputs,
    AuscanError if the graphs differ too much from PyTorch.
    """
    reference = TorchEngine(checkpoint, "cpu")
    _check_one_sound(checkpoint, reference.config)
    side = reference.config.network.visual.crop_size
    if crops.ndim != 4 or crops.shape[1:] != (side, side, 3) or crops.dtype != np.uint8 or not len(crops):
        raise InputError(
            f"The crops are {crops.dtype} of shape {list(crops.shape)}; {checkpoint} needs uint8 of shape "
            f"[n, {side}, {side}, 3]."
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / CHECKSUMS_FILE).unlink(missing_ok=True)  # checksums of earlier files
    for name, spec in graph_specs(reference.network, reference.config).items():
        with atomic_path(out / f"{name}.onnx") as file:
            write_graph(file, spec)
            if int8 and name == "visual":
                quantise(file, crops, reference.network.visual.patch_shape)
    config = (find_checkpoint(checkpoint) / CONFIG_FILE).read_text(encoding="utf-8")
    with atomic_path(out / CONFIG_FILE) as file:
        file.write_text(config, encoding="utf-8")
    report = {
        "precision": "int8" if int8 else "float32",
        "opset": OPSET,
        "versions": versions(),
        "bytes": {file.name: file.stat().st_size for file in sorted(out.glob("*.onnx"))},
        "differences": compare_engines(reference, OnnxEngine(out), crops),
    }
    with atomic_path(out / EXPORT_FILE) as file:
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    write_checksums(out)
    _check_differences(report)
    return report


def _check_one_sound(checkpoint: str | Path, config: CheckpointConfig) -> None:
    """Raise InputError if some audio encoders need the sound scaled by its level, and others as it is."""
    audio = config.network.audio
    if not isinstance(audio, SeveralAudioConfig):
        return
    if len({each.normalise == "file" for each in audio.members}) > 1:
        kinds = ", ".join(f"{each.kind}: {each.normalise}" for each in audio.members)
        raise InputError(
            f"{checkpoint} cannot be exported: its audio encoders scale sound differently ({kinds}), and a "
            "graph has one input for all. Run it with --backend torch."
        )


def graph_specs(network: AuscanNetwork, config: CheckpointConfig) -> dict[str, GraphSpec]:
    """Return the specification of each graph of a network, by name, with example inputs for tracing."""
    side, width = config.network.visual.crop_size, config.network.alignment.width
    au_width, audio_width = config.network.alignment.au_width, network.audio_mix.width
    frames, tokens, window = 50, 80, network.temporal.fusion.window
    x = (torch.randn(frames, width), "T")
    audio_condition = (torch.randn(frames, audio_width), "T")
    au_tokens = (torch.randn(frames, len(config.au_names), au_width), "T")
    specs = {
        "visual": GraphSpec(
            module=VisualGraph(network.visual),
            inputs={
                "crops": (torch.randint(256, (3, side, side, 3), dtype=torch.uint8), "B"),
                "carried": (torch.randn(2, *network.visual.patch_shape), "F"),
                "before": (torch.tensor([0, 3, 4]), "B"),
            },
            outputs=(
                *("embedding", "au_tokens", "points", "sight", "patches"),
                *("patch_weights", "attention", "gates"),
            ),
        ),
        "audio": GraphSpec(
            module=AudioGraph(network.audio, network.audio_mix),
            inputs={"samples": (torch.randn(SAMPLE_RATE_HZ), "M")},
            outputs=("tokens",),
        ),
        "hear": GraphSpec(
            module=FusionGraph(network.temporal),
            inputs={
                "embedding": x,
                "tokens": (torch.randn(tokens, audio_width), "Ta"),
                "window": (torch.randint(tokens, (frames, window)), "T"),
                "audible": (torch.rand(frames, window) > 0.5, "T"),
                "offset_s": (torch.rand(frames, window) - 0.5, "T"),
                "neighbours": (torch.randint(tokens, (frames, 2)), "T"),
                "weights": (torch.rand(frames, 2), "T"),
            },
            outputs=("x", "guide", "gate", "audio_logits"),
        ),
        "read": GraphSpec(
            module=ClassifierGraph(network.temporal),
            inputs={"x": x, "au_tokens": au_tokens},
            outputs=("logits",),
        ),
    }
    if config.format > 1:
        specs["opening"] = GraphSpec(
            module=OpeningGraph(network.temporal),
            inputs={"embedding": x, "tokens": (torch.randn(tokens, audio_width), "Ta")},
            outputs=("seen", "heard"),
        )
    if network.temporal.intensity_head is not None:
        specs["intensity"] = GraphSpec(
            module=IntensityGraph(network.temporal.intensity_head),
            inputs={
                "x": x,
                "au_tokens": au_tokens,
                "logits": (torch.randn(frames, len(config.au_names)), "T"),
            },
            outputs=("intensity",),
        )
    for number, block in enumerate(network.temporal.memory.blocks):
        assert isinstance(block, BiMambaBlock)
        _, state = block.scan("forward", x[0][None], None, torch.ones(1, frames))
        for direction in DIRECTIONS:
            specs[scan_graph_name(number, direction)] = GraphSpec(
                module=ScanGraph(block, direction),
                inputs={
                    "x": x,
                    "guide": audio_condition,
                    "elapsed": (torch.rand(frames), "T"),
                    "tail": (state.tail[0], None),
                    "memory": (state.memory[0], None),
                },
                outputs=("update", "tail_after", "memory_after"),
            )
    return specs


def write_graph(file: Path, spec: GraphSpec) -> None:
    """Trace a module and write its graph."""
    # The exporter logs its progress and warns about torchvision and shared axis names.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    minimum = {"M": TOKEN_HOP}  # shorter audio has no token
    axes = {name: Dim(name, min=minimum.get(name, 0)) for _, name in spec.inputs.values() if name is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            spec.module.eval(),
            tuple(example for example, _ in spec.inputs.values()),
            input_names=list(spec.inputs),
            output_names=list(spec.outputs),
            dynamic_shapes=tuple({0: axes[axis]} if axis else None for _, axis in spec.inputs.values()),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    constants = program.model.graph.initializers
    for name in set(spec.outputs) & set(constants):  # named by their operation, as in "embedding"
        constant = constants.pop(name)
        constant.name = f"{name}_constant"
        constants[constant.name] = constant
    model = program.model_proto
    graph = model.graph
    for element in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.initializer,
        *graph.value_info,
    ):
        del element.metadata_props[:]  # source paths of this machine
    onnx.save(model, file)


def quantise(file: Path, crops: NDArray[np.uint8], patch_shape: tuple[int, int]) -> None:
    """Quantise the residual convolutions of the visual graph in `file` to int8, calibrated on the crops.

    The first convolution, the channel gates, the pooling and the alignment stay float32: they take little
    time and are sensitive to rounding. Weights use 7 bits, because 8 would overflow on processors without
    VNNI.
    Raises InputError if the graph has no such convolutions.
    """
    nodes = residual_convolutions(file)
    if not nodes:
        raise InputError("This visual encoder has no convolutions to quantise to int8. Leave out --int8.")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = Path(folder) / "visual.onnx"
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)  # it recommends a preprocessing that the exporter has done already
        try:
            quantize_static(
                file,
                done,
                CalibrationCrops(crops, patch_shape),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_quantize=nodes,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            logging.disable(before)
        file.write_bytes(done.read_bytes())


def residual_convolutions(file: Path) -> list[str]:
    """Return the names of the residual convolutions in a visual graph, which take most of its time."""
    layers = ("conv1", "conv2", "shortcut")
    nodes = onnx.load(file).graph.node
    return [n.name for n in nodes if n.op_type == "Conv" and any(layer in n.input[1] for layer in layers)]


class CalibrationCrops(CalibrationDataReader):  # type: ignore[misc]
    """Calibration data for `quantize_static`: crops in batches."""

    def __init__(self, crops: NDArray[np.uint8], patch_shape: tuple[int, int]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(
            np.split(crops, range(CALIBRATION_BATCH, len(crops), CALIBRATION_BATCH))
        )
        self._no_patches = np.empty((0, *patch_shape), np.float32)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next inputs of the visual graph; None after the last batch."""
        batch = next(self._batches, None)
        if batch is None:
            return None
        return {"crops": batch, "carried": self._no_patches, "before": np.arange(len(batch))}


def _check_differences(report: dict[str, Any]) -> None:
    """Raise AuscanError if the graphs differ too much from PyTorch."""
    real = report["differences"]["real"]
    name, limit = (
        ("mean_probability", INT8_LIMIT) if report["precision"] == "int8" else ("logits", FLOAT_LIMIT)
    )
    if not real[name] <= limit:
        raise AuscanError(
            f"The graphs were written, but their results differ from PyTorch on the crops: {name} differs by "
            f"{real[name]:.2g}, more than {limit}. See {EXPORT_FILE}; do not use the graphs."
        )
