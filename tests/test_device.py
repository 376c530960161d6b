"""Everything that computes, on a device that is not there; see tests/device."""

import subprocess
import sys
from pathlib import Path


def test_kpose_computes_on_one_device_and_waits_for_it_only_where_it_must():
    # In a process of its own: autograd has to know of the device before anything is differentiated.
    command = [sys.executable, "-m", "pytest", "tests/device", "-p", "no:cacheprovider", "-m", "not gpu"]
    result = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
