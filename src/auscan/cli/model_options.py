"""Options of every command that runs a model: what runs it and where, how it decides, what is judged.

Not here: what they mean (inference/load.py, core/config.py, results/quality.py).
"""

from typing import Annotated, Literal

import typer

BackendOption = Annotated[
    Literal["auto", "torch", "onnx"],
    typer.Option("--backend", help="What runs the model; auto: ONNX Runtime where it can."),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda:0", help="Where it runs; a GPU needs torch.")
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads the model may use; else the engine decides.")
]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Do it on a Ray cluster: auto, local or HOST:PORT."),
]
GpusPerWorkerOption = Annotated[
    float | None,
    typer.Option("--gpus-per-worker", metavar="N", min=0.01, help="With --ray, also a part of one."),
]
OperatingPointOption = Annotated[
    Literal["default", "balanced", "precise", "sensitive"],
    typer.Option("--operating-point", help="Which of the model's thresholds say what is active."),
]
KeepAllOption = Annotated[bool, typer.Option("--keep-all", help="Judge faces that can hardly be read, too.")]
