from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from birdsearch.errors import PhotoError
from birdsearch.model.images.photo import PhotoLimits, read_photo


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Run as a user that permissions apply to."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(bytes(range(256)) * 10_000)
    for path in (file, str(file), os.fsencode(file)):
        assert read_photo(path) == file.read_bytes()


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(PhotoError) as caught:
        read_photo(tmp_path / "a.jpg")
    assert (caught.value.stage, caught.value.code) == ("read", "not-a-file")


def test_a_folder_a_device_and_nothing_are_not_read(tmp_path: Path) -> None:
    for path, code in ((tmp_path, "not-a-file"), ("/dev/zero", "not-a-file"), (tmp_path / "no", "vanished")):
        with pytest.raises(PhotoError) as caught:
            read_photo(path)
        assert (caught.value.stage, caught.value.code) == ("read", code)


def test_a_file_without_permission_is_recorded_as_unreadable() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = Path(folder) / "a.jpg"
        file.write_bytes(b"x")
        file.chmod(0)
        with without_privileges(), pytest.raises(PhotoError) as caught:
            read_photo(file)
    assert (caught.value.stage, caught.value.code, caught.value.transient) == ("read", "unreadable", True)


def test_more_bytes_than_the_limit_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.bmp"
    file.write_bytes(bytes(1001))
    limits = PhotoLimits(max_bytes=1000)
    with pytest.raises(PhotoError, match=r"1001 bytes, more than the limit of 1000") as caught:
        read_photo(file, limits)
    assert (caught.value.stage, caught.value.code) == ("read", "too-many-bytes")
    file.write_bytes(bytes(1000))
    assert len(read_photo(file, limits)) == 1000
