"""How many threads FAISS uses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import faiss

__all__ = ["one_for_one", "one_thread"]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let FAISS use one thread: where its results hang on their number, or they would only wait for each other."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def one_for_one(queries: int) -> contextlib.AbstractContextManager[None]:
    """One thread for one query: FAISS shares out queries, and threads that have none only make it wait."""
    return one_thread() if queries == 1 else contextlib.nullcontext()
