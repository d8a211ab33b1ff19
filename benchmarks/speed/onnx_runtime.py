"""Measure speed and accuracy of ONNX Runtime and int8 for the shipped model.

    python benchmarks/speed/onnx_runtime.py --data ../shared/data                # both tables
    python benchmarks/speed/onnx_runtime.py --data ../shared/data --only speed   # or: differences

Speed: frames a second of the visual stage, for PyTorch and for the graph in several forms. The forms
alternate and the best of some rounds counts; batches of 1, 8 and 32 crops of training faces, 1 and 2 threads.
No other program should run on the machine.

Differences: the shipped model against float32 graphs of the same weights, through `auscan.detect`:
probabilities over all clips, and AUC on `faces_val.parquet` as in accuracy.py.
"""

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for recipes and benchmarks
from auscan.core.checkpoint_folder import SHIPPED_CHECKPOINTS
from auscan.core.environment import versions
from auscan.inference.export import CalibrationCrops, export, residual_convolutions
from auscan.inference.load import load_engine
from auscan.inference.onnx_engine import open_graph
from auscan.inference.torch_engine import TorchEngine
from auscan.pipeline.detect import detect
from benchmarks.accuracy.accuracy import agreement, au_names_of, detect_pictures
from benchmarks.accuracy.held_out_data import real_faces
from recipes.nano.calibrate.export_graphs import calibration_crops

BATCHES = (1, 8, 32)
THREADS = (1, 2)
ROUNDS = 15
PATCHES = (49, 256)
"""Number N and width Dv of the patches of nano."""
Runner = Callable[[NDArray[np.uint8]], object]


def main() -> None:
    """Parse arguments, export float32 graphs, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with faces_*.parquet and clips/")
    parser.add_argument("--only", choices=("speed", "differences"), help="make only one of the tables")
    args = parser.parse_args()
    console = Console(width=110)
    console.print(f"{platform.processor() or platform.machine()}, {versions()}")
    with tempfile.TemporaryDirectory() as folder:
        calibration = calibration_crops(args.data / "faces_train.parquet")
        export("nano", Path(folder), calibration)
        if args.only != "differences":
            console.print(speed(Path(folder), calibration))
        if args.only != "speed":
            console.print(differences(Path(folder), args.data))


def speed(folder: Path, calibration: NDArray[np.uint8]) -> Table:
    """Measure frames a second of each form of the visual stage, and its difference from float32."""
    forms = write_forms(folder, calibration)
    columns = [(threads, batch) for threads in THREADS for batch in BATCHES]
    table = Table(
        "visual stage", "MB", "mean error of the embedding", title="frames a second, threads x batch"
    )
    for threads, batch in columns:
        table.add_column(f"{threads} x {batch}", justify="right")
    best = {name: dict.fromkeys(columns, np.inf) for name in ("PyTorch", *forms)}
    for threads in THREADS:
        runners = {"PyTorch": torch_runner(threads)}
        runners |= {name: graph_runner(file, threads) for name, file in forms.items()}
        for batch in BATCHES:
            for name, seconds in alternate(runners, calibration[:batch]).items():
                best[name][threads, batch] = seconds
    wanted = graph_runner(forms["float32"], 1)(calibration[:64])
    for name, times in best.items():
        off, size = "", ""
        if name in forms:
            off = f"{np.abs(graph_runner(forms[name], 1)(calibration[:64]) - wanted).mean():.5f}"
            size = f"{forms[name].stat().st_size / 1e6:.1f}"
        table.add_row(
            name, size, off, *(f"{batch / times[threads, batch]:.0f}" for threads, batch in columns)
        )
    return table


def alternate(runners: dict[str, Runner], crops: NDArray[np.uint8]) -> dict[str, float]:
    """Return the best time of each runner in seconds, over some rounds with one run each."""
    best = dict.fromkeys(runners, np.inf)
    for _ in range(ROUNDS):
        for name, runner in runners.items():
            began_s = time.perf_counter()
            runner(crops)
            best[name] = min(best[name], time.perf_counter() - began_s)
    return best


def torch_runner(threads: int) -> Runner:
    """Return a function that runs the PyTorch visual stage."""
    engine = TorchEngine("nano", "cpu", threads)
    return lambda crops: engine.encode_faces(crops, range(len(crops)), {})


def graph_runner(file: Path, threads: int) -> Runner:
    """Return a function that runs one form of the visual graph."""
    session = open_graph(file, threads)
    nothing = np.empty((0, *PATCHES), np.float32)

    def run(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        feed = {"crops": crops, "carried": nothing, "before": np.arange(len(crops))}
        return session.run(["embedding"], feed)[0]

    return run


def write_forms(folder: Path, calibration: NDArray[np.uint8]) -> dict[str, Path]:
    """Write the visual graph in all forms. Return their files by name."""
    source = folder / "visual.onnx"
    forms = {"float32": source, "float16 weights": folder / "half" / "visual.onnx"}
    forms["float16 weights"].parent.mkdir()
    store_half(source, forms["float16 weights"])
    kinds = {
        "int8, U8S8, 7-bit weights (shipped)": (QuantType.QUInt8, True),
        "int8, U8S8": (QuantType.QUInt8, False),
        "int8, S8S8": (QuantType.QInt8, False),
    }
    for number, (name, (activation, reduced)) in enumerate(kinds.items()):
        forms[name] = folder / f"int8_{number}" / "visual.onnx"
        forms[name].parent.mkdir()
        quantize_static(
            source,
            forms[name],
            CalibrationCrops(calibration, PATCHES),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=residual_convolutions(source),
            per_channel=True,
            reduce_range=reduced,
            activation_type=activation,
            weight_type=QuantType.QInt8,
        )
    return forms


def store_half(source: Path, target: Path) -> None:
    """Store large weights as float16 and cast them when the graph is loaded."""
    model = onnx.load(source)
    for weight in list(model.graph.initializer):
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size > 1000:
            model.graph.initializer.remove(weight)
            half = numpy_helper.from_array(values.astype(np.float16), f"{weight.name}_half")
            model.graph.initializer.append(half)
            cast = helper.make_node("Cast", [half.name], [weight.name], to=TensorProto.FLOAT)
            model.graph.node.insert(0, cast)
    onnx.save(model, target)


def differences(float32: Path, data: Path) -> Table:
    """Compare the shipped model with float32 graphs of the same weights."""
    table = Table("quantity", "float32", "shipped", "difference", title="shipped model against float32")
    scores = [clip_scores(model, data / "clips") for model in (float32, SHIPPED_CHECKPOINTS / "nano")]
    both = scores[0].merge(scores[1], on=["clip", "frame", "face_id"], suffixes=("", "_int8"))
    au_names = au_names_of(str(float32))
    ours, theirs = (both[[f"{name}{end}" for name in au_names]].to_numpy() for end in ("", "_int8"))
    off = np.abs(ours - theirs)
    table.add_row("faces scored in clips", *(str(len(each)) for each in scores), "")
    table.add_row("mean probability", f"{ours.mean():.4f}", f"{theirs.mean():.4f}", f"{off.mean():.4f}")
    table.add_row(
        "99th percentile and largest difference", "", "", f"{np.quantile(off, 0.99):.4f}, {off.max():.4f}"
    )
    faces = real_faces(data)
    aucs = [
        agreement(detect_pictures(faces, str(model)), faces.truth.of(au_names).labels, au_names)["auc"].mean()
        for model in (float32, SHIPPED_CHECKPOINTS / "nano")
    ]
    row = *(f"{auc:.4f}" for auc in aucs), f"{aucs[1] - aucs[0]:+.4f}"
    table.add_row("mean AUC over ten AUs, faces_val", *row)
    return table


def clip_scores(model: Path, clips: Path) -> pd.DataFrame:
    """Return the rows with a face of all clips."""
    engine = load_engine(model)
    tables = [
        detect(clip, model=engine).to_pandas().assign(clip=clip.name)
        for clip in sorted(clips.iterdir())
        if clip.suffix in (".mp4", ".mov")
    ]
    return pd.concat(tables).query("success == 1")


if __name__ == "__main__":
    main()
