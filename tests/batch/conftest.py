"""The modules beside this file can be imported, here and in the processes that a batch starts."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
