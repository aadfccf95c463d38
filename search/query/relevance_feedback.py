"""Relevance feedback: a query moved towards what is like what is looked for, and away from what is not.

J. J. Rocchio, "Relevance feedback in information retrieval" (in G. Salton, "The SMART Retrieval System", 1971), on
unit vectors, with the usual weights:

    q' = 1 q + 0.75 mean(like) - 0.25 mean(unlike)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.embeddings import normalised

__all__ = ["feedback"]

_QUERY, _LIKE, _UNLIKE = 1.0, 0.75, 0.25


def feedback(
    query: NDArray[np.float32] | None,
    like: Sequence[NDArray[np.float32]],
    unlike: Sequence[NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Return a query with feedback.

    Args:
        query: (C,) float32 embedding, or None to start from what is like it.
        like: Embeddings of what is looked for.
        unlike: Embeddings of what is not.

    Returns:
        (C,) float32. Its direction is what the formula says; it is as long as the query, or as those it starts from
        are on average, so that labels can be estimated from it.

    Raises:
        InvalidInputError: There is nothing to start from, sizes differ, or what is like and unlike cancel out.
    """
    given = [*([] if query is None else [query]), *like]
    if not given:
        raise InvalidInputError("there is nothing to start from: name a photo, or one that it is like")
    if len({vector.shape for vector in (*given, *unlike)}) > 1:
        raise InvalidInputError("the vector has another size than the embeddings of this catalog")
    moved = np.zeros(given[0].shape, np.float64)
    for weight, vectors in ((_QUERY, given[: query is not None]), (_LIKE, like), (_UNLIKE * -1, unlike)):
        if len(vectors):
            moved += weight * normalised(np.stack(vectors)).astype(np.float64).mean(axis=0)
    length = float(np.linalg.norm(moved))
    if not length > 1e-6:
        raise InvalidInputError("what is like and what is unlike cancel each other out")
    lengths = [
        float(np.linalg.norm(vector.astype(np.float64)))
        for vector in (given[:1] if query is not None else given)
    ]
    return np.asarray(moved * (np.mean(lengths) / length), dtype=np.float32)
