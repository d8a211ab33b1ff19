"""Test trust in a voice, and the search for an offset, on synthetic openings of a mouth."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from auscan.inference.synchrony import (
    MIN_OFFSET_EVIDENCE_S,
    OFFSETS_S,
    HeardOpening,
    MouthFrames,
    SoundOffset,
    VoiceEvidence,
    VoiceTrust,
    follow_voice,
)

RATE_HZ = 25
Floats = NDArray[np.float64]


def opening(seconds: float, seed: int, start_s: float = 0.0) -> HeardOpening:
    """Return the opening that a voice predicts: a smooth random series, several openings a second."""
    times_s = start_s + 0.01 + 0.02 * np.arange(round(seconds * 50))
    knots = np.random.default_rng(seed).normal(0, 1.0, 200)
    return HeardOpening(times_s, np.interp((times_s - start_s) * 8, np.arange(len(knots)), knots))


def silence(seconds: float, start_s: float = 0.0) -> HeardOpening:
    times_s = start_s + 0.01 + 0.02 * np.arange(round(seconds * 50))
    return HeardOpening(times_s, np.full(len(times_s), -0.5))


def join(*parts: HeardOpening) -> HeardOpening:
    return HeardOpening(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def face(voice: HeardOpening, *, faces: int = 1, noise: float = 1.0, late_s: float = 0.0) -> MouthFrames:
    """Return a face whose mouth follows a voice that is `late_s` late, with noise; r is about 0.7."""
    times_s = np.arange(round((voice.times_s[-1] - voice.times_s[0]) * RATE_HZ)) / RATE_HZ
    times_s = times_s + voice.times_s[0]
    seen = np.interp(times_s + late_s, voice.times_s, voice.heard)
    seen = 2.0 * (seen + noise * np.random.default_rng(9).normal(0, 0.7, len(seen)))
    return MouthFrames(
        times_s, seen.astype(np.float32), np.ones(len(seen), np.float32), np.full(len(seen), faces)
    )


def still(like: MouthFrames) -> MouthFrames:
    """Return the same face with a mouth that stays closed, up to noise."""
    noise = np.random.default_rng(8).normal(-1.5, 0.1, len(like.seen))
    return like._replace(seen=noise.astype(np.float32))


def trust_of(mouth: MouthFrames, heard: HeardOpening) -> NDArray[np.float32]:
    return follow_voice(mouth, heard)[0].trust


def test_a_single_face_is_trusted_at_once_and_stays_trusted_by_its_own_voice() -> None:
    voice = opening(10, 0)
    trust = trust_of(face(voice), voice)
    assert trust[0] == 1
    assert trust.min() > 0.9


@pytest.mark.parametrize("seed", range(5))
def test_one_of_several_faces_is_fully_trusted_after_four_seconds_of_its_own_voice(seed: int) -> None:
    voice = opening(10, seed)
    trust = trust_of(face(voice, faces=2), voice)
    assert trust[0] == 0
    assert trust[4 * RATE_HZ :].min() == 1


@pytest.mark.parametrize("faces", [1, 2])
def test_a_still_mouth_is_not_trusted_with_a_voice_after_two_seconds(faces: int) -> None:
    voice = opening(6, 1)
    trust = trust_of(still(face(voice, faces=faces)), voice)
    assert trust[2 * RATE_HZ :].max() < 0.1


def test_another_voice_is_not_trusted() -> None:
    trusts = [trust_of(face(opening(8, seed)), opening(8, seed + 100))[4 * RATE_HZ :] for seed in range(12)]
    assert np.mean(trusts) < 0.2


def test_trust_is_lost_within_five_seconds_when_another_voice_takes_over() -> None:
    trusts = []
    for seed in range(6):
        mouth, voice = face(opening(14, seed)), join(opening(8, seed), opening(6, seed + 50, 8.0))
        silent = mouth.times_s > 8
        mouth = mouth._replace(seen=np.where(silent, still(mouth).seen, mouth.seen))
        trusts.append(trust_of(mouth, voice))
    assert np.mean([trust[7 * RATE_HZ : 8 * RATE_HZ] for trust in trusts]) > 0.99
    assert np.mean([trust[13 * RATE_HZ :] for trust in trusts]) < 0.1


def test_the_voice_goes_to_the_face_it_fits() -> None:
    first, second = opening(8, 0), opening(8, 1, 8.0)
    voice, other = join(first, second), join(opening(8, 2), opening(8, 3, 8.0))
    speaks_first = face(join(first, silence(8, 8.0)), faces=2, noise=0.3)
    speaks_second = face(join(silence(8), second), faces=2, noise=0.3)
    never_heard = face(other, faces=2)
    early, late = slice(5 * RATE_HZ, 7 * RATE_HZ), slice(14 * RATE_HZ, None)
    trusts = [trust_of(mouth, voice) for mouth in (speaks_first, speaks_second, never_heard)]
    assert [round(float(trust[early].mean()), 1) for trust in trusts] == [1, 0, 0]
    assert [round(float(trust[late].mean()), 1) for trust in trusts] == [0, 1, 0]


@pytest.mark.parametrize("faces", [1, 2])
def test_silence_and_a_hidden_mouth_neither_add_nor_forget_evidence(faces: int) -> None:
    voice = join(opening(6, 0), silence(30, 6.0), opening(6, 1, 36.0))
    mouth = face(voice, faces=faces, noise=0.5)
    chewing = np.random.default_rng(1).normal(0, 2, len(mouth.seen)).astype(np.float32)
    quiet = (mouth.times_s > 6.2) & (mouth.times_s < 35.8)
    trust = trust_of(mouth._replace(seen=np.where(quiet, chewing, mouth.seen)), voice)
    assert trust[quiet].min() == 1
    hidden = (mouth.times_s > 36) & (mouth.times_s < 40)
    mouth = mouth._replace(
        seen=np.where(hidden, chewing, mouth.seen), visible=np.where(hidden, 0, 1).astype(np.float32)
    )
    assert trust_of(mouth, voice)[hidden].min() == 1


def test_without_any_evidence_the_number_of_faces_decides() -> None:
    voice = opening(6, 0)
    mouth = face(voice)
    faces = np.repeat([1, 2, 1], 50)
    assert_array_equal(
        trust_of(mouth._replace(visible=np.zeros(150, np.float32), faces=faces), voice), faces != 2
    )


@pytest.mark.parametrize("late_s", [-0.08, 0.08])
def test_a_voice_that_is_two_frames_early_or_late_is_still_trusted(late_s: float) -> None:
    voice = opening(10, 0)
    trust = trust_of(face(voice, faces=2, late_s=late_s, noise=0.5), voice)
    assert trust[4 * RATE_HZ : -RATE_HZ].min() == 1


def test_speaking_follows_the_activity_of_the_trusted_voice() -> None:
    voice = join(opening(6, 0), silence(4, 6.0))
    mouth = face(voice)
    result, _ = follow_voice(mouth, voice)
    talking, quiet = mouth.times_s < 5.8, mouth.times_s > 6.2
    assert result.speaking[talking].mean() > 0.9
    assert result.speaking[quiet].max() == 0
    assert result.trust[quiet].min() == 1
    silent = follow_voice(still(mouth), voice)[0]
    assert silent.speaking[2 * RATE_HZ :].max() < 0.1


def test_speaking_is_unknown_where_there_is_no_sound() -> None:
    voice = opening(4, 0, start_s=1.0)
    times_s = np.arange(150) / RATE_HZ
    mouth = MouthFrames(times_s, np.zeros(150, np.float32), np.ones(150, np.float32), np.ones(150, np.int64))
    speaking = follow_voice(mouth, voice)[0].speaking
    assert_array_equal(np.isnan(speaking), (times_s < 0.889) | (times_s > 5.111))
    nothing = HeardOpening(np.empty(0), np.empty(0, np.float32))
    assert np.isnan(follow_voice(mouth, nothing)[0].speaking).all()


@pytest.mark.parametrize("seed", range(8))
def test_any_split_into_chunks_gives_the_same_result(seed: int) -> None:
    random = np.random.default_rng(seed)
    voice = opening(12, seed)
    voice = HeardOpening(*(np.delete(each, slice(200, 260)) for each in voice))  # a gap in the audio
    mouth = face(voice)
    keep = np.sort(random.choice(len(mouth.seen), 200, replace=False))
    mouth = MouthFrames(*(each[keep] for each in mouth))
    mouth = mouth._replace(visible=random.random(200).astype(np.float32), faces=random.integers(1, 3, 200))
    mouth.seen[random.random(200) < 0.05] = np.nan
    whole, last = follow_voice(mouth, voice)
    cuts = np.sort(random.integers(0, 201, random.integers(1, 40)))
    state: VoiceEvidence | None = None
    parts: list[VoiceTrust] = []
    for first, stop in zip([0, *cuts], [*cuts, 200], strict=True):
        part, state = follow_voice(mouth.rows(slice(first, stop)), voice, state)
        parts.append(part)
    assert_array_equal(np.concatenate([part.trust for part in parts]), whole.trust)
    assert_array_equal(np.concatenate([part.speaking for part in parts]), whole.speaking)
    assert state is not None
    assert_array_equal(state.sums, last.sums)
    assert np.isfinite(whole.trust).all()


@pytest.mark.parametrize("late_s", [-0.26, -0.12, 0.12, 0.26])
def test_a_constant_offset_is_found_and_is_positive_if_the_sound_is_late(late_s: float) -> None:
    voice = opening(12, 0)
    offset = SoundOffset()
    offset.add(face(voice, late_s=late_s), voice)
    assert offset.find_s() == pytest.approx(late_s, abs=0.021)
    corrected = SoundOffset()
    corrected.add(face(voice, late_s=late_s), voice.shifted(offset.find_s()))
    assert corrected.find_s() == 0


def test_an_offset_needs_eight_seconds_of_evidence_over_all_tracks() -> None:
    offset = SoundOffset()
    assert offset.find_s() == 0
    voice = opening(5, 0)
    offset.add(face(voice, late_s=0.2), voice)
    assert offset.find_s() == 0
    offset.add(face(opening(5, 1), late_s=0.2), opening(5, 1))
    assert offset.evidence_s > MIN_OFFSET_EVIDENCE_S
    assert offset.find_s() == pytest.approx(0.2, abs=0.021)


@pytest.mark.parametrize("late_s", [-0.02, 0.0, 0.02])
def test_an_offset_that_gains_nothing_is_not_used(late_s: float) -> None:
    offset = SoundOffset()
    offset.add(face(opening(12, 0), late_s=late_s), opening(12, 0))
    assert offset.find_s() == 0


def test_no_offset_is_found_in_another_voice_or_beyond_the_range() -> None:
    for seed in range(10):
        offset = SoundOffset()
        offset.add(face(opening(20, seed)), opening(20, seed + 100))
        assert offset.find_s() == 0
    beyond = SoundOffset()
    beyond.add(face(opening(20, 0), late_s=OFFSETS_S[-1] + 0.02), opening(20, 0))
    assert beyond.find_s() == 0
