"""Freed memory is reused by the next allocation."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from auscan.training.optim import keep_freed_memory

def pages_asked_for():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2_000_000)  # 16 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
first = pages_asked_for()
print(first, max(pages_asked_for() for _ in range(5)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_a_large_array_reuses_freed_memory() -> None:
    output = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    first, later = map(int, output.split())
    assert later < first / 10
