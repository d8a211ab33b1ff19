"""Does what a rendered voice tells of its mouth hold for real voices? A linear reading, trained on either.

    python recipes/nano/voice_probe.py --data ../shared/data --films 40

Log-mel of 400 ms around a frame -> AU25 and AU26. Real labels are the teacher's; figures are means of the AUC
within each real clip, the reading of real clips leaving out the one that is scored.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import stft
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from auscan.core.aus import AU_NAMES
from auscan.media.audio import read_waveform
from expressions import labels_of
from head import Head, load_head
from labels import RULES, blendshape
from rendered_clips import draw_film

AUS = ("AU25", "AU26")
BANDS = 40
Heard = tuple[NDArray[np.floating], NDArray[np.int8]]
"""Features [T, D] and labels [T, 2] of one clip."""


def main() -> None:
    """Read the command line, print a line an AU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with ict_facekit.npz and clips/")
    parser.add_argument("--films", type=int, default=40)
    args = parser.parse_args()
    head = load_head(args.data / "ict_facekit.npz")
    films = (made(head, person) for person in range(700, 700 + args.films))
    rendered = [film for film in films if film is not None]
    real = [clip for clip in map(filmed, sorted((args.data / "clips").iterdir())) if clip is not None]
    for column, name in enumerate(AUS):
        cut = len(rendered) * 3 // 4
        held = scores(read(rendered[:cut], column), rendered[cut:], column)
        other = scores(read(rendered, column), real, column)
        own, both = [], []
        for number, clip in enumerate(real):
            rest = real[:number] + real[number + 1 :]
            own += scores(read(rest, column), [clip], column)
            both += scores(read(rest + rendered, column), [clip], column)
        loud = {"rendered": loudness(rendered, column), "real": loudness(real, column)}
        print(
            f"{name}: rendered on rendered {np.mean(held):.3f}, rendered on real {np.mean(other):.3f}, "
            f"real on real {np.mean(own):.3f}, both on real {np.mean(both):.3f}; loudness alone "
            f"{loud['rendered']:.3f} rendered, {loud['real']:.3f} real ({len(own)} clips)"
        )


def made(head: Head, person: int) -> Heard | None:
    """A rendered clip, not shot; None where hardly anybody speaks."""
    film = draw_film(head, person)
    if film.speaking.mean() < 0.2:
        return None
    gaps = []
    for now, extras in zip(film.intensities, film.extras, strict=True):
        vertices = head.vertices(film.looks.shape, now, now, film.looks.with_lids(extras), film.looks.lines)
        gaps.append(head.lip_gap(vertices))
    labels = labels_of(film.intensities, np.array(gaps))
    return features(film.wave, film.times_s), labels[:, [AU_NAMES.index(name) for name in AUS]]


def filmed(path: Path) -> Heard | None:
    """A real clip; None without two seconds of sound or a face."""
    pieces = list(read_waveform(path) or ()) if path.suffix in {".mp4", ".mov"} else []
    wave = np.concatenate([np.empty(0, np.float32), *(piece.samples for piece in pieces)])
    if len(wave) < 32_000 or wave.std() < 1e-3:
        return None
    table = pd.read_parquet(path.parents[1] / "clips_teacher" / f"{path.stem}.parquet")
    table = table[table["found"]]
    if table.empty:
        return None
    apart = table["lip_gap"].to_numpy() > RULES["AU25"][1]
    low = blendshape(table, "jawOpen") > RULES["AU26"][1]
    times_s = table["time"].to_numpy() - pieces[0].start_s
    return features(wave, times_s), np.stack([apart, low], axis=1).astype(np.int8)


def features(wave: NDArray[np.floating], times_s: NDArray[np.floating]) -> NDArray[np.floating]:
    """[T, 11 * BANDS]: log-mel spectra from 200 ms before each time to 200 ms after it."""
    _, middle_s, spectrum = stft(wave, 16_000, nperseg=400, noverlap=240, nfft=512, boundary=None)
    mel = 2595 * np.log10(1 + np.linspace(0, 8000, 257) / 700)
    edges = np.linspace(mel[2], mel[-1], BANDS + 2)
    rise = (mel - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - mel) / (edges[2:] - edges[1:-1])[:, None]
    level = np.log(np.clip(np.minimum(rise, fall), 0, None) @ np.abs(spectrum) ** 2 + 1e-8).T
    level = (level - np.percentile(level, 95)) / 8
    at = np.searchsorted(middle_s, times_s)
    return np.concatenate([level[(at + step).clip(0, len(level) - 1)] for step in range(-20, 21, 4)], axis=1)


def read(clips: list[Heard], column: int) -> Ridge:
    """A linear reading of one AU."""
    known = [labels[:, column] >= 0 for _, labels in clips]
    seen = np.concatenate([clip[0][rows] for clip, rows in zip(clips, known, strict=True)])
    told = np.concatenate([clip[1][rows, column] for clip, rows in zip(clips, known, strict=True)])
    return Ridge(300.0).fit(seen, told)


def scores(reading: Ridge, clips: list[Heard], column: int) -> list[float]:
    """AUC within each clip in which the AU is there between 5 and 95 % of the time."""
    return _aucs([(reading.predict(seen), labels[:, column]) for seen, labels in clips])


def loudness(clips: list[Heard], column: int) -> float:
    """Mean AUC within a clip of the level at the frame alone."""
    now = slice(5 * BANDS, 6 * BANDS)
    return float(np.mean(_aucs([(seen[:, now].mean(axis=1), labels[:, column]) for seen, labels in clips])))


def _aucs(pairs: list[tuple[NDArray[np.floating], NDArray[np.int8]]]) -> list[float]:
    known = [(guess[label >= 0], label[label >= 0]) for guess, label in pairs]
    return [float(roc_auc_score(label, guess)) for guess, label in known if 0.05 < label.mean() < 0.95]


if __name__ == "__main__":
    main()
