"""Find the intensity from which the teacher of the real faces scores a rendered AU as active.

    python recipes/nano/render/teacher_thresholds.py render --ict ict_facekit.npz --out sweep.npz
    python recipes/nano/render/teacher_thresholds.py score --sweep sweep.npz --task face_landmarker.task

Prints the median score over persons for each intensity. expressions.ON and OFF were chosen by it. `score`
needs `pip install mediapipe numpy` but not auscan, so it can run in a separate environment.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3]))  # the repository, for recipes and benchmarks


INTENSITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.55, 0.7, 0.9, 1.1)
PERSONS = 8
SCORES = {
    **{"AU01": ("browInnerUp", 0.25), "AU02": ("browOuterUp", 0.25), "AU04": ("browDown", 0.35)},
    **{"AU06": ("eyeSquint", 0.5), "AU07": ("eyeSquint", 0.5), "AU10": ("mouthUpperUp", 0.25)},
    **{"AU12": ("mouthSmile", 0.4), "AU15": ("mouthFrown", 0.1), "AU24": ("mouthPress", 0.2)},
    **{"AU25": ("lip gap", 0.035), "AU26": ("jawOpen", 0.15), "AU05": ("eyeWide", 0.08)},
    **{"AU14": ("mouthDimple", 0.08), "AU17": ("mouthShrugLower", 0.2), "AU20": ("mouthStretch", 0.3)},
    **{"AU28": ("mouthRollLower", 0.3), "AU45": ("eyeBlink", 0.5)},
}
"""Teacher score and threshold of each AU; AU06 uses the squint of AU07."""
AUS = tuple(SCORES)
"""AUs that are rendered: those with a score."""


def main() -> None:
    """Parse arguments and run one step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    first = steps.add_parser("render", help="render each AU at each intensity")
    second = steps.add_parser("score", help="score the pictures with the teacher")
    first.add_argument("--ict", type=Path, required=True, help="ict_facekit.npz")
    first.add_argument("--out", type=Path, required=True, help="file for the pictures (.npz)")
    second.add_argument("--sweep", type=Path, required=True, help="file written by render")
    second.add_argument("--task", type=Path, required=True, help="face_landmarker.task")
    args = parser.parse_args()
    if args.step == "render":
        render(args.ict, args.out)
    else:
        score(args.sweep, args.task)


def render(ict: Path, out: Path) -> None:
    """Render each AU alone at each intensity, for some persons without glasses in even light."""
    from recipes.nano.data.teacher_labels import NANO_AUS
    from recipes.nano.render.appearance import draw_appearance
    from recipes.nano.render.camera_model import draw_camera_setup, render_head
    from recipes.nano.render.head_mesh import EXTRA_NAMES, load_head

    head = load_head(ict)
    plain = replace(
        draw_camera_setup(np.random.default_rng(0), plain=True),
        background=np.full((330, 330, 3), 120, np.uint8),
        scale=9.0,
        distance_cm=100.0,
        key_light=np.full(3, 0.5, np.float32),
        ambient=np.full(3, 0.45, np.float32),
    )
    people = (draw_appearance(head, seed) for seed in range(10 * PERSONS))
    chosen = [person for person in people if person.glasses == "none"][:PERSONS]
    images, gaps = [], []
    for person in chosen:
        extras = np.zeros(len(EXTRA_NAMES), np.float32)
        for name in AUS:
            for intensity in INTENSITIES:
                shown = np.where(np.array(NANO_AUS) == name, intensity, 0).astype(np.float32)
                vertices = head.vertices(person.shape, person.au_deltas, shown, shown, extras)
                picture = render_head(head, person, vertices, (3.0, 0.0, 0.0), (0.5, 0.45), plain)
                images.append(picture.image)
                gaps.append(picture.lip_gap)
    np.savez(out, images=np.stack(images), gaps=np.array(gaps))


def score(sweep: Path, task: Path) -> None:
    """Score the pictures with the teacher and print the medians."""
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(task)), output_face_blendshapes=True
    )
    with np.load(sweep) as stored, vision.FaceLandmarker.create_from_options(options) as teacher:
        gaps = stored["gaps"].reshape(PERSONS, len(AUS), -1)
        found = [
            _scores(
                teacher.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(image)))
            )
            for image in stored["images"]
        ]
    values = np.array(found).reshape(PERSONS, len(AUS), len(INTENSITIES), len(SCORES))
    print("intensity          ", *(f"{value:6.2f}" for value in INTENSITIES))
    for column, (au, (name, line)) in enumerate(SCORES.items()):
        median = np.nanmedian(values[:, AUS.index(au), :, column], axis=0)
        print(f"{au} {name:12s}{line:5.3f}", *(f"{value:6.3f}" for value in median))
    print("AU25 gap of the mesh ", *(f"{v:6.3f}" for v in np.median(gaps[:, AUS.index("AU25")], axis=0)))


def _scores(result: object) -> list[float]:
    """Return the teacher's scores for SCORES, mean of both sides; NaN without a face."""
    shapes, landmarks = result.face_blendshapes, result.face_landmarks  # type: ignore[attr-defined]
    if not shapes:
        return [float("nan")] * len(SCORES)
    by_name = {shape.category_name: shape.score for shape in shapes[0]}
    places = np.array([[place.x, place.y] for place in landmarks[0]])
    gap = np.linalg.norm(places[13] - places[14]) / np.linalg.norm(places[10] - places[152])
    found = []
    for name, _ in SCORES.values():
        sides = [by_name[k] for k in (name, f"{name}Left", f"{name}Right") if k in by_name]
        found.append(float(np.mean(sides)) if sides else float(gap))
    return found


if __name__ == "__main__":
    main()
