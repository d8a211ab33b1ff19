"""Long sound beside few faces: what they hear is as ever, and what nobody hears is read but not encoded."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ
from auscan.inference.engine import CONTEXT_S, SEGMENT_S, AudioTokens, Stages, listen
from auscan.inference.torch_engine import TorchStages
from auscan.media.audio import Waveform
from auscan.pipeline.audio_stream import Soundtrack

START_S, LENGTH_S = 1.5, 310


class Counting:
    """Stages that count the seconds of sound they encode."""

    def __init__(self, stages: Stages) -> None:
        self.stages, self.seconds = stages, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stages, name)

    def encode_sound(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        self.seconds += len(samples) / SAMPLE_RATE_HZ
        return self.stages.encode_sound(samples)


@pytest.fixture
def stages(tiny_checkpoint: Path) -> Counting:
    return Counting(TorchStages(tiny_checkpoint))


@pytest.fixture(scope="module")
def everything(tiny_checkpoint: Path) -> AudioTokens:
    """The tokens of the whole sound."""
    whole = listen(TorchStages(tiny_checkpoint), minutes_of_noise())
    assert whole is not None
    return whole


def minutes_of_noise() -> Iterator[Waveform]:
    random = np.random.default_rng(0)
    for second in range(LENGTH_S):
        yield Waveform(0.1 * random.standard_normal(SAMPLE_RATE_HZ, np.float32), START_S + second)


@pytest.mark.parametrize(
    ("faces_s", "segments"),
    [
        ([2.0, 3.0, 4.0], 1),
        ([START_S + 4 * SEGMENT_S - 0.3], 2),
        ([START_S + 4 * SEGMENT_S + 0.3], 2),
        ([5.0, 150.0, 300.0], 3),
    ],
)
def test_the_sound_around_faces_is_encoded_as_ever_and_no_other(
    stages: Counting, everything: AudioTokens, faces_s: list[float], segments: int
) -> None:
    """A frame a second, some of them with a face; near the end of a segment it hears the next one, too."""
    with closing(Soundtrack(stages, minutes_of_noise())) as sound:
        for time_s in sorted({*np.arange(0.0, 400.0), *faces_s}):
            sound.listen(time_s, is_heard=time_s in faces_s)
        tokens = sound.tokens
    assert tokens is not None
    assert stages.seconds <= segments * (SEGMENT_S + 2 * CONTEXT_S)
    places = np.searchsorted(everything.times_s, tokens.times_s)
    assert_array_equal(everything.times_s[places], tokens.times_s)
    assert_array_equal(everything.tokens[places], tokens.tokens[:])
    for face_s in faces_s:
        heard = everything.times_s[np.abs(everything.times_s - face_s) <= 0.5]
        assert np.isin(heard, tokens.times_s).all()


def test_sound_that_nobody_hears_is_read_to_its_end_and_is_there(stages: Counting) -> None:
    read: list[Waveform] = []
    chunks = (read.append(chunk) or chunk for chunk in minutes_of_noise())
    with closing(Soundtrack(stages, chunks)) as sound:
        sound.listen(np.inf, is_heard=False)
        assert sound.is_there
        assert sound.tokens is None
    assert len(read) == LENGTH_S
    assert stages.seconds == 0


def test_it_reads_no_further_than_a_segment_ahead(stages: Counting) -> None:
    """Else an hour of sound would be in memory before its pictures came."""
    read: list[Waveform] = []
    chunks = (read.append(chunk) or chunk for chunk in minutes_of_noise())
    with closing(Soundtrack(stages, chunks)) as sound:
        sound.listen(30.0, is_heard=True)
        assert len(read) <= 5 * SEGMENT_S
