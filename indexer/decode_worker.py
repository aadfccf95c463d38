"""The process that reads, hashes and decodes photos for `birdsearch.indexer.decoders`.

It is started with the number of a connected socket and its settings as arguments. Decoders are the part of
the program that meets hostile bytes, so what it sends is JSON and plain pixel bytes: the parent never
unpickles what a worker says.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

from birdsearch.errors import PhotoError
from birdsearch.indexer.decode import DecodedPhoto, decode_photo, file_digest, read_file
from birdsearch.model.photo import PhotoLimits

__all__ = ["main", "read_seconds"]

# The parent ends a worker that takes too long; if the parent is gone, the kernel does, this much later.
_ALARM_GRACE_S = 15.0
_PARENT_POLL_S = 5.0
_READ_SECONDS = 30.0
_READ_BYTES_PER_SECOND = 1 << 20


@dataclass(frozen=True, slots=True)
class _Expected:
    size: int
    mtime_ns: int


def read_seconds(size: int) -> float:
    """How long reading a file of `size` bytes may take: half a minute, and a second for each MiB."""
    return _READ_SECONDS + size / _READ_BYTES_PER_SECOND


def main(arguments: list[str]) -> int:
    """Serve tasks until the connection closes or the parent is gone.

    Args:
        arguments: The file descriptor of the connection, and a JSON object with `input_size`, `max_pixels`,
            `max_bytes`, `deadline_s`, `memory_bytes` and `decode`.

    Returns:
        The exit status.
    """
    # The parent decides what an interrupt means; it ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent may ignore or block it; here it must end the process.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    settings = json.loads(arguments[1])
    limits = PhotoLimits(settings["max_pixels"], settings["max_bytes"], settings["deadline_s"])
    height, width = settings["input_size"]
    _limit_resources(settings["memory_bytes"])
    parent = os.getppid()
    with Connection(int(arguments[0])) as connection:
        try:
            _send(connection, {"kind": "ready"})
            _silence_stderr()
            while True:
                while not connection.poll(_PARENT_POLL_S):
                    # A copy of the parent's end in another process would keep the connection open.
                    if os.getppid() != parent:
                        return 0
                task = json.loads(connection.recv_bytes())
                if not _serve(connection, task, (height, width), limits, settings["decode"]):
                    return 0
        except (EOFError, OSError):
            return 0


def _limit_resources(memory_bytes: int) -> None:
    import resource

    # A decoder that crashes on every tenth file must not fill the disk with core dumps.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # macOS accepts the limit on address space and does not hold to it.
    if sys.platform != "darwin":
        with contextlib.suppress(ValueError, OSError):
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _silence_stderr() -> None:
    # Decoder libraries write complaints about each bad file there, over the progress bar.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def _serve(
    connection: Connection,
    task: dict[str, Any],
    input_size: tuple[int, int],
    limits: PhotoLimits,
    decode: str,
) -> bool:
    """Do one task; returns whether the process is fit for another."""
    path = bytes.fromhex(task["path"])
    expected = _Expected(task["size"], task["mtime_ns"])
    try:
        with _kernel_deadline(read_seconds(expected.size)):
            data = read_file(path, expected, limits)
            digest = file_digest(data)
        _send(connection, {"kind": "digest", "digest": digest.hex()})
        if json.loads(connection.recv_bytes())["kind"] == "skip":
            return True
        with _kernel_deadline(limits.deadline_s):
            suffix = os.path.splitext(os.fsdecode(path))[1]  # noqa: PTH122
            photo = decode_photo(data, input_size=input_size, limits=limits, suffix=suffix, decode=decode)
    except PhotoError as error:
        _send_failure(connection, error)
        return error.code != "out-of-memory"
    except MemoryError:
        _send_failure(connection, PhotoError("decode", "out-of-memory", "not enough memory for this file"))
        return False
    except (EOFError, ConnectionError):
        raise
    except Exception as error:
        # A bug of ours, or of a library where none was expected: one photo's failure, not the run's.
        reason = f"decoding failed: {type(error).__name__}: {error}"
        _send_failure(connection, PhotoError("decode", "corrupt", reason))
        return True
    _send_photo(connection, photo)
    return True


@contextlib.contextmanager
def _kernel_deadline(seconds: float) -> Iterator[None]:
    # Not `setitimer` with a handler: Python runs no handler while a decoder is inside C code.
    signal.alarm(math.ceil(seconds + _ALARM_GRACE_S))
    try:
        yield
    finally:
        signal.alarm(0)


def _send(connection: Connection, message: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(message).encode())


def _send_failure(connection: Connection, error: PhotoError) -> None:
    _send(
        connection,
        {
            "kind": "failed",
            "stage": error.stage,
            "code": error.code,
            "reason": error.reason,
            "transient": error.transient,
        },
    )


def _send_photo(connection: Connection, photo: DecodedPhoto) -> None:
    _send(
        connection,
        {
            "kind": "decoded",
            "format": photo.format,
            "width": photo.width,
            "height": photo.height,
            "capture": asdict(photo.capture),
            "phash": photo.phash.hex(),
            "sharpness": photo.sharpness,
            "decoded": photo.decoded,
        },
    )
    connection.send_bytes(photo.pixels.tobytes())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
