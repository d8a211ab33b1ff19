"""Compare two engines with the same checkpoint, stage by stage.

Both engines receive the same input for each stage, so that a difference can be located. Logits and
probabilities are compared end to end, from crops and audio to the head.

Inputs: two `InferenceEngine`, crops of real faces. Returns: the differences of each stage.
See also: export.py (checks new graphs with this).
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_RATE_HZ
from auscan.inference.engine import AudioTokens, InferenceEngine
from auscan.inference.score_track import score_track
from auscan.model.bidirectional import DIRECTIONS, elapsed_frames

FRAMES = 64
"""Number of crops that are compared, of real faces and of noise each."""
RATE_HZ = 25.0
"""Assumed frame rate of the crops."""
STORED_NAMES = {"pose_occlusion": "sight"}
"""Outputs with another name in export.json."""

Differences = dict[str, float]
"""Name of an output -> largest absolute difference; for `mean_probability` the mean absolute difference."""


def compare_engines(
    reference: InferenceEngine, other: InferenceEngine, crops: NDArray[np.uint8]
) -> dict[str, Differences]:
    """Compute the differences on crops of real faces [n, S, S, 3] and on crops of noise.

    The audio is noise with a varying level in both cases.
    """
    random = np.random.default_rng(0)
    real = crops[np.linspace(0, len(crops) - 1, FRAMES).round().astype(int)]
    noise = random.integers(0, 256, real.shape, dtype=np.uint8)
    seconds = FRAMES / RATE_HZ
    swell = np.sin(np.linspace(0, 3 * np.pi, round(seconds * SAMPLE_RATE_HZ))) ** 2
    samples = (0.1 * swell * random.standard_normal(len(swell))).astype(np.float32)
    return {
        "real": _compare(reference, other, real, samples),
        "noise": _compare(reference, other, noise, samples),
    }


def _compare(
    reference: InferenceEngine, other: InferenceEngine, crops: NDArray[np.uint8], samples: NDArray[np.float32]
) -> Differences:
    """Compute the largest difference of each stage and the mean difference of the probabilities."""
    found: Differences = {}
    tokens = [each.encode_audio(samples) for each in (reference, other)]
    found["encode_sound"] = _largest(*tokens)
    faces = [0, 1] * (len(crops) // 2)
    ours, theirs = (each.encode_faces(crops, faces, {}, attributions=True) for each in (reference, other))
    for name in ("embedding", "au_tokens", "points", "pose_occlusion"):
        found[STORED_NAMES.get(name, name)] = _largest(getattr(ours, name), getattr(theirs, name))
    for name in ("patch_weights", "attention", "gates"):
        found[name] = _largest(getattr(ours.attributions, name), getattr(theirs.attributions, name))

    times_s = np.arange(len(crops), dtype=np.float64) / RATE_HZ
    token_s = (np.arange(len(tokens[0]), dtype=np.float64) + 0.5) / TOKEN_RATE_HZ
    audio_tokens = [AudioTokens(each, token_s) for each in tokens]
    fused, other_fused = (
        each.fuse_audio(ours.embedding, times_s, audio_tokens[0]) for each in (reference, other)
    )
    found["hear"] = _largest_of(fused, other_fused)
    opening, other_opening = (
        each.mouth_opening(ours.embedding, audio_tokens[0]) for each in (reference, other)
    )
    if opening is not None and other_opening is not None:
        found["opening"] = _largest_of(opening, other_opening)
    x, audio_condition = fused.x, fused.audio_condition
    found["audio_gate"] = _largest(
        *(each.audio_gate(ours.embedding, times_s, audio_tokens[0]) for each in (reference, other))
    )
    found["sweep"] = max(
        _largest(
            *(
                each.scan_block(block, direction, x, audio_condition, elapsed, None)[0]
                for each in (reference, other)
            )
        )
        for block in range(reference.blocks)
        for direction, elapsed in zip(DIRECTIONS, elapsed_frames(times_s), strict=True)
    )
    found["read"] = _largest(*(each.classify(x, ours.au_tokens) for each in (reference, other)))
    scores = [
        score_track(each, features.embedding, features.au_tokens, times_s, audio)
        for each, features, audio in zip((reference, other), (ours, theirs), audio_tokens, strict=True)
    ]
    found["logits"] = _largest(*(each.logits for each in scores))
    if scores[0].intensity is not None and scores[1].intensity is not None:
        found["intensity"] = _largest(scores[0].intensity, scores[1].intensity)
    probabilities = [1 / (1 + np.exp(-each.logits.astype(np.float64))) for each in scores]
    found["mean_probability"] = float(np.abs(probabilities[0] - probabilities[1]).mean())
    return found


def _largest_of(
    ours: Iterable[NDArray[np.floating] | None], theirs: Iterable[NDArray[np.floating] | None]
) -> float:
    """Return the largest difference of several arrays; one that is missing on either side is not compared."""
    pairs = zip(ours, theirs, strict=True)
    return max(_largest(a, b) for a, b in pairs if a is not None and b is not None)


def _largest(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    return float(np.abs(a - b).max())
