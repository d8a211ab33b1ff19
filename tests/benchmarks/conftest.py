"""Put the repository on the import path, to import the packages `recipes` and `benchmarks`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
