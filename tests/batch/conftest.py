"""Fixtures of batch tests; makes the helper modules importable, here and in worker processes."""

import sys
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

GOOD = ["a", "b", "c", "d"]


@pytest.fixture
def clips(tmp_path: Path, portrait: NDArray[np.uint8]) -> Path:
    """Four short videos of a slightly moving face, and one truncated video."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number, name in enumerate(GOOD):
        with av.open(str(folder / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width = stream.height = 256
            stream.pix_fmt = "yuv420p"
            for index in range(8):
                left = 100 + 3 * number + index
                image = np.ascontiguousarray(portrait[:256, left : left + 256])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
    whole = (folder / "a.mp4").read_bytes()
    (folder / "broken.mp4").write_bytes(whole[: len(whole) // 2])
    return folder
