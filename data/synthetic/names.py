"""Invented names: pronounceable, never given twice by one maker."""

from __future__ import annotations

import numpy as np

__all__ = ["NameMaker"]

_ONSETS = [
    "b",
    "br",
    "c",
    "cr",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gl",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "pl",
    "qu",
    "r",
    "s",
    "sc",
    "st",
    "t",
    "tr",
    "v",
    "z",
]
_VOWELS = ["a", "e", "i", "o", "u", "a", "e", "i", "o", "ae", "ia"]
_CODAS = ["l", "n", "r", "s", "t", "m", "x", "nd", "rt", "ll"]
_GENUS_ENDS = ["ornis", "urus", "ella", "ina", "opsis", "illa", "us", "anas", "aria", "icus"]
_EPITHET_ENDS = ["ensis", "atus", "ina", "osus", "alis", "aster", "ipes", "oides", "ula", "ifer"]
_NOUN_ENDS = ["et", "el", "ow", "in", "ard", "ling", "ock", "ette", "ler", "it"]


class NameMaker:
    """Makes names from a generator and remembers them, so that none comes twice.

    Args:
        rng: Where the choices come from; it is advanced.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._taken: set[str] = set()

    def order(self) -> str:
        """Invent a name such as `Tavoriformes`."""
        return self._fresh(2, ["iformes"]).capitalize()

    def family(self) -> str:
        """Invent a name such as `Brenolidae`."""
        return self._fresh(2, ["idae"]).capitalize()

    def genus(self) -> str:
        """Invent a name such as `Calornis`."""
        return self._fresh(2, _GENUS_ENDS).capitalize()

    def epithet(self) -> str:
        """Invent the second word of a scientific name, in lower case."""
        return self._fresh(2, _EPITHET_ENDS)

    def noun(self) -> str:
        """Invent a common name for the birds of a family, such as `Tarrel`."""
        return self._fresh(1, _NOUN_ENDS).capitalize()

    def place(self) -> str:
        """Invent the name of a place or a person, such as `Mostal`."""
        return self._fresh(2, ["a", "or", "en", "um"]).capitalize()

    def _fresh(self, syllables: int, ends: list[str]) -> str:
        while True:
            stem = ""
            for _ in range(syllables):
                stem += self._pick(_ONSETS) + self._pick(_VOWELS)
                if self._rng.random() < 0.35:
                    stem += self._pick(_CODAS)
            end = self._pick(ends)
            if stem[-1] in "aeiou" and end[0] in "aeiou":
                stem += self._pick(["r", "n", "l", "t", "v"])
            name = stem + end
            if name not in self._taken and 5 <= len(name) <= 16:
                self._taken.add(name)
                return name

    def _pick(self, choices: list[str]) -> str:
        return choices[int(self._rng.integers(len(choices)))]
