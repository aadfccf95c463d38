"""First use of native libraries: one thread at a time in the whole process.

Libraries set themselves up at their first call, not only when they are imported. Where two threads make that call
together, one can wait for the other inside the library while it holds what the other needs to go on (Python's
global lock, or the guard of a C++ static): both wait for ever, with the interpreter, and no signal is answered.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from birdsearch.errors import StalledError
from birdsearch.settings import STALL_S

__all__ = ["first_use"]

# NOTE: state of the module, since what it guards is the process. A thread may use a library inside of the first use
# of another: torch to make the graph that OpenVINO reads.
_LOCK = threading.RLock()


@contextlib.contextmanager
def first_use(library: str, wait_s: float = STALL_S) -> Iterator[None]:
    """Import a native library, or call it for the first time, while no other thread does so with any.

    Nothing but libraries may be waited for inside: not another thread, not a lock.

    Args:
        library: What is used, for messages.
        wait_s: How long another thread's first use is waited for.

    Raises:
        StalledError: Another thread's first use did not end in time.
    """
    if not _LOCK.acquire(timeout=wait_s):
        stage = f"the start of {library}, which waits for another thread's first use of a library,"
        raise StalledError.of(stage, wait_s, "end the process: that thread will not come back")
    try:
        yield
    finally:
        _LOCK.release()
