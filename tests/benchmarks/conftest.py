"""The benchmarks are scripts beside the package; their folder is where they find each other."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "recipes" / "nano")]
