"""The nprobe table: how many lists a search looks into, as measured and stored with the vectors."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass

import numpy as np

__all__ = ["Nprobe"]


@dataclass(frozen=True, slots=True)
class Nprobe:
    """How many lists of an inverted file (Sivic and Zisserman, "Video Google", ICCV 2003) a search looks into.

    Attributes:
        count: How many lists there are.
        neighbours: Rising numbers of neighbours.
        lists: For each of `neighbours`, how many lists, the nearest first, have to be looked into.
        recall: Share of the true 20 nearest found, measured on stored vectors that neither trained the centroids
            nor chose `lists`.
        trained_on: How many vectors there were when the centroids were trained.
    """

    count: int
    neighbours: tuple[int, ...]
    lists: tuple[int, ...]
    recall: float
    trained_on: int

    def lists_for(self, neighbours: float) -> int | None:
        """Return how many lists to look into to find `neighbours` of them; None beyond what was measured."""
        if not self.neighbours or neighbours > self.neighbours[-1]:
            return None
        looked = np.interp(math.log(max(neighbours, 1.0)), np.log(self.neighbours), self.lists)
        return min(math.ceil(float(looked)), self.count)

    def to_json(self) -> str:
        """Return the table as JSON text, as the catalog stores it."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Nprobe:
        """Return the table that `to_json` wrote.

        Raises:
            ValueError: It is not that.
        """
        try:
            found = json.loads(text)
            return cls(
                int(found["count"]),
                tuple(int(k) for k in found["neighbours"]),
                tuple(int(lists) for lists in found["lists"]),
                float(found["recall"]),
                int(found["trained_on"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an nprobe table: {text!r}") from error
