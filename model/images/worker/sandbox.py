"""How processes that decode hostile bytes are confined: what they get from their parent, and may not do."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
from collections.abc import Iterator

__all__ = ["kernel_deadline", "limit_resources", "prepare_signals", "silence_stderr", "worker_environment"]

# The parent ends a worker that takes too long; if the parent is gone, the kernel does, this much later.
_ALARM_GRACE_S = 15.0


def worker_environment() -> dict[str, str]:
    """Return the parent's environment with one thread and no secret; a worker imports what the parent does."""
    return {
        # Each photo takes and frees the same few megabytes: glibc would hand them back to the system, which makes
        # every page anew (a quarter of the time of a small photo). Other C libraries do not read these.
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
        **{name: value for name, value in os.environ.items() if name != "BIRDSEARCH_TOKEN"},
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    }


def prepare_signals() -> None:
    """Leave interrupts to the parent, and let an alarm end this process."""
    # The parent decides what an interrupt means; it ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent may ignore or block it; here it must end the process.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})


def limit_resources(memory_bytes: int) -> None:
    """Limit the address space of this process, where the system can, and have it leave no core dumps."""
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


def silence_stderr() -> None:
    """Send what this process writes on its standard error nowhere."""
    # Decoder libraries write complaints about each bad file there, over the progress bar.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


@contextlib.contextmanager
def kernel_deadline(seconds: float) -> Iterator[None]:
    """Have the kernel end this process if the block runs much longer than `seconds` and the parent is gone."""
    # Not `setitimer` with a handler: Python runs no handler while a decoder is inside C code.
    signal.alarm(math.ceil(seconds + _ALARM_GRACE_S))
    try:
        yield
    finally:
        signal.alarm(0)
