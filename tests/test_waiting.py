"""Importing the package decides how idle threads wait, before torch is imported."""

import os
import subprocess
import sys

import pytest

CODE = "import sys, os, lipsound2; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE False"), ("ACTIVE", "ACTIVE False")])
def test_idle_threads_do_not_spin_for_who_imports_the_package(given, expected):
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    env |= {"OMP_WAIT_POLICY": given} if given else {}
    done = subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
