"""Test with a linear probe whether rendered voices predict the mouths of real speakers.

    python recipes/nano/render/voice_probe.py --data ../shared/data --videos 40

The probe maps log-mel spectra of 400 ms around a frame to AU25 and AU26. It is trained on rendered or real
clips. Labels of real clips are the teacher's. Prints the mean AUC within real clips; a probe trained on real
clips is scored on clips left out of its training.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import stft
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[3]))  # the repository, for recipes and benchmarks
from auscan.media.audio import read_waveform
from recipes.nano.data.teacher_labels import NANO_AUS, RULES, blendshape
from recipes.nano.render.expressions import labels_of
from recipes.nano.render.head_mesh import Head, load_head
from recipes.nano.render.rendered_clips import draw_clip

AUS = ("AU25", "AU26")
BANDS = 40
"""Mel bands."""
ProbeClip = tuple[NDArray[np.floating], NDArray[np.int8]]
"""Features [T, D] and labels [T, 2] of one clip."""


def main() -> None:
    """Parse arguments and print a row for each AU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with ict_facekit.npz and clips/")
    parser.add_argument("--videos", type=int, default=40, help="number of rendered clips")
    args = parser.parse_args()
    head = load_head(args.data / "ict_facekit.npz")
    clips = (rendered_clip(head, person) for person in range(700, 700 + args.videos))
    rendered = [clip for clip in clips if clip is not None]
    real = [clip for clip in map(real_clip, sorted((args.data / "clips").iterdir())) if clip is not None]
    for column, name in enumerate(AUS):
        split = len(rendered) * 3 // 4
        held_out_aucs = probe_aucs(fit_probe(rendered[:split], column), rendered[split:], column)
        transfer_aucs = probe_aucs(fit_probe(rendered, column), real, column)
        real_aucs, combined_aucs = [], []
        for number, clip in enumerate(real):
            others = real[:number] + real[number + 1 :]
            real_aucs += probe_aucs(fit_probe(others, column), [clip], column)
            combined_aucs += probe_aucs(fit_probe(others + rendered, column), [clip], column)
        loud = {"rendered": loudness_auc(rendered, column), "real": loudness_auc(real, column)}
        print(
            f"{name}: rendered on rendered {np.mean(held_out_aucs):.3f}, "
            f"rendered on real {np.mean(transfer_aucs):.3f}, "
            f"real on real {np.mean(real_aucs):.3f}, both on real {np.mean(combined_aucs):.3f}; "
            "loudness alone "
            f"{loud['rendered']:.3f} rendered, {loud['real']:.3f} real ({len(real_aucs)} clips)"
        )


def rendered_clip(head: Head, person: int) -> ProbeClip | None:
    """Compute features and labels of a rendered clip, without pictures; None if it has hardly any speech."""
    clip = draw_clip(head, person)
    if clip.speaking.mean() < 0.2:
        return None
    gaps = []
    for now, extras in zip(clip.intensities, clip.extras, strict=True):
        vertices = head.vertices(clip.appearance.shape, clip.appearance.au_deltas, now, now, extras)
        gaps.append(head.lip_gap(vertices))
    labels = labels_of(clip.intensities, np.array(gaps))
    return features(clip.wave, clip.times_s), labels[:, [NANO_AUS.index(name) for name in AUS]]


def real_clip(path: Path) -> ProbeClip | None:
    """Read features and labels of a real clip; None without two seconds of audio or a face."""
    pieces = list(read_waveform(path) or ()) if path.suffix in {".mp4", ".mov"} else []
    wave = np.concatenate([np.empty(0, np.float32), *(piece.samples for piece in pieces)])
    if len(wave) < 32_000 or wave.std() < 1e-3:
        return None
    table = pd.read_parquet(path.parents[1] / "clips_teacher" / f"{path.stem}.parquet")
    table = table[table["found"]]
    if table.empty:
        return None
    lips_apart = table["lip_gap"].to_numpy() > RULES["AU25"][1]
    jaw_dropped = blendshape(table, "jawOpen") > RULES["AU26"][1]
    times_s = table["time"].to_numpy() - pieces[0].start_s
    return features(wave, times_s), np.stack([lips_apart, jaw_dropped], axis=1).astype(np.int8)


def features(wave: NDArray[np.floating], times_s: NDArray[np.floating]) -> NDArray[np.floating]:
    """Compute log-mel spectra from 200 ms before to 200 ms after each time: [T, 11 * BANDS]."""
    _, middle_s, spectrum = stft(wave, 16_000, nperseg=400, noverlap=240, nfft=512, boundary=None)
    mel = 2595 * np.log10(1 + np.linspace(0, 8000, 257) / 700)
    edges = np.linspace(mel[2], mel[-1], BANDS + 2)
    rise = (mel - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - mel) / (edges[2:] - edges[1:-1])[:, None]
    level = np.log(np.clip(np.minimum(rise, fall), 0, None) @ np.abs(spectrum) ** 2 + 1e-8).T
    level = (level - np.percentile(level, 95)) / 8
    at = np.searchsorted(middle_s, times_s)
    return np.concatenate([level[(at + step).clip(0, len(level) - 1)] for step in range(-20, 21, 4)], axis=1)


def fit_probe(clips: list[ProbeClip], column: int) -> Ridge:
    """Fit a linear probe of one AU."""
    known = [labels[:, column] >= 0 for _, labels in clips]
    seen = np.concatenate([clip[0][rows] for clip, rows in zip(clips, known, strict=True)])
    labels = np.concatenate([clip[1][rows, column] for clip, rows in zip(clips, known, strict=True)])
    return Ridge(300.0).fit(seen, labels)


def probe_aucs(probe: Ridge, clips: list[ProbeClip], column: int) -> list[float]:
    """Compute the AUC within each clip in which the AU is active 5 to 95 % of the time."""
    return _aucs([(probe.predict(seen), labels[:, column]) for seen, labels in clips])


def loudness_auc(clips: list[ProbeClip], column: int) -> float:
    """Compute the mean AUC within a clip of the level at the frame alone."""
    now = slice(5 * BANDS, 6 * BANDS)
    return float(np.mean(_aucs([(seen[:, now].mean(axis=1), labels[:, column]) for seen, labels in clips])))


def _aucs(pairs: list[tuple[NDArray[np.floating], NDArray[np.int8]]]) -> list[float]:
    """Compute the AUC of each clip with enough positives and negatives. pairs: scores [T], labels [T]."""
    known = [(guess[label >= 0], label[label >= 0]) for guess, label in pairs]
    return [float(roc_auc_score(label, guess)) for guess, label in known if 0.05 < label.mean() < 0.95]


if __name__ == "__main__":
    main()
