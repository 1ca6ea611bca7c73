"""Shared by all tests: one thread per worker, and hypothesis without wall-clock deadlines."""

from __future__ import annotations

import os

# Before torch or numpy is imported anywhere: workers that each start a thread per core only get in each other's way.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(_variable, "1")

from hypothesis import settings

settings.register_profile("lensnet", deadline=None)
# The same examples every time: a new counterexample should be found at a desk, not on somebody else's change.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "lensnet")
