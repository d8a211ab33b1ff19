"""Sound is saved and read back; shares of speech are shares of time."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auscan.core.errors import InputError
from auscan.results.events import Speech, read_speech, write_speech


def sound_of(spoken: list[bool], start_s: float = 0.0, step_s: float = 0.02) -> Speech:
    return Speech(
        start_s, step_s, np.linspace(-60, -10, len(spoken), dtype=np.float32), np.array(spoken, bool)
    )


@given(
    st.lists(st.booleans(), min_size=1, max_size=40),
    st.floats(-1, 1),
    st.floats(-2, 2),
    st.floats(0.01, 3),
)
def test_the_share_of_speech_equals_that_of_a_fine_sampling(
    spoken: list[bool], start_s: float, begin_s: float, lasts_s: float
) -> None:
    sound = sound_of(spoken, start_s)
    at_s = begin_s + (np.arange(4000) + 0.5) / 4000 * lasts_s
    step = np.floor((at_s - start_s) / 0.02).astype(int)
    inside = (step >= 0) & (step < len(spoken))
    expected = np.mean(inside & np.array(spoken)[np.clip(step, 0, len(spoken) - 1)])
    share = sound.share(np.array([begin_s]), np.array([begin_s + lasts_s]))
    assert share == pytest.approx([expected], abs=0.02)


def test_a_span_of_length_zero_has_no_share() -> None:
    assert np.isnan(sound_of([True]).share(np.array([0.01]), np.array([0.01]))).all()


def test_sound_is_read_back_unchanged(tmp_path: Path) -> None:
    sound = sound_of([True, False, True], start_s=-0.023)
    write_speech(tmp_path / "sound.parquet", sound, "talk.mp4", "0.1.0")
    read = read_speech(tmp_path / "sound.parquet")
    assert (read.start_s, read.step_s) == (sound.start_s, sound.step_s)
    np.testing.assert_array_equal(read.level_db, sound.level_db)
    np.testing.assert_array_equal(read.speech, sound.speech)
    table = pd.read_parquet(tmp_path / "sound.parquet")
    assert list(table.columns) == ["time", "level_db", "speech"]
    assert table["time"].tolist() == pytest.approx([-0.013, 0.007, 0.027])


def test_a_file_without_sound_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.parquet"
    path.write_text("text")
    with pytest.raises(InputError, match=r"sound\.parquet is not a sound file"):
        read_speech(path)


def test_level_and_speech_must_have_the_same_length() -> None:
    with pytest.raises(ValueError, match="level_db and speech"):
        Speech(0.0, 0.02, np.zeros(3, np.float32), np.zeros(2, bool))
