"""Proposals of labels for the catalog's photos from tables, folder names, keywords and lists of photos.

Nothing is written. Each source gives the labels that can be recorded and, for every other row, folder or photo, the
reason why not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError, PhotoError
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.model.images.photo import PhotoLimits
from birdsearch.model.taxonomy import Taxonomy
from birdsearch.search.annotate.keywords import keyword_labels
from birdsearch.search.annotate.names import Matched, NameMatcher, Unmatched, match_name
from birdsearch.search.annotate.proposals import (
    Claim,
    Folder,
    Problem,
    Proposal,
    Proposals,
    UnusableError,
    count_of,
    files_in,
    joined,
    settled,
)
from birdsearch.search.annotate.sources import KeywordError, file_keywords, folder_name, sidecar_keywords
from birdsearch.search.annotate.tables import from_table
from birdsearch.search.query.hits import QueryResult
from birdsearch.search.query.inputs import find_photo

__all__ = [
    "Matched",
    "NameMatcher",
    "Problem",
    "Proposal",
    "Proposals",
    "Unmatched",
    "find_stored",
    "from_folders",
    "from_hits",
    "from_keywords",
    "from_photos",
    "from_table",
    "match_name",
]


def from_folders(
    store: CatalogStore, matcher: NameMatcher, folders: Sequence[Folder] = (), level: int = 0
) -> Proposals:
    """Propose labels by the names of the folders that photos are in, such as `Eurasian hoopoe/1.jpg`.

    Args:
        store: An open catalog.
        matcher: Finds the taxa.
        folders: Only photos under these; all of the catalog's if there are none.
        level: Which folder's name counts: 0 for the one that a photo is in, 1 for the one above, and so on up to
            the folder that was indexed.

    Returns:
        The labels, and each folder whose name is no taxon, with the number of its photos.

    Raises:
        InvalidInputError: `level` is negative, or a taxon is to be made of what is no name.
    """
    if level < 0:
        raise InvalidInputError(f"level is {level}; 0 is the folder that a photo is in, 1 the one above")
    problems: list[Problem] = []
    claims: list[Claim] = []
    unmatched: dict[str, tuple[Unmatched, bytes, set[int]]] = {}
    shallow = 0
    for file in files_in(store, folders, problems):
        parts = file.absolute.split(b"/")
        # The last is the file's own name; those above the indexed folder never count.
        depth = len(parts) - 2 - level
        if depth < len(file.root.rstrip(b"/").split(b"/")) - 1 or depth < 1:
            shallow += 1
            continue
        folder = b"/".join(parts[: depth + 1])
        match = _match_folder(matcher, display_path(parts[depth]))
        if isinstance(match, Matched):
            claims.append(Claim(file.photo_id, match.taxon, match.verdict, display_path(folder)))
        else:
            unmatched.setdefault(match.name, (match, folder, set()))[2].add(file.photo_id)
    for match, folder, photos in unmatched.values():
        reason = f"{match.reason} ({count_of(len(photos), 'photo')})"
        problems.append(Problem(display_path(folder), reason, match.is_unknown))
    notes = (
        [f"{count_of(shallow, 'file')} not so deep in the indexed folder: level {level}"] if shallow else []
    )
    return settled(store, claims, problems, notes, new=matcher.new)


def _match_folder(matcher: NameMatcher, folder: str) -> Matched | Unmatched:
    name = folder_name(folder)
    # Underscores are spaces, also around marks: `Mallard_(?)`, `not_Mallard`.
    plain = matcher.look(folder.replace("_", " ")) if name != folder else None
    return plain if isinstance(plain, Matched) else matcher.match(name)


# -- keywords ------------------------------------------------------------------------------------------------


def from_keywords(
    store: CatalogStore,
    taxonomy: Taxonomy,
    folders: Sequence[Folder] = (),
    progress: Callable[[int], None] | None = None,
) -> Proposals:
    """Propose labels by the keywords in photos and in `.xmp` files beside them.

    Embedded are XMP and IPTC (see `file_keywords`); beside `bird.jpg`, `bird.xmp` and `bird.jpg.xmp` are read. A
    keyword counts as `keyword_labels` says.

    Args:
        store: An open catalog.
        taxonomy: The catalog's taxonomy.
        folders: Only photos under these; all of the catalog's if there are none.
        progress: Called with the number of files that were read so far.

    Returns:
        The labels; photos whose keywords name two taxa, and those whose metadata are broken, are problems.
    """
    matcher = NameMatcher(taxonomy)
    problems: list[Problem] = []
    keywords: dict[int, list[str]] = {}
    where: dict[int, str] = {}
    readable: set[int] = set()
    unread: dict[int, list[Problem]] = {}
    beside = _Sidecars()
    for number, file in enumerate(files_in(store, folders, problems), start=1):
        path = file.absolute
        shown = display_path(path)
        found: list[str] = []
        # Files of one photo may bear other keywords, and one of them may be on a disk that is not there.
        try:
            found, broken = file_keywords(path)
            problems += [Problem(shown, reason) for reason in broken]
            readable.add(file.photo_id)
        except KeywordError as error:
            unread.setdefault(file.photo_id, []).append(Problem(shown, str(error)))
        for sidecar in beside.of(path):
            try:
                found = found + sidecar_keywords(sidecar)
            except KeywordError as error:
                problems.append(Problem(display_path(sidecar), str(error)))
        keywords.setdefault(file.photo_id, []).extend(found)
        where.setdefault(file.photo_id, shown)
        if progress is not None:
            progress(number)
    for photo_id, some in unread.items():
        problems += some if photo_id not in readable else []
    claims: list[Claim] = []
    without = nameless = 0
    for photo_id, words in keywords.items():
        try:
            labels = keyword_labels(matcher, words)
        except UnusableError as error:
            problems.append(Problem(where[photo_id], str(error)))
            continue
        claims += [Claim(photo_id, label.taxon, label.verdict, where[photo_id]) for label in labels]
        if labels:
            continue
        if words:
            nameless += 1
        else:
            without += 1
    notes = []
    if without:
        notes.append(f"{count_of(without, 'photo')} without keywords")
    if nameless:
        notes.append(f"{count_of(nameless, 'photo')} with keywords of which none is the name of a taxon")
    return settled(store, claims, problems, notes)


class _Sidecars:
    """The `.xmp` files of folders; the last folder's are remembered."""

    def __init__(self) -> None:
        self._folder: bytes | None = None
        self._names: dict[bytes, list[bytes]] = {}

    def of(self, path: bytes) -> list[bytes]:
        """Return the `.xmp` files beside a photo, in order of their names."""
        folder, name = os.path.split(path)
        if folder != self._folder:
            self._folder, self._names = folder, {}
            for other in _names_in(folder):
                if other.lower().endswith(b".xmp"):
                    self._names.setdefault(other.lower(), []).append(other)
        stem = os.path.splitext(name)[0]  # noqa: PTH122 bytes
        wanted = dict.fromkeys((stem.lower() + b".xmp", name.lower() + b".xmp"))
        return [joined(folder, other) for key in wanted for other in sorted(self._names.get(key, ()))]


def _names_in(folder: bytes) -> Iterator[bytes]:
    try:
        yield from os.listdir(folder)  # noqa: PTH208 bytes
    except OSError:
        # The photos in it then say that they cannot be read.
        return


# -- photos and hits -----------------------------------------------------------------------------------------


def find_stored(store: CatalogStore, photo: str | os.PathLike[str] | int) -> int:
    """Find a photo of the catalog and return its id.

    Args:
        store: An open catalog.
        photo: A path, whose content counts and, where there is no file any more, the path itself; or an id
            (`12` or `"#12"`).

    Raises:
        PhotoError: It cannot be read, or the catalog does not have it.
    """
    try:
        found = find_photo(store, photo, None, PhotoLimits()).query
    except PhotoError as error:
        known = None
        if error.code == "vanished" and not isinstance(photo, int):
            known = store.photo_at(os.path.abspath(os.fsencode(photo)))  # noqa: PTH100 bytes
        if known is None:
            raise
        return known
    if found.photo_id is None:
        reason = (
            f"{found.path}: the catalog does not have this photo; `birdsearch index` on its folder adds it"
        )
        raise PhotoError("read", "not-indexed", reason)
    return found.photo_id


def from_photos(
    store: CatalogStore,
    photos: Sequence[str | os.PathLike[str] | int],
    named: Matched,
    verdict: str = "positive",
) -> Proposals:
    """Propose the same label for some photos.

    Args:
        store: An open catalog.
        photos: Paths or ids; see `find_stored`.
        named: What is on them, or is not, as `NameMatcher` found it.
        verdict: `positive`, `negative` or `uncertain`.

    Returns:
        The labels; photos that the catalog does not have are problems.
    """
    said = named.verdict_with(verdict)
    claims: list[Claim] = []
    problems: list[Problem] = []
    for photo in photos:
        shown = f"#{photo}" if isinstance(photo, int) else display_path(os.fsencode(photo))
        try:
            claims.append(Claim(find_stored(store, photo), named.taxon, said, shown))
        except PhotoError as error:
            problems.append(Problem(shown, error.reason.removeprefix(f"{shown}: ")))
    return settled(store, claims, problems, new=(named.taxon,) if named.is_new else ())


def from_hits(
    store: CatalogStore,
    photo_id: int,
    result: QueryResult,
    named: Matched,
    min_similarity: float = -1.0,
    verdict: str = "positive",
) -> Proposals:
    """Propose the same label for a stored photo and for the photos that a query for it found.

    Of a hit, the view that matched is labelled.

    Args:
        store: An open catalog.
        photo_id: The photo.
        result: What the query found, the photo itself not among it.
        named: What is on them, or is not, as `NameMatcher` found it.
        min_similarity: Cosine that a hit must reach, -1..1; higher is more alike.
        verdict: `positive`, `negative` or `uncertain`.

    Returns:
        The labels, the photo's own first, then the hits' in their order.

    Raises:
        InvalidInputError: `min_similarity` is not within its limits.
    """
    if not -1.0 <= min_similarity <= 1.0:
        raise InvalidInputError(f"the similarity {min_similarity:g} is not within -1 to 1")
    hits = [hit for hit in result.hits if hit.similarity >= min_similarity]
    said = named.verdict_with(verdict)
    claims = [Claim(photo_id, named.taxon, said, "the photo itself")]
    claims += [
        Claim(hit.photo_id, named.taxon, said, f"hit {hit.rank}, similarity {hit.similarity:.4f}")
        for hit in hits
    ]
    notes = list(result.warnings)
    if len(hits) < len(result.hits):
        notes.append(
            f"{count_of(len(result.hits) - len(hits), 'hit')} below the similarity {min_similarity:g}"
        )
    views = {hit.photo_id: hit.view_id for hit in hits}
    return settled(store, claims, notes=notes, new=(named.taxon,) if named.is_new else (), views=views)
