"""Export the ONNX graphs that ship with nano: int8 residual convolutions, calibrated on training faces.

    python recipes/nano/calibrate/export_graphs.py --data ../shared/data --out src/auscan/checkpoints/nano

`train/run.py` calls this after training. Needs `pip install '.[train]'`; takes about a minute.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auscan.core.config import nano
from auscan.faces.align import crop_face
from auscan.inference.export import export

FACES = 200
"""Number of calibration faces, spread over the training table and its identities."""
POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")


def main() -> None:
    """Parse arguments, write the graphs and print their differences from PyTorch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with faces_train.parquet")
    parser.add_argument("--checkpoint", default="nano", help="checkpoint to export")
    parser.add_argument("--out", type=Path, default=Path("runs/nano/graphs"), help="folder for the graphs")
    args = parser.parse_args()
    report = export_nano(args.checkpoint, args.out, args.data / "faces_train.parquet")
    for kind, differences in report["differences"].items():
        print(kind, {name: float(f"{value:.2g}") for name, value in differences.items()})


def export_nano(checkpoint: str | Path, out: Path, parquet: Path) -> dict:
    """Write the graphs of `checkpoint` that ship into `out`. Return the report of the export."""
    return export(checkpoint, out, calibration_crops(parquet), int8=True)


def calibration_crops(parquet: Path) -> NDArray[np.uint8]:
    """Crop training faces by the teacher's points: [FACES, S, S, 3] RGB."""
    names = [f"{name}_{axis}" for name in POINTS for axis in "xy"]
    table = pd.read_parquet(parquet, columns=["jpeg", *names])
    table = table.iloc[np.linspace(0, len(table) - 1, FACES).round().astype(int)]
    points = table[names].to_numpy(np.float32).reshape(-1, 5, 2)
    side = nano().visual.crop_size
    images = (cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB) for jpeg in table["jpeg"])
    return np.stack([crop_face(image, five, side) for image, five in zip(images, points, strict=True)])


if __name__ == "__main__":
    main()
