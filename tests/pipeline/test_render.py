"""Rendering decodes the source again."""

from pathlib import Path

from auscan.pipeline.render import overlay_name


def test_a_picture_is_shown_as_a_picture(tmp_path: Path) -> None:
    assert overlay_name(tmp_path / "face.JPG") == "overlay.png"
    assert overlay_name(tmp_path / "talk.mov") == "overlay.mp4"
    assert overlay_name(tmp_path) == "overlay.mp4"
