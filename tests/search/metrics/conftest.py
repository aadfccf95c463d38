"""The random numbers of the tests of metrics."""

from __future__ import annotations

import numpy as np
import pytest

SEED = 20


@pytest.fixture
def rng() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)
