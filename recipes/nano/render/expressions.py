"""Draw random facial expressions and label rendered faces.

A still shows a resting face, one AU, a combination, or a mouth shape of speech. Any AU may occur with any
other, a third of the AUs has weak traces, and a third is asymmetric.

Label rule: 1 if the left-right mean is at least ON, 0 if it is at most OFF, -1 between. AU25 is labelled by
the inner-lip gap over the face height (the teacher's threshold is 0.035): 1 from GAP_ON, 0 up to GAP_OFF.

Lids that close (AU45) end a raised lid (AU05); lips are either pressed (AU23, AU24, AU28) or parted.

Inputs: a random generator.
Returns: an `Expression`, and labels and soft targets [A], A the AUs of NANO_AUS.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auscan.datasets.synth.person import Floats
from recipes.nano.data.teacher_labels import NANO_AUS
from recipes.nano.render.head_mesh import EXTRA_NAMES

Random = np.random.Generator
ON = np.where(np.isin(NANO_AUS, ["AU04", "AU12"]), 0.6, 0.5)
"""[A]: upper threshold."""
OFF = np.where(np.isin(NANO_AUS, ["AU04", "AU12"]), 0.35, 0.3)
"""[A]: lower threshold. Both are near the teacher's thresholds on rendered faces
(docs/benchmarks/rendered_data.md)."""
GAP_ON, GAP_OFF = 0.03, 0.015
"""Thresholds of AU25, inner-lip gap over face height."""
AU_COMBINATIONS = (
    *(("AU06", "AU12"), ("AU06", "AU12", "AU25"), ("AU06", "AU07", "AU12", "AU25", "AU26"), ("AU12", "AU25")),
    *(("AU01", "AU02"), ("AU01", "AU02", "AU25", "AU26"), ("AU01", "AU02", "AU12"), ("AU25", "AU26")),
    *(
        ("AU04", "AU07"),
        ("AU04", "AU07", "AU23"),
        ("AU04", "AU24"),
        ("AU04", "AU10", "AU25"),
        ("AU23", "AU24"),
    ),
    *(("AU01", "AU04", "AU15"), ("AU01", "AU15"), ("AU04", "AU15", "AU24"), ("AU04", "AU07", "AU10")),
    *(
        ("AU10", "AU25"),
        ("AU06", "AU10"),
        ("AU07", "AU10", "AU25", "AU26"),
        ("AU02", "AU12"),
        ("AU15", "AU23"),
    ),
    *(
        ("AU12", "AU24"),
        ("AU07", "AU12"),
        ("AU06", "AU15"),
        ("AU01", "AU02", "AU04", "AU25"),
        ("AU12", "AU15"),
    ),
    *(("AU01", "AU02", "AU05", "AU25", "AU26"), ("AU01", "AU02", "AU04", "AU05", "AU20", "AU25")),
    *(("AU04", "AU05", "AU07", "AU23"), ("AU09", "AU17"), ("AU04", "AU09", "AU10", "AU25"), ("AU14", "AU24")),
    *(
        ("AU15", "AU17"),
        ("AU01", "AU04", "AU15", "AU17"),
        ("AU17", "AU24"),
        ("AU12", "AU14"),
        ("AU14", "AU17"),
    ),
    *(("AU28",), ("AU12", "AU28"), ("AU07", "AU45"), ("AU06", "AU12", "AU45"), ("AU20", "AU25")),
)
"""AUs that occur together in joy, surprise, anger, sadness, disgust, fear, doubt."""
_SHUT = [NANO_AUS.index(name) for name in ("AU23", "AU24", "AU28")]
_OPEN = [NANO_AUS.index(name) for name in ("AU25", "AU26")]
_AU05, _AU25, _AU45 = (NANO_AUS.index(name) for name in ("AU05", "AU25", "AU45"))
_BASE_RATES = np.array(
    [
        *(0.13, 0.15, 0.1, 0.17, 0.24, 0.18, 0.16, 0.15, 0.12, 0.16),  # AU01 to AU14
        *(0.12, 0.12, 0.16, 0.24, 0.2, 0.04, 0.2, 0.3, 0.14),  # AU15 to AU45
    ]
)
"""[A]: probability of each AU outside the combinations, chosen so that all are about equally frequent."""


@dataclass(frozen=True, eq=False)
class Expression:
    """AU intensities and other movements of a face at one moment."""

    left: Floats
    """[A] intensities on the picture's left half of a frontal face; 1 is FACS intensity D to E."""
    right: Floats
    """[A] intensities on the other half."""
    extras: Floats
    """[E] intensities of head_mesh.EXTRAS."""


def draw_expression(random: Random) -> Expression:
    """Draw the expression of a still."""
    kind = random.choice(["rest", "one", "together", "speech"], p=[0.1, 0.22, 0.43, 0.25])
    active = np.zeros(len(NANO_AUS), np.bool_)
    if kind == "one":
        active[random.integers(len(NANO_AUS))] = True
    elif kind != "rest":
        if kind == "together" or random.random() < 0.4:
            chosen = AU_COMBINATIONS[random.integers(len(AU_COMBINATIONS))]
            active[[NANO_AUS.index(name) for name in chosen]] = True
        active |= random.random(len(NANO_AUS)) < _BASE_RATES
    traces = random.uniform(0, 0.25, len(NANO_AUS)) * (random.random(len(NANO_AUS)) < 0.35)
    between = random.uniform(OFF, ON) * (random.random(len(NANO_AUS)) < 0.05)
    mean = np.where(active, random.uniform(ON, 1.15), np.maximum(traces, between))
    mean[_AU25] *= 1.3  # lips part visibly only from half of it
    extras = _extras(random)
    if kind == "speech":
        _add_speech(random, mean, extras)
    _resolve_lips(random, mean)
    if min(mean[_AU05], mean[_AU45]) >= 0.2:
        mean[_AU05 if random.random() < 0.5 else _AU45] *= 0.1
    asymmetry = np.where(
        random.random(len(NANO_AUS)) < 0.35, random.uniform(-0.7, 0.7, len(NANO_AUS)), 0
    ) * random.choice([-1, 1])
    asymmetry[_OPEN] = 0
    left, right = (np.clip(mean * (1 + sign * asymmetry), 0, 1.4) for sign in (1, -1))
    return Expression(left.astype(np.float32), right.astype(np.float32), extras)


def _extras(random: Random) -> Floats:
    """Draw extras [E]: gaze often, others rarely."""
    chance = dict.fromkeys(EXTRA_NAMES, 0.06) | {"look_up": 0.25, "look_down": 0.25}
    chance |= {"look_left": 0.3, "look_right": 0.3}
    found = random.uniform(0.1, 0.9, len(EXTRA_NAMES)) * [
        random.random() < chance[name] for name in EXTRA_NAMES
    ]
    for a, b in (("look_left", "look_right"), ("look_up", "look_down"), ("jaw_left", "jaw_right")):
        found[EXTRA_NAMES.index(b)] *= found[EXTRA_NAMES.index(a)] == 0
    return np.asarray(found, np.float32)


def _add_speech(random: Random, mean: NDArray[np.float64], extras: Floats) -> None:
    """Add a mouth shape of speech: random opening, rounded or spread. Changes both arguments."""
    opening = random.uniform(0, 1)
    mean[_OPEN[0]] = max(mean[_OPEN[0]], opening)
    mean[_OPEN[1]] = max(mean[_OPEN[1]], random.uniform(0.2, 1.0) * opening)
    shape = random.choice(["pucker", "funnel", "spread", "none"])
    if shape == "spread":
        mean[NANO_AUS.index("AU20")] = max(mean[NANO_AUS.index("AU20")], random.uniform(0.1, 0.5))
    elif shape != "none":
        extras[EXTRA_NAMES.index(str(shape))] = random.uniform(0.2, 0.9)


def _resolve_lips(random: Random, mean: NDArray[np.float64]) -> None:
    """Keep lips either pressed or parted, and part them with a dropped jaw. Changes `mean`."""
    if min(mean[_SHUT].max(), mean[_OPEN].max()) >= 0.3:
        mean[_SHUT if random.random() < 0.45 else _OPEN] *= 0.2
    mean[_AU25] = max(mean[_AU25], 0.6 * mean[_OPEN[1]])


def mean_intensities(expression: Expression, resting_aus: Floats) -> Floats:
    """Return the mean of both sides plus the resting face: [A]."""
    return np.asarray((expression.left + expression.right) / 2 + resting_aus, np.float32)


def labels_of(intensities: Floats, lip_gap: NDArray[np.floating] | float) -> NDArray[np.int8]:
    """Convert intensities [..., A] and lip gaps [...] into labels [..., A], by the rule above."""
    low, high, value = _values_and_thresholds(intensities, lip_gap)
    return np.where(value >= high, 1, np.where(value <= low, 0, -1)).astype(np.int8)


def soft_targets(intensities: Floats, lip_gap: NDArray[np.floating] | float) -> Floats:
    """Return soft targets [..., A], 0 to 1; 0.5 halfway between OFF and ON."""
    low, high, value = _values_and_thresholds(intensities, lip_gap)
    return np.asarray(1 / (1 + np.exp(-(value - (low + high) / 2) / (0.6 * (high - low)))), np.float32)


def _values_and_thresholds(
    intensities: Floats, lip_gap: NDArray[np.floating] | float
) -> tuple[Floats, Floats, Floats]:
    """Return lower and upper threshold of each AU [A], and the values to compare [..., A]."""
    low, high = OFF.copy(), ON.copy()
    low[_AU25], high[_AU25] = GAP_OFF, GAP_ON
    value = np.array(intensities, np.float64)
    value[..., _AU25] = lip_gap
    return low, high, value
