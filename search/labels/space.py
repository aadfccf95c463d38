"""The labels that an estimate chooses among: the model's classes and the other names of verified labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.catalog.taxa import RANKS
from birdsearch.model.taxonomy import Lineage, Taxon, Taxonomy, name_key

__all__ = ["ROOT", "LabelSpace"]

ROOT = "bird"
"""The answer where no rank below reaches the asked confidence."""

_UNPLACED = Lineage("", "", "", "")


@dataclass(frozen=True, slots=True, eq=False)
class LabelSpace:
    """Labels in a fixed order: first the model's classes as its logits have them, then the others by name.

    Attributes:
        names: L labels.
        scientific_names: L scientific names, None where there is none.
        classes: M, how many of the labels are the model's.
        clades: For genus, family and order, (L,) int64: the clade of each label, -1 where it is not known.
        clade_names: For genus, family and order, the names of the clades.
    """

    names: tuple[str, ...]
    scientific_names: tuple[str | None, ...]
    classes: int
    clades: tuple[NDArray[np.int64], ...]
    clade_names: tuple[tuple[str, ...], ...]

    @classmethod
    def build(cls, classes: Sequence[str], others: Iterable[str], taxonomy: Taxonomy) -> LabelSpace:
        """Build the labels of a model and of a catalog.

        Args:
            classes: The model's classes, in the order of its logits.
            others: Names of verified labels, in any order; those that name a class, by any of its names, are
                passed over.
            taxonomy: Where names are looked up.
        """
        taxa: list[Taxon | None] = [taxonomy.find(name) for name in classes]
        names = list(classes)
        keys = {name_key(name) for name in classes}
        keys |= {name_key(taxon.common_name) for taxon in taxa if taxon is not None}
        more: dict[str, tuple[str, Taxon | None]] = {}
        for name in others:
            taxon = taxonomy.find(name)
            shown = name if taxon is None else taxon.common_name
            key = name_key(shown)
            # Of several spellings of a name that no taxonomy has, the first in order.
            if key not in keys and (key not in more or shown < more[key][0]):
                more[key] = (shown, taxon)
        for _, (shown, taxon) in sorted(more.items()):
            names.append(shown)
            taxa.append(taxon)
        lineages = [_UNPLACED if taxon is None else Taxonomy.ancestors(taxon) for taxon in taxa]
        clades, clade_names = [], []
        for rank in RANKS[1:]:
            ordered = sorted({getattr(one, rank) for one in lineages} - {""})
            code = {name: number for number, name in enumerate(ordered)} | {"": -1}
            clades.append(np.array([code[getattr(one, rank)] for one in lineages], dtype=np.int64))
            clade_names.append(tuple(ordered))
        return cls(
            names=tuple(names),
            scientific_names=tuple(None if one is None else one.scientific_name or None for one in taxa),
            classes=len(classes),
            clades=tuple(clades),
            clade_names=tuple(clade_names),
        )

    def __len__(self) -> int:
        return len(self.names)

    def find(self, names: Iterable[str], taxonomy: Taxonomy) -> NDArray[np.int64]:
        """Return the label of each name, -1 where there is none.

        Args:
            names: N names, as `build` took them.
            taxonomy: The one that `build` took.

        Returns:
            (N,) int64; of two classes that are one taxon, the class that is named as the taxonomy names it, else
            the first.
        """
        number_by_key: dict[str, int] = {}
        for number, label in enumerate(self.names):
            number_by_key.setdefault(name_key(label), number)
        for number, label in enumerate(self.names):
            taxon = taxonomy.find(label)
            if taxon is not None:
                number_by_key.setdefault(name_key(taxon.common_name), number)
        known: dict[str, int] = {}

        def number_of(name: str) -> int:
            if name not in known:
                taxon = taxonomy.find(name)
                key = name_key(name if taxon is None else taxon.common_name)
                known[name] = number_by_key.get(key, -1)
            return known[name]

        return np.fromiter((number_of(name) for name in names), dtype=np.int64)

    def clade_probabilities(self, probabilities: NDArray[np.float64], rank: str) -> NDArray[np.float64]:
        """Return probabilities of the clades of a rank: the sum over their labels.

        Args:
            probabilities: (B, L) float64.
            rank: `genus`, `family` or `order`.

        Returns:
            (B, clades) float64; labels without a clade of the rank are in none.
        """
        level = RANKS.index(rank) - 1
        clades = self.clades[level]
        if not self.clade_names[level]:
            return np.zeros((len(probabilities), 0))
        # Every clade has a label. Summed row by row, so that a photo has one answer in every batch.
        members = np.argsort(clades, kind="stable")[int((clades < 0).sum()) :]
        starts = np.searchsorted(clades[members], np.arange(len(self.clade_names[level])))
        # (B, L) -> (B, clades)
        return np.add.reduceat(np.ascontiguousarray(probabilities[:, members]), starts, axis=1)
