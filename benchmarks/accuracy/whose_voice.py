"""Measure on real clips how well synchrony tells a face's own voice from another's, and finds an offset.

    python benchmarks/accuracy/whose_voice.py --data ../shared/data

The opening of the mouth comes from the teacher (`seen`), and from the sound by a ridge regression of log-mel
bands within 0.24 s, trained on all other people of clips/ and clips_more/ (`heard`). Both stand for the heads
of the network. The constants of inference/synchrony.py were chosen on these clips, so the figures are from
development data. Prints Markdown tables:

    whose voice    AUC of the correlation for own against other voices, and the mean trust, after some seconds
                   of evidence; `switch`: another voice takes over after 5.5 s of the own one
    offset         offsets found in the clips, beside clips_sync.tsv, and in clips that were shifted
    speaking       AUC of the voice activity against auscan's speech detector
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from auscan.core.config import LogMelAudioConfig
from auscan.encoders.audio import LogMelEncoder
from auscan.inference.synchrony import (
    MAX_STEP_S,
    MIN_OFFSET_EVIDENCE_S,
    HeardOpening,
    MouthFrames,
    SoundOffset,
    follow_voice,
    voice_activity,
)
from auscan.media.audio import VoiceActivityDetector, read_waveform

CONTEXT = np.arange(-12, 13, 2)
"""Tokens around each token whose bands predict the opening: +-0.24 s."""
RIDGE = 300.0
EVIDENCE_S = (1, 2, 4, 8)
"""Seconds of evidence of the table."""
SWITCH_S = 5.5
"""Time at which another voice takes over, seconds."""
REPEATS = 8
"""Random starts and other voices for each clip."""
SAME_PERSON = {"vx_13": "talk_c"}
"""Clips of one person."""


@dataclass
class Clip:
    """Features of one clip."""

    name: str
    person: str
    bands: NDArray[np.float64]
    """Log-mel bands around each token [Ta, context x bands], without their mean over the clip."""
    token_s: NDArray[np.float64]
    """Times of the tokens [Ta], seconds."""
    speech: NDArray[np.bool_]
    """Speech by auscan's detector, at the tokens [Ta]."""
    times_s: NDArray[np.float64]
    """Frame times [T], seconds."""
    openings: NDArray[np.float64]
    """Lip gap and jawOpen of the teacher [T, 2], NaN without a face."""
    lag_s: float | None
    """Lag of the sound by clips_sync.tsv, seconds; None if it found no synchrony."""
    heard: HeardOpening = field(default_factory=lambda: HeardOpening(np.empty(0), np.empty(0, np.float32)))
    """Opening predicted from the sound, not corrected for the lag."""

    def mouth(self, faces: int, start_s: float = 0.0) -> MouthFrames:
        """Return the frames from `start_s` on; their logits are 0 at the thresholds of AU25 and AU26."""
        rows = self.times_s >= start_s
        gap, jaw = self.openings[rows].T
        seen = (gap - 0.035) / 0.03 + (jaw - 0.15) / 0.2
        visible = (~np.isnan(seen)).astype(np.float32)
        return MouthFrames(
            self.times_s[rows], seen.astype(np.float32), visible, np.full(len(seen), faces, np.int64)
        )

    @property
    def synced(self) -> HeardOpening:
        """`heard`, corrected for the lag."""
        return HeardOpening(self.heard.times_s - (self.lag_s or 0.0), self.heard.heard)


def read_clip(
    path: Path, person: str, teacher: pd.DataFrame, lag_s: float | None, encoder: LogMelEncoder
) -> Clip | None:
    """Read a clip; None without sound."""
    chunks = read_waveform(path)
    detector = VoiceActivityDetector()
    waves = [] if chunks is None else list(detector.observe(chunks))
    if not waves:
        return None
    with torch.no_grad():
        bands = encoder.log_mel(torch.from_numpy(np.concatenate([wave.samples for wave in waves]))[None])[0].T
    count = len(bands) // 2
    bands = bands[: 2 * count].reshape(count, 2, -1).mean(1).numpy().astype(np.float64)
    around = (np.arange(count)[:, None] + CONTEXT).clip(0, count - 1)
    found = teacher["found"].to_numpy(bool)
    openings = teacher[["lip_gap", "bs_jawOpen"]].to_numpy(np.float64)
    speech = np.resize(detector.finish()[1], count)
    return Clip(
        path.stem,
        person,
        (bands - bands.mean(0))[around].reshape(count, -1),
        waves[0].start_s + (np.arange(count) + 0.5) * 0.02,
        speech,
        teacher["time"].to_numpy(np.float64),
        np.where(found[:, None], openings, np.nan),
        lag_s,
    )


def read_clips(data: Path) -> tuple[list[Clip], list[Clip]]:
    """Return the clips of clips/ and those of clips_more/."""
    encoder = LogMelEncoder(LogMelAudioConfig())
    sync = pd.read_csv(data / "clips_sync.tsv", sep="\t").set_index("clip")["lag_s"]
    lags_s = {name: None if lag == "none" else float(lag) for name, lag in sync.items()}
    clips = []
    for file in sorted((data / "clips_teacher").glob("*.parquet")):
        path, teacher = next((data / "clips").glob(f"{file.stem}.*")), pd.read_parquet(file)
        if "lip_gap" in teacher:  # there is a face
            person = SAME_PERSON.get(file.stem, file.stem)
            clips.append(read_clip(path, person, teacher, lags_s.get(file.stem), encoder))
    people = pd.read_csv(data / "clips_more_people.tsv", sep="\t").set_index("clip")["person"]
    more = [
        read_clip(data / "clips_more" / str(name), people[name], teacher, 0.0, encoder)
        for name, teacher in pd.read_parquet(data / "clips_more_teacher.parquet").groupby("clip")
    ]
    return [clip for clip in clips if clip], [clip for clip in more if clip]


def predict_from_sound(clips: list[Clip], more: list[Clip]) -> None:
    """Set `heard` of the clips, with a regression trained on the other people."""
    sums: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for clip in clips + more:
        known = ~np.isnan(clip.openings).any(axis=1)
        if clip.lag_s is None or known.sum() < 10:
            continue
        openings = clip.openings[known]
        target = ((openings - openings.mean(0)) / (openings.std(0) + 1e-9)).mean(1)
        rows = np.searchsorted(clip.token_s, clip.times_s[known] + clip.lag_s).clip(0, len(clip.token_s) - 1)
        x = clip.bands[rows]
        gram, product = sums.get(clip.person, (0.0, 0.0))
        sums[clip.person] = gram + x.T @ x, product + x.T @ target
    gram, product = (sum(each) for each in zip(*sums.values(), strict=True))
    for clip in clips:
        own_gram, own_product = sums.get(clip.person, (0.0, 0.0))
        weights = np.linalg.solve(gram - own_gram + RIDGE * np.eye(len(gram)), product - own_product)
        clip.heard = HeardOpening(clip.token_s, (clip.bands @ weights).astype(np.float32))


def auc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve."""
    difference = positive[:, None] - negative
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def other_voice(clip: Clip, clips: list[Clip], random: np.random.Generator) -> HeardOpening:
    """Return the voice of another person from a random moment on, over the whole length of the clip."""
    others = [other for other in clips if other.person != clip.person and other.lag_s is not None]
    voice = others[random.integers(len(others))].heard.heard
    count = int(clip.times_s[-1] * 50) + 10
    times_s = clip.times_s[0] + (np.arange(count) + 0.5) * 0.02
    return HeardOpening(times_s, np.resize(np.roll(voice, random.integers(len(voice))), count))


def after_evidence(mouth: MouthFrames, heard: HeardOpening, from_s: float = 0.0) -> NDArray[np.float64]:
    """Return correlation and trust after each of EVIDENCE_S from a time on: [seconds, 2], NaN if never."""
    result = follow_voice(mouth, heard)[0]
    step_s = np.clip(np.diff(mouth.times_s, prepend=mouth.times_s[0]), 0, MAX_STEP_S)
    activity = np.nan_to_num(voice_activity(mouth.times_s, heard))
    evidence_s = np.cumsum(step_s * mouth.visible * activity * (mouth.times_s >= from_s))
    rows = np.searchsorted(evidence_s, EVIDENCE_S)
    values = np.stack([result.correlation, result.trust], axis=1)
    return np.where((rows < len(values))[:, None], values[rows.clip(0, len(values) - 1)], np.nan)


def report_voices(clips: list[Clip]) -> None:
    """Print the table of own and other voices."""
    random = np.random.default_rng(0)
    values: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
    for clip in clips:
        speaks = clip.lag_s is not None
        for repeat in range(REPEATS):
            longest_s = max(0.0, float(clip.times_s[-1]) - 4.5)
            start_s = 0.0 if repeat == 0 else random.uniform(0.0, longest_s)
            other = other_voice(clip, clips, random)
            for faces in (1, 2):
                mouth = clip.mouth(faces, start_s)
                kind = "other" if speaks else "other, not speaking"
                values.setdefault((kind, faces), []).append(after_evidence(mouth, other))
                if not speaks:
                    continue
                values.setdefault(("own", faces), []).append(after_evidence(mouth, clip.synced))
                if clip.times_s[-1] > SWITCH_S + 4:
                    own, taken_over = clip.synced, other.times_s >= SWITCH_S
                    parts = zip(
                        (each[own.times_s < SWITCH_S] for each in own),
                        (each[taken_over] for each in other),
                        strict=True,
                    )
                    switched = HeardOpening(*(np.concatenate(part) for part in parts))
                    values.setdefault(("switch", faces), []).append(
                        after_evidence(clip.mouth(faces), switched, SWITCH_S)
                    )
    known = {key: np.stack(rows) for key, rows in values.items()}
    print("| | " + " | ".join(f"{s} s" for s in EVIDENCE_S) + " |\n|" + " --- |" * (len(EVIDENCE_S) + 1))
    cells = []
    for i in range(len(EVIDENCE_S)):
        own, other = (known[kind, 2][:, i, 0] for kind in ("own", "other"))
        cells.append(f"{auc(own[~np.isnan(own)], other[~np.isnan(other)]):.3f}")
    print(f"| AUC, own against other | {' | '.join(cells)} |")
    for (kind, faces), rows in sorted(known.items()):
        trust = np.nanmean(rows[:, :, 1], axis=0)
        faces_words = "one face" if faces == 1 else "several faces"
        print(f"| trust, {faces_words}: {kind} | {' | '.join(f'{value:.2f}' for value in trust)} |")


def report_offsets(clips: list[Clip]) -> None:
    """Print the offsets found in clips with enough evidence, and the errors in clips that were shifted."""
    print("\n| clip | evidence, s | offset found, s | clips_sync.tsv, s |\n| --- | --- | --- | --- |")
    long, errors, missed = [], [], 0
    for clip in clips:
        offset = SoundOffset()
        offset.add(clip.mouth(1), clip.heard)
        if offset.evidence_s < MIN_OFFSET_EVIDENCE_S:
            continue
        lag = "none" if clip.lag_s is None else f"{clip.lag_s:+.2f}"
        print(f"| {clip.name} | {offset.evidence_s:.1f} | {offset.find_s():+.2f} | {lag} |")
        if clip.lag_s is not None:
            long.append(clip)
    shifts_s = (-0.26, -0.18, -0.1, 0.1, 0.18, 0.26)
    for clip in long:
        for shift_s in shifts_s:
            offset = SoundOffset()
            offset.add(clip.mouth(1), HeardOpening(clip.synced.times_s + shift_s, clip.heard.heard))
            found_s = offset.find_s()
            missed += found_s == 0
            errors += [abs(found_s - shift_s)] if found_s else []
    shifted = len(long) * len(shifts_s)
    print(
        f"\n{len(long)} synchronous clips, each shifted by {', '.join(f'{s:+.2f}' for s in shifts_s)} s: "
        f"{shifted - missed} of {shifted} offsets found, error {np.mean(errors):.3f} s in the mean, "
        f"{np.max(errors):.3f} s at most."
    )
    random, false = np.random.default_rng(1), 0
    for clip in long:
        for _ in range(10):
            offset = SoundOffset()
            offset.add(clip.mouth(1), other_voice(clip, clips, random))
            false += offset.find_s() != 0
    print(f"With another voice an offset is found in {false} of {10 * len(long)} trials.")


def report_activity(clips: list[Clip]) -> None:
    """Print the AUC of the voice activity."""
    activity = np.concatenate([voice_activity(clip.token_s, clip.heard) for clip in clips])
    speech = np.concatenate([clip.speech for clip in clips])
    print(
        f"\nVoice activity against the speech detector: AUC {auc(activity[speech], activity[~speech]):.3f}."
    )


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with clips/ and clips_more/")
    torch.set_num_threads(1)
    clips, more = read_clips(parser.parse_args().data)
    predict_from_sound(clips, more)
    print(
        f"{len(clips)} clips with a face and sound, {sum(c.lag_s is not None for c in clips)} in synchrony\n"
    )
    report_voices(clips)
    report_offsets(clips)
    report_activity(clips)


if __name__ == "__main__":
    main()
