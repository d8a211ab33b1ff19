"""Run `auscan explain`: draw the attention of the model over one face of one frame.

Inputs: a video and the folder of its result with evidence.parquet.
Returns: a picture.
See also: pipeline/explain.py (drawing), docs/evidence.md (meaning of the numbers).
"""

from pathlib import Path
from typing import Annotated

import typer

from auscan.cli.progress import show_progress


def explain(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Video or picture of the result.")],
    folder: Annotated[Path, typer.Argument(metavar="RESULT", help="Folder written by `detect --evidence`.")],
    frame: Annotated[int, typer.Option("--frame", min=0, help="Frame number, as in the table.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.png", help="Picture to write.")],
    face: Annotated[
        int | None,
        typer.Option("--face", help="face_id of the table; needed if the frame has several faces."),
    ] = None,
    au: Annotated[
        str | None, typer.Option("--au", help="Action unit, e.g. AU12; default: a sheet of all.")
    ] = None,
    as_video: Annotated[
        float | None,
        typer.Option("--as-video", metavar="FPS", help="Frame rate given to `detect --as-video`."),
    ] = None,
) -> None:
    """Draw the attention of the model over one face in a frame of INPUT."""
    from auscan.pipeline.explain import check_picture_suffix, write_picture
    from auscan.pipeline.explain import explain as explain_frame
    from auscan.results.attributions import ATTRIBUTIONS_FILE

    check_picture_suffix(out)  # before decoding a long video
    with show_progress(source.name) as progress:
        picture = explain_frame(
            source,
            folder / ATTRIBUTIONS_FILE,
            frame,
            face_id=face,
            au=au,
            folder_rate_hz=as_video,
            progress=progress,
        )
    write_picture(out, picture)
    typer.echo(f"{out}: frame {frame} of {source.name}")
