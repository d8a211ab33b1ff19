"""Define the options shared by commands that run a model: model, engine, thresholds, face quality, Ray.

See also: inference/load.py, core/config.py, results/table.py (their meaning).
"""

from typing import Annotated, Literal

import typer

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME|DIR|USER/NAME[@REVISION]",
        help="Shipped model, checkpoint folder or model on the Hub.",
    ),
]
BackendOption = Annotated[
    Literal["auto", "torch", "onnx"],
    typer.Option("--backend", help="Inference engine; auto prefers ONNX Runtime."),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda:0", help="Device of the model; a GPU needs torch.")
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of the model; default: chosen by the engine.")
]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Run on a Ray cluster: auto, local or HOST:PORT."),
]
GpusPerWorkerOption = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker",
        metavar="N",
        min=0.01,
        help="GPUs per worker on a Ray cluster; fractions allowed.",
    ),
]
OperatingPointOption = Annotated[
    Literal["default", "balanced", "precise", "sensitive"],
    typer.Option("--operating-point", help="Set of thresholds for active AUs."),
]
KeepAllOption = Annotated[bool, typer.Option("--keep-all", help="Also score low-quality faces.")]
