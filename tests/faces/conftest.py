"""Fixtures: a portrait from scikit-image, and the face detector, loaded once."""

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.data import astronaut

from auscan.faces.detector import FaceDetector


@pytest.fixture(scope="session")
def portrait() -> NDArray[np.uint8]:
    """[512, 512, 3] RGB: one smiling face, about 84 x 112 px, around x 226, y 119."""
    return np.asarray(astronaut(), dtype=np.uint8)


@pytest.fixture(scope="session")
def detector() -> FaceDetector:
    return FaceDetector()
