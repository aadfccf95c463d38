"""Weights files that changed by themselves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from birdsearch.errors import WeightsError
from birdsearch.model import load_model
from birdsearch.model.checkpoint import read_checkpoint, save_checkpoint
from birdsearch.settings import Settings


def flip(path: Path, place: int, *, at: tuple[int, int]) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=at)


def test_weights_that_changed_by_themselves_are_refused_and_replaced_ones_are_not(
    tmp_path: Path, tiny_weights: Path
) -> None:
    settings = Settings(tmp_path / "catalog", tmp_path / "cache", None)
    whole = read_checkpoint(tiny_weights)
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, whole.network, whole.classes, whole.size, whole.stats)
    status = path.stat()
    dates = (status.st_atime_ns, status.st_mtime_ns)
    first = load_model(path, runtime="torch", device="cpu", settings=settings)
    assert load_model(path, runtime="torch", device="cpu", settings=settings).sha256 == first.sha256
    flip(path, status.st_size - 100, at=dates)
    with pytest.raises(WeightsError, match=r"its content changed .* damaged on the disk"):
        load_model(path, runtime="torch", device="cpu", settings=settings)
    # Somebody wrote it: that is another file, and from now on the one that is known.
    shutil.copy(path, tmp_path / "copy")
    os.utime(path, ns=(dates[0], dates[1] + 10**9))
    other = load_model(path, runtime="torch", device="cpu", settings=settings)
    assert other.sha256 != first.sha256
    flip(path, status.st_size - 100, at=(dates[0], dates[1] + 10**9))
    with pytest.raises(WeightsError, match="damaged on the disk"):
        load_model(path, runtime="torch", device="cpu", settings=settings)


def test_what_was_seen_is_forgotten_where_it_cannot_be_read(tmp_path: Path, tiny_weights: Path) -> None:
    settings = Settings(tmp_path / "catalog", tmp_path / "cache", None)
    for content in (b"", b"[]", b"{", b"\xff", b'{"x": 1}'):
        (tmp_path / "cache" / "weights").mkdir(parents=True, exist_ok=True)
        (tmp_path / "cache" / "weights" / "seen.json").write_bytes(content)
        assert load_model(tiny_weights, runtime="torch", device="cpu", settings=settings).classes
