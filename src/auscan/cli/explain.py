"""`auscan explain`: a picture of what the model went by in one face of one frame.

In: a video and the folder of its results.  Out: a picture.
Not here: the work itself (pipeline/explain.py), what the numbers mean (docs/evidence.md).
"""

from pathlib import Path
from typing import Annotated

import typer

from auscan.cli.progress import show_progress


def explain(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="The video or picture that was read.")],
    folder: Annotated[Path, typer.Argument(metavar="RESULT", help="What `detect --evidence` made of it.")],
    frame: Annotated[int, typer.Option("--frame", min=0, help="Frame, as in the table.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.png", help="The picture.")],
    face: Annotated[
        int | None, typer.Option("--face", help="face_id, as in the table, where there are several.")
    ] = None,
    au: Annotated[
        str | None, typer.Option("--au", help="One action unit, like AU12; else a sheet of all.")
    ] = None,
    as_video: Annotated[
        float | None, typer.Option("--as-video", metavar="FPS", help="As it was given to `detect`.")
    ] = None,
) -> None:
    """Show where the model looked in a frame of INPUT, of which RESULT is the folder of results."""
    from auscan.pipeline.explain import check_picture_suffix, write_picture
    from auscan.pipeline.explain import explain as explain_frame
    from auscan.results.attributions import ATTRIBUTIONS_FILE

    check_picture_suffix(out)  # before a long video is read
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
