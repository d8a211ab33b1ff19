"""The tests of the documents share the module that reads them; their folder is where they find it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
