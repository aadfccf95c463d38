"""How many threads FAISS uses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import faiss

__all__ = ["one_for_one", "one_thread"]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limit FAISS to one thread: where its results depend on their number, or threads would only wait."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def one_for_one(queries: int) -> contextlib.AbstractContextManager[None]:
    """Limit FAISS to one thread for a single query: it shares out queries, and idle threads only slow it."""
    return one_thread() if queries == 1 else contextlib.nullcontext()
