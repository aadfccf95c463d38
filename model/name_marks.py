"""What people add to the name of a bird: marks of doubt and of negation, and names that are no one species.

`name_key` sets all signs aside, which is right for spelling and wrong for `Mallard?`. So whatever a person wrote is
read here first, and no sign is dropped without a meaning: it is part of the spelling, it makes a verdict, or the
name is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["NameReading", "read_name"]

Said = Literal["positive", "negative", "uncertain"]
"""It is this taxon; it is not; it may be."""

# What spelling is made of beside letters and digits; the signs of the sexes tell nothing of the species.
_SPELLING = frozenset(" -‐‑‒–—'\"`´‘’‛“”„«»ʹʻʼʽˈ′_.,:()[]&#♂♀⚥✓✔✅\ufe0f\ufe0e\u200d")
_DASHES, _BRACKETS = frozenset("-‐‑‒–—−"), frozenset("()[]")
_DOUBT = frozenset("?¿~≈≃≅∼*⁇؟❓❔")
_NEGATION = frozenset("!≠¬❌✗✘🚫⛔")
# Between two names: `Mallard/Gadwall`, `Mallard x Gadwall`.
_BETWEEN = re.compile(r"[/|\\+;,&]|\s(?:and|or|und|oder|et|ou|y|o|en|of|vs|versus)\.?\s", re.IGNORECASE)
_HYBRID = re.compile(
    r"[×✕]|(?:^|[\s(])[x×](?=\s)|\b(?:hybrid|hybride|híbrido|ibrido|mischling|bastard)\b", re.IGNORECASE
)
_NO_SPECIES = re.compile(
    r"(?:^|[\s(])(?:spp?|spec|indet|unid)(?:\.|(?=[\s\d)]|$))|\b(?:unidentified|undetermined|unknown|unbestimmt|unbekannt)\b",
    re.IGNORECASE,
)
# In the middle of scientific names, too: `Anas cf. platyrhynchos`.
_CONFER = re.compile(r"(?:^|(?<=[\s(]))(?:cf|c\.f|aff)(?:\.\s*|(?=[\s)]|$))", re.IGNORECASE)
_DOUBT_WORDS = (
    *(
        "not sure",
        "not certain",
        "unsure",
        "uncertain",
        "probably",
        "probable",
        "prob",
        "possibly",
        "possible",
        "poss",
    ),
    *(
        "perhaps",
        "maybe",
        "may be",
        "might be",
        "could be",
        "likely",
        "presumed",
        "presumably",
        "doubtful",
        "tentative",
    ),
    *(
        "vermutlich",
        "vmtl",
        "wahrscheinlich",
        "wahrsch",
        "möglicherweise",
        "möglich",
        "evtl",
        "eventuell",
        "vielleicht",
    ),
    *(
        "nicht sicher",
        "unsicher",
        "fraglich",
        "probablement",
        "peut-être",
        "peut être",
        "pas sûr",
        "incertain",
        "douteux",
    ),
    *(
        "quizás",
        "quizá",
        "posible",
        "posiblemente",
        "probablemente",
        "dudoso",
        "forse",
        "probabile",
        "possibile",
        "talvez",
    ),
    *(
        "waarschijnlijk",
        "mogelijk",
        "misschien",
        "vermoedelijk",
        "onzeker",
        "troligen",
        "trolig",
        "kanske",
        "möjligen",
    ),
)
_NEGATION_WORDS = (
    *(
        "not a",
        "not an",
        "not",
        "no",
        "non",
        "kein",
        "keine",
        "nicht",
        "pas de",
        "pas un",
        "pas une",
        "pas",
        "geen",
    ),
    *("niet", "nessun", "nessuna", "ningún", "ninguna", "inte", "ingen", "never"),
)
_EMPTY_BRACKETS = re.compile(r"\(\s*\)|\[\s*\]")


def _one_of(words: Iterable[str]) -> str:
    # The longest first, so that "not a" is not read as "not".
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_LEADING_DOUBT = re.compile(rf"^\W*(?:{_one_of(_DOUBT_WORDS)})\b[.:,)\]\s-]+(?=\w)", re.IGNORECASE)
_TRAILING_DOUBT = re.compile(rf"[\s,:(\[-]+(?:{_one_of(_DOUBT_WORDS)})[.)\]\s]*$", re.IGNORECASE)
_LEADING_NEGATION = re.compile(rf"^\W*(?:{_one_of(_NEGATION_WORDS)})[\s:]+(?=\w)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class NameReading:
    """What a person wrote, taken apart.

    Attributes:
        name: The name without its marks; as it was written if it has none.
        verdict: `uncertain` with a mark of doubt, `negative` with one of negation, else `positive`.
        refusal: Why it is the name of no one species, after which it says nothing; empty if nothing speaks
            against it.
        is_bare: False if a word such as `not` was taken off a name that is not known: it may be part of it.
    """

    name: str
    verdict: Said = "positive"
    refusal: str = ""
    is_bare: bool = True


_BOTH = "says both that it may be and that it is not; write one of the two"
_BESIDE = "take it out, or write the verdict beside the name"

Spellings = Callable[[str], Iterable[str]]
"""Gives the known names of the same letters and digits, as they are written; none for a name that is not known."""


def read_name(text: str, spellings: Spellings) -> NameReading:
    """Take the marks off a name.

    Doubt is a sign such as `?`, `~` or `*` anywhere, `cf.` or `aff.`, or a word such as `prob.` or `vermutlich`
    before or behind the name. Negation is `!` or `≠` before it, or a word such as `not` or `kein`. Names of two
    species, hybrids and `sp.` are refused, as is a known name with a sign that has no meaning here. A name that is
    known as it is written, signs included, is read as that.

    Args:
        text: What was written.
        spellings: What is known.
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).split())
    if not any(sign.isalnum() for sign in plain):
        return NameReading(text)
    signs = _signs(plain)
    if any(_signs(unicodedata.normalize("NFKC", name)) == signs for name in spellings(plain)):
        return NameReading(text, refusal=_unclear(plain))
    verdicts: set[Said] = set()
    name = plain
    if not _DOUBT.isdisjoint(name):
        verdicts.add("uncertain")
        name = _cleaned("".join(sign for sign in name if sign not in _DOUBT))
    start = name.replace("<>", "≠").replace("!=", "≠").lstrip(" ([")
    if start[:1] in _NEGATION:
        verdicts.add("negative")
        name = _cleaned(start[1:])
    is_bare = True
    while not _is_known(name, spellings):
        found = _without_word(name)
        if found is None:
            break
        said, name = found
        verdicts.add(said)
        is_bare = _is_known(name, spellings)
    if len(verdicts) > 1:
        return NameReading(text, refusal=_BOTH)
    verdict: Said = next(iter(verdicts), "positive")
    refusal = "" if _is_known(name, spellings) else _no_species(name, spellings)
    # A sign is at risk of being dropped only where the letters are a name; a new name keeps its signs.
    if not refusal and any(True for _ in spellings(name)):
        strange = " ".join(sorted(set(_signs(name))))
        refusal = f"has {strange!r}, which has no meaning here; {_BESIDE}" if strange else _unclear(name)
    if refusal:
        return NameReading(text, refusal=refusal)
    return NameReading(text if name == plain else name, verdict, is_bare=is_bare)


def _signs(text: str) -> str:
    """Return the signs that are no spelling, sorted, without invisible ones."""
    return "".join(
        sorted(
            sign
            for sign in text
            if not (sign.isalnum() or sign.isspace() or sign in _SPELLING)
            and unicodedata.category(sign) not in ("Mn", "Mc", "Me", "Cf")
        )
    )


def _cleaned(text: str) -> str:
    return " ".join(_EMPTY_BRACKETS.sub(" ", text).split()).strip(" ,:")


def _is_known(name: str, spellings: Spellings) -> bool:
    return not _signs(name) and any(True for _ in spellings(name))


def _unclear(name: str) -> str:
    """Return why a name may be a negation or a doubt without saying so; empty if it is plain."""
    if name[0] in _DASHES or name[-1] in _DASHES:
        return f"has a dash before or behind it, which may be a minus; {_BESIDE}"
    if (name[0], name[-1]) in (("(", ")"), ("[", "]")) and _BRACKETS.isdisjoint(name[1:-1]):
        return f"is all in brackets, which may be a doubt; {_BESIDE}"
    return ""


def _without_word(name: str) -> tuple[Said, str] | None:
    """Return the verdict of one word of doubt or negation, and the name without it; None if there is none."""
    doubts: tuple[tuple[re.Pattern[str], Said], ...] = (
        (_CONFER, "uncertain"),
        (_LEADING_DOUBT, "uncertain"),
        (_TRAILING_DOUBT, "uncertain"),
        (_LEADING_NEGATION, "negative"),
    )
    for pattern, said in doubts:
        rest = _cleaned(pattern.sub("", name, count=1))
        if rest and rest != name and any(sign.isalnum() for sign in rest):
            return said, rest
    return None


def _no_species(name: str, spellings: Spellings) -> str:
    """Return why a name is not that of one species; empty if it may be one."""
    if _NO_SPECIES.search(name):
        return "names no species; leave it out, or write the species"
    if _HYBRID.search(name):
        return (
            "names a hybrid, which is no species; leave it out, or make it a taxon of its own with "
            "`birdsearch annotate taxa FILE.csv`"
        )
    known = {
        part.strip(" .").casefold() for part in _BETWEEN.split(name) if any(True for _ in spellings(part))
    }
    if "/" in name or len(known) > 1:
        return "names more than one species; write the one that it is, or leave it out"
    return ""
