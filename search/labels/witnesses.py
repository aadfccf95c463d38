"""The verified photos of a catalog as evidence: those with a live file and a sound vector, one a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.catalog.embeddings import unit_vectors
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import VerifiedLabel, labels_in_force
from birdsearch.search.query.vote_groups import kinship

__all__ = ["Witnesses", "read_witnesses"]


@dataclass(frozen=True, slots=True, eq=False)
class Witnesses:
    """Verified positive labels that count as evidence.

    Two views of one picture are one witness: of those with the same label the lowest view speaks for all.

    Attributes:
        labels: W labels, in order of their views.
        unit: (W, C) float32, unit-norm, the vectors of their views.
        groups: (W,) int64; what is of one event or picture is of one group, named by its smallest view.
        names: Every label that a live photo was verified to bear, whether or not its vector is sound.
        without_vector: How many labels were left out since there is no sound vector of their view.
    """

    labels: tuple[VerifiedLabel, ...]
    unit: NDArray[np.float32]
    groups: NDArray[np.int64]
    names: tuple[str, ...]
    without_vector: int

    @property
    def view_ids(self) -> NDArray[np.int64]:
        """(W,) int64, rising."""
        return np.array([one.view_id for one in self.labels], dtype=np.int64)


def read_witnesses(store: CatalogStore, model_id: int) -> Witnesses:
    """Read the verified photos of an open catalog that count as evidence.

    Args:
        store: The catalog; reading is enough.
        model_id: The model whose vectors are compared.
    """
    verified = labels_in_force(store, "positive")
    unit, usable = unit_vectors(store, model_id, [one.view_id for one in verified])
    sound = [one for one, is_sound in zip(verified, usable.tolist(), strict=True) if is_sound]
    unit = unit[usable]
    view_ids = [one.view_id for one in sound]
    kin = kinship(store, model_id, view_ids, vectors=dict(zip(view_ids, unit, strict=True)))
    first = kin.first_of([one.name for one in sound])
    return Witnesses(
        labels=tuple(sound[row] for row in first.tolist()),
        unit=np.ascontiguousarray(unit[first]),
        groups=kin.groups[first],
        names=tuple(one.name for one in verified),
        without_vector=len(verified) - len(sound),
    )
