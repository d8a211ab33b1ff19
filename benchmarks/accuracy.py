"""How far auscan agrees with the teacher on faces of people it never saw.

    python benchmarks/accuracy.py --data ../shared/data

Writes the pictures of `faces_val.parquet` into a folder, runs `auscan detect` on that folder as a user
would, and compares the tables with the teacher's labels (rule: recipes/nano/labels.py). The teacher is
MediaPipe Face Landmarker, a model; this is agreement with it, not accuracy against human coders.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.metrics import f1_score, roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "nano"))
from auscan.core.aus import AU_NAMES
from auscan.results.table import ACTIVE_COLUMNS, read_result_table
from labels import lip_gap, teacher_targets

FIRST_EIGHT = ("AU01", "AU02", "AU04", "AU07", "AU10", "AU12", "AU25", "AU26")
ALL_TEN = (*FIRST_EIGHT, "AU15", "AU24")


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with faces_val.parquet")
    parser.add_argument("--model", default="nano")
    args = parser.parse_args()
    faces = pd.read_parquet(args.data / "faces_val.parquet")
    landmarks = np.stack([np.asarray(v, np.float32).reshape(478, 2) for v in faces["landmarks"]])
    labels = teacher_targets(faces, lip_gap(landmarks)).labels
    with tempfile.TemporaryDirectory() as folder:
        found = detect_pictures(faces, Path(folder), args.model)
    show(found, labels)


def detect_pictures(faces: pd.DataFrame, folder: Path, model: str) -> pd.DataFrame:
    """The surest face of each picture, a row a picture in the order of `faces`; NaN where none was found."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for row, jpeg in enumerate(faces["jpeg"]):
        (pictures / f"{row:05d}.jpg").write_bytes(jpeg)
    command = ["auscan", "detect", str(pictures), "--out", str(folder / "out"), "--model", model]
    command.append("--keep-all")  # F1 counts all faces, the hard ones too
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tables = [read_result_table(folder / "out" / f"{row:05d}" / "aus.parquet") for row in range(len(faces))]
    return pd.concat([table.nlargest(1, "confidence") for table in tables], ignore_index=True)


def agreement(found: pd.DataFrame, labels: np.ndarray) -> pd.DataFrame:
    """A row for each of the ten AUs with a teacher, over the pictures with a face: share, AUC, F1."""
    seen = found["success"].to_numpy() == 1
    rows = {}
    for column, (name, active) in enumerate(zip(AU_NAMES, ACTIVE_COLUMNS, strict=True)):
        if name in ALL_TEN:
            known = seen & (labels[:, column] >= 0) & found[name].notna().to_numpy()
            truth = labels[known, column]
            auc = roc_auc_score(truth, found.loc[known, name])
            rows[name] = (truth.mean(), auc, f1_score(truth, found.loc[known, active]))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["positives", "auc", "f1"])


def show(found: pd.DataFrame, labels: np.ndarray) -> None:
    """Print AUC and F1 of each AU over the pictures with a face, and the means."""
    scores = agreement(found, labels)
    table = Table("AU", "positives", "AUC", "F1")
    for name in AU_NAMES:
        if name not in scores.index:
            table.add_row(name, "-", "no teacher", "-")
            continue
        row = scores.loc[name]
        table.add_row(name, f"{row['positives']:.1%}", f"{row['auc']:.3f}", f"{row['f1']:.3f}")
    console = Console(width=100)
    console.print(table)
    console.print(f"faces found in {(found['success'] == 1).mean():.2%} of {len(found)} pictures")
    for title, names in (("eight", FIRST_EIGHT), ("ten", ALL_TEN)):
        mean = scores.loc[list(names), "auc"].mean()
        console.print(f"mean AUC over {title} ({', '.join(names)}): {mean:.4f}")


if __name__ == "__main__":
    main()
