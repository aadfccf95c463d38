"""Verification and repair: whether the catalog, its vector index and the files are what they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from birdsearch.errors import CatalogError
from birdsearch.indexer.catalog.embeddings import drop_damaged_vectors
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verify import Problem, database_problems, file_problems, vector_problems
from birdsearch.indexer.vectors.index import VectorIndex

__all__ = ["CheckReport", "RebuildReport", "check_catalog", "rebuild_catalog"]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was verified, and what was found.

    Attributes:
        vectors: Stored vectors that were verified by checksum.
        files: Files whose content was hashed; 0 unless asked for.
        problems: Everything that is wrong; empty is good.
    """

    vectors: int
    files: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild did.

    Attributes:
        vectors: Vectors in the new vector index.
        dropped: Photos, path and id, whose stored vector was damaged; the next index run embeds them again.
    """

    vectors: int
    dropped: tuple[str, ...]


def check_catalog(
    store: CatalogStore, *, files: bool = False, progress: Callable[[int], None] | None = None
) -> CheckReport:
    """Verify the database, every stored vector, the vector index and, on request, every file.

    Args:
        store: An open catalog; reading is enough.
        files: Read every present file again and compare its hash.
        progress: Called with the number of vectors and files verified so far.

    Returns:
        The report. Nothing is changed.
    """
    problems = list(database_problems(store))
    vectors, hashed = 0, 0
    damaged: set[int] = set()
    try:
        for view_id, problem in vector_problems(store):
            vectors += 1
            if problem is not None:
                damaged.add(view_id)
                problems.append(problem)
            if progress is not None:
                progress(vectors)
        problems += _index_problems(store, damaged)
        if files:
            for problem in file_problems(store):
                hashed += 1
                if problem is not None:
                    problems.append(problem)
                if progress is not None:
                    progress(vectors + hashed)
    except CatalogError as error:
        # What is already known to be damaged is reported, though it keeps the rest from being verified.
        if not problems:
            raise
        problems.append(Problem("database", store.database_path.name, f"the rest was not verified: {error}"))
    return CheckReport(vectors=vectors, files=hashed, problems=tuple(problems))


def _index_problems(store: CatalogStore, damaged: set[int]) -> list[Problem]:
    """Return what is wrong with the vector index, views whose stored vector is damaged aside."""
    model = store.active_model()
    if model is None:
        return []
    followed = VectorIndex.open(store, model.id, model.embedding_size)
    followed.verify()
    followed.remove(np.array(sorted(damaged), np.int64))
    problems = [Problem("index", "vectors", warning) for warning in followed.warnings]
    truth = VectorIndex.build(store, model.id, model.embedding_size)
    truth.remove(np.array(sorted(damaged), np.int64))
    ids, true_ids = followed.view_ids, truth.view_ids
    if set(ids.tolist()) != set(true_ids.tolist()):
        problems.append(
            Problem(
                "index",
                "vectors",
                f"holds {len(ids)} views and the catalog {len(true_ids)}, or others; `birdsearch rebuild` mends it",
            )
        )
    elif not np.array_equal(followed.vectors[np.argsort(ids)], truth.vectors[np.argsort(true_ids)]):
        problems.append(
            Problem("index", "vectors", "differs from the stored vectors; `birdsearch rebuild` mends it")
        )
    return problems


def rebuild_catalog(store: CatalogStore) -> RebuildReport:
    """Drop damaged vectors and make the vector index of the model in use anew from the stored ones.

    Args:
        store: A catalog open for writing.

    Returns:
        What was done.

    Raises:
        CatalogError: The catalog or the vector index could not be written.
    """
    dropped = drop_damaged_vectors(store)
    active = store.active_model()
    count = 0
    if active is not None:
        vectors = VectorIndex.build(store, active.id, active.embedding_size)
        vectors.save(store)
        count = len(vectors)
    return RebuildReport(vectors=count, dropped=dropped)
