"""`auscan export`: write a checkpoint as ONNX graphs that run without PyTorch.

In: a checkpoint with weights.  Out: a folder that is a checkpoint itself, and on stdout how far it is from
PyTorch.
Not here: the work itself (inference/export.py).

`auscan pack`: make a checkpoint of what a training run taught.

In: the folder of a run.  Out: the folder of a checkpoint, for `auscan detect --model`.
Not here: the work itself (training/pack.py).
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from auscan.core.errors import InputError


def export(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A shipped model or a folder.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the graphs.")],
    crops: Annotated[
        Path | None,
        typer.Option("--crops", metavar="FILE.npy", help="Crops of real faces, uint8 [n, S, S, 3]."),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="The face's convolutions in 8 bits, calibrated on --crops.")
    ] = False,
) -> None:
    """Write CHECKPOINT as ONNX graphs, checked against PyTorch on noise and on faces."""
    if int8 and crops is None:
        raise InputError("--int8 is calibrated on real faces. Give some hundred crops with --crops FILE.npy.")
    from auscan.core.checkpoint_folder import find_checkpoint, read_config
    from auscan.inference.export import export as export_checkpoint
    from auscan.pipeline.demo import demo_crops

    side = read_config(find_checkpoint(checkpoint)).network.visual.crop_size
    report = export_checkpoint(
        checkpoint, out, demo_crops(side) if crops is None else _read_crops(crops), int8
    )
    real = report["differences"]["real"]
    typer.echo(f"{out}: {len(report['bytes'])} graphs, {sum(report['bytes'].values()) / 1e6:.1f} MB")
    typer.echo(
        f"From PyTorch, on faces: logits differ by at most {real['logits']:.2g}, "
        f"probabilities by {real['mean_probability']:.2g} on average."
    )


def _read_crops(file: Path) -> Any:
    import numpy as np

    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} holds no array that can be read ({error}). Write it with numpy.save."
        ) from error


def pack(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or its best/ or last/.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder of the checkpoint.")],
    thresholds: Annotated[
        Path | None,
        typer.Option("--thresholds", metavar="FILE", help="From `auscan evaluate --save-thresholds`."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The model's id in results; FOLDER's name if not given.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Whose encoders, if they are not where the run found them.")
    ] = None,
    visual: Annotated[
        str | None, typer.Option("--visual", help="DINOv2 weights, as for `auscan extract`.")
    ] = None,
    audio: Annotated[
        str | None, typer.Option("--audio", help="WavLM weights, as for `auscan extract`.")
    ] = None,
) -> None:
    """Join the encoders and the network of RUN in a checkpoint that `auscan detect --model` reads."""
    from auscan.training.pack import pack as pack_run
    from auscan.training.thresholds import read_decision

    decision = None if thresholds is None else read_decision(thresholds)
    config = pack_run(run, out, decision, name, model, visual, audio)
    typer.echo(f"{out}: {config.name}, for auscan detect --model {out}")
    if decision is not None and max(decision.windows) > 1:
        typer.echo("The thresholds were tuned on smoothed scores; detect does not smooth.", err=True)
