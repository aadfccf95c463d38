"""The process that makes thumbnails for `birdsearch.search.service.thumb_makers`.

It is started with the number of a connected Unix socket and its settings as arguments. Photos of an archive are
bytes that nobody checked, and their decoders are C; whatever they do to this process, the service goes on without
it. For each task it gets an open file and a JSON object, and it answers with a JSON object and, if all went well,
the thumbnail.
"""

from __future__ import annotations

import io
import json
import os
import socket
import sys
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from birdsearch.errors import PhotoError
from birdsearch.model.images.box import Box
from birdsearch.model.images.digest import is_photo
from birdsearch.model.images.file_io import read_descriptor, read_error
from birdsearch.model.images.photo import PhotoLimits, load_photo
from birdsearch.model.images.resizing import resize_loaded
from birdsearch.model.images.scaling import Need
from birdsearch.model.images.worker.sandbox import (
    kernel_deadline,
    limit_resources,
    prepare_signals,
    silence_stderr,
)

__all__ = ["ENCODINGS", "encode", "main", "make_thumbnail", "thumbnail_size"]

ENCODINGS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 82, "optimize": True, "progressive": True},
    "WEBP": {"quality": 80, "method": 2},
    "AVIF": {"quality": 65, "speed": 9},
}
"""Format of a thumbnail -> how Pillow writes it."""


def thumbnail_size(width: float, height: float, side: int) -> tuple[int, int]:
    """Return width and height of a thumbnail in pixels: the longer is `side`, or the photo's if that is less.

    Args:
        width: Pixels of what is shown.
        height: Pixels of it.
        side: The longer side asked for.
    """
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def make_thumbnail(
    data: bytes, limits: PhotoLimits, *, side: int, box: Box | None = None, suffix: str = ""
) -> Image.Image:
    """Decode a photo and make it small: upright, in sRGB, free of all that the file holds beside its pixels.

    Args:
        data: The whole file.
        limits: What it may cost.
        side: Pixels of the longer side; a photo is never enlarged.
        box: A region to show, in parts of the upright frame; None for all of it.
        suffix: Suffix of the file's name.

    Returns:
        Mode RGB, in memory.

    Raises:
        PhotoError: It cannot be decoded.
    """
    region = (1.0, 1.0) if box is None else (box.w, box.h)
    # As if the network took `side` x `side`: what is left then has enough pixels along both axes.
    loaded = load_photo(data, limits, suffix=suffix, need=Need((side, side), "scaled", region))
    corners = None if box is None else box.corners(loaded.size)
    left, top, right, bottom = corners or (0, 0, *loaded.size)
    width, height = thumbnail_size(right - left, bottom - top, side)
    small = resize_loaded(loaded, (height, width), corners, exact=False)
    # Pillow writes what it finds in `info` (comments, profiles, EXIF); a new image has none.
    return Image.frombytes("RGB", small.size, small.tobytes())


def encode(image: Image.Image, encoding: str) -> bytes:
    """Return the bytes of a thumbnail; `encoding` is a key of `ENCODINGS`."""
    buffer = io.BytesIO()
    image.save(buffer, encoding, **ENCODINGS[encoding])
    return buffer.getvalue()


def main(arguments: list[str]) -> int:
    """Serve tasks until the connection closes.

    Args:
        arguments: The file descriptor of a Unix socket, and a JSON object with `max_pixels`, `max_bytes`,
            `deadline_s` and `memory_bytes`.

    Returns:
        The exit status.
    """
    prepare_signals()
    settings = json.loads(arguments[1])
    limit_resources(settings["memory_bytes"])
    limits = PhotoLimits(settings["max_pixels"], settings["max_bytes"], settings["deadline_s"])
    with socket.socket(fileno=int(arguments[0])) as files, Connection(os.dup(files.fileno())) as connection:
        try:
            connection.send_bytes(json.dumps({"kind": "ready"}).encode())
            silence_stderr()
            while True:
                _, descriptors, _, _ = socket.recv_fds(files, 1, 1)
                if not descriptors:
                    return 0
                answer, thumbnail = _answer(connection, descriptors[0], limits)
                connection.send_bytes(json.dumps(answer).encode())
                if thumbnail is not None:
                    connection.send_bytes(thumbnail)
                if answer.get("code") == "out-of-memory":
                    # What is left after that is not known.
                    return 1
        except (EOFError, OSError):
            return 0


def _answer(
    connection: Connection, descriptor: int, limits: PhotoLimits
) -> tuple[dict[str, Any], bytes | None]:
    try:
        task = json.loads(connection.recv_bytes())
        with kernel_deadline(task["deadline_s"]):
            return {"kind": "made"}, _made(task, descriptor, limits)
    except PhotoError as error:
        found = error
    except MemoryError:
        found = PhotoError("decode", "out-of-memory", "not enough memory for this file")
    except OSError as error:
        found = read_error(error)
    except Exception as error:
        # A bug of ours, or of a library where none was expected: one photo's failure.
        found = PhotoError("decode", "corrupt", f"decoding failed: {type(error).__name__}: {error}")
    finally:
        os.close(descriptor)
    return {
        "kind": "failed",
        "stage": found.stage,
        "code": found.code,
        "reason": found.reason,
        "transient": found.transient,
    }, None


def _made(task: dict[str, Any], descriptor: int, limits: PhotoLimits) -> bytes:
    data, _, _ = read_descriptor(descriptor, limits)
    if not is_photo(data, bytes.fromhex(task["digest"])):
        raise PhotoError("read", "changed", "the file has changed since it was indexed", transient=True)
    box = None if task["box"] is None else Box(*task["box"])
    return encode(
        make_thumbnail(data, limits, side=task["side"], box=box, suffix=task["suffix"]), task["encoding"]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
