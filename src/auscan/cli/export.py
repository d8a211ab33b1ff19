"""Run `auscan pack` (training run to checkpoint) and `auscan export` (checkpoint to ONNX graphs).

Inputs: pack: the folder of a run; export: a checkpoint with weights.
Returns: a checkpoint folder for `auscan detect --model`. Exported graphs run without PyTorch; their
differences from PyTorch go to stdout.
See also: training/pack.py, inference/export.py.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from auscan.core.errors import InputError


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="CHECKPOINT", help="Shipped model, checkpoint folder or model on the Hub."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the graphs.")],
    crops: Annotated[
        Path | None,
        typer.Option(
            "--crops",
            metavar="FILE.npy",
            help="Crops of real faces for the comparison: uint8, n x S x S x 3.",
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Quantise the visual convolutions to 8 bits, calibrated on --crops."),
    ] = False,
) -> None:
    """Export CHECKPOINT as ONNX graphs and compare them with PyTorch on noise and on faces."""
    if int8 and crops is None:
        raise InputError(
            "--int8 needs real faces for calibration. Give some hundred crops with --crops FILE.npy."
        )
    from auscan.core.checkpoint_folder import find_checkpoint, pin_checkpoint, read_config
    from auscan.inference.export import export as export_checkpoint
    from auscan.pipeline.demo import demo_crops

    checkpoint = pin_checkpoint(checkpoint)
    side = read_config(find_checkpoint(checkpoint)).network.visual.crop_size
    report = export_checkpoint(
        checkpoint, out, demo_crops(side) if crops is None else _read_crops(crops), int8
    )
    real = report["differences"]["real"]
    typer.echo(f"{out}: {len(report['bytes'])} graphs, {sum(report['bytes'].values()) / 1e6:.1f} MB")
    typer.echo(
        f"Difference from PyTorch on faces: logits at most {real['logits']:.2g}, "
        f"probabilities {real['mean_probability']:.2g} on average."
    )


def _read_crops(file: Path) -> Any:
    import numpy as np

    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} is not a readable NumPy array ({error}). Write it with numpy.save."
        ) from error


def pack(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a run, or its subfolder best or last.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder for the checkpoint.")],
    thresholds: Annotated[
        Path | None,
        typer.Option("--thresholds", metavar="FILE", help="File from `auscan evaluate --save-thresholds`."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Model name in results; default: name of FOLDER.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Checkpoint with the encoders, if the run's has moved.")
    ] = None,
    visual: Annotated[
        list[str] | None, typer.Option("--visual", help="Visual weights, as for `auscan extract`.")
    ] = None,
    audio: Annotated[
        list[str] | None, typer.Option("--audio", help="Audio weights, as for `auscan extract`.")
    ] = None,
) -> None:
    """Pack encoders and network of RUN into a checkpoint for `auscan detect --model`."""
    from auscan.training.pack import pack as pack_run
    from auscan.training.thresholds import read_decision

    decision = None if thresholds is None else read_decision(thresholds)
    config = pack_run(run, out, decision, name, model, visual, audio)
    typer.echo(f"{out}: {config.name}, for auscan detect --model {out}")
    if decision is not None and decision.smooths:
        typer.echo("The thresholds were tuned on smoothed scores; detect does not smooth.", err=True)
