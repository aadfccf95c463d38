"""What all tests share: a small real network, photos made here, and an environment of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

# The networks of the tests are small: a second thread costs more than it gives, most of all on busy machines.
os.environ.setdefault("OMP_NUM_THREADS", "1")

MakePhoto = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's catalog, cache or weights."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith("BIRDSEARCH_") and not name.startswith(("BIRDSEARCH_TEST_", "BIRDSEARCH_SOAK")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BIRDSEARCH_CATALOG", str(home / "catalog"))
    monkeypatch.setenv("BIRDSEARCH_CACHE", str(home / "cache"))
    # The reference, unless a test is about the others: measuring which is the fastest takes seconds.
    monkeypatch.setenv("BIRDSEARCH_RUNTIME", "torch")


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a real XCiT nano with seeded random weights, 32 x 32 pixels and 5 classes."""
    return _write_weights(tmp_path_factory.mktemp("weights") / "tiny.pt", seed=1)


@pytest.fixture(scope="session")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like `tiny_weights`, of another seed."""
    return _write_weights(tmp_path_factory.mktemp("weights") / "other.pt", seed=2)


def _write_weights(path: Path, *, seed: int) -> Path:
    from birdsearch.model.checkpoint import save_checkpoint
    from birdsearch.model.config import RgbStats, variant
    from birdsearch.model.xcit import XCiT

    network = XCiT(variant("xcit_nano12_p16"), 5)
    network.initialise(seed)
    classes = [f"species {letter}" for letter in "abcde"]
    stats = RgbStats(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    save_checkpoint(path, network, classes, (32, 32), stats)
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_weights: Path) -> Model:
    """`tiny_weights`, loaded."""
    from birdsearch.model import load_model

    return load_model(tiny_weights, device="cpu", runtime="torch")


@pytest.fixture(scope="session")
def other_model(other_weights: Path) -> Model:
    """`other_weights`, loaded."""
    from birdsearch.model import load_model

    return load_model(other_weights, device="cpu", runtime="torch")


@pytest.fixture(scope="session")
def make_photo() -> MakePhoto:
    """Write a picture that depends on its seed alone: `make_photo(path, seed, size=(w, h), **save options)`."""

    def make(path: Path, seed: int, size: tuple[int, int] = (48, 36), **options: object) -> Path:
        generator = np.random.default_rng(seed)
        coarse = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, **options)  # type: ignore[arg-type]
        return path

    return make


@pytest.fixture(scope="session")
def without_override() -> tuple[str, ...]:
    """Start of a command line: what follows runs as Python does, but permissions hold for it even if it is root."""
    # Root's right to pass over permissions (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH) is dropped for good, with
    # PR_CAPBSET_DROP, before the interpreter that counts is started.
    program = (
        "import ctypes, os, sys\n"
        "if os.getuid() == 0:\n"
        "    for capability in (1, 2):\n"
        "        assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
    )
    return (sys.executable, "-c", program)


@pytest.fixture(scope="session")
def photos_folder() -> Path:
    """The real photos that `BIRDSEARCH_TEST_PHOTOS` names."""
    return _named_folder("BIRDSEARCH_TEST_PHOTOS")


@pytest.fixture(scope="session")
def weights_folder() -> Path:
    """The evaluation weights that `BIRDSEARCH_TEST_WEIGHTS` names."""
    return _named_folder("BIRDSEARCH_TEST_WEIGHTS")


def _named_folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} does not name a folder of real data")
    return Path(value)
