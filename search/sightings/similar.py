"""Similar sightings: the same look at another time or place, one hit an event."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import CatalogError, InvalidInputError
from birdsearch.indexer.catalog.embeddings import normalised, unit_vectors
from birdsearch.indexer.catalog.filtered_photos import allowed_views, great_circle_km, photos_of
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.runs import decode_mode
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.vectors.index import VectorIndex
from birdsearch.model.images.photo import PhotoLimits
from birdsearch.search.query.catalog_model import catalog_model
from birdsearch.search.query.hits import Hit
from birdsearch.search.query.inputs import Photo, find_photo, network_input
from birdsearch.search.query.knn import nearest
from birdsearch.search.query.location_privacy.coarsening import SensitivePhotos
from birdsearch.search.query.retrieval import Match, describe
from birdsearch.search.sightings.find import with_shown_places
from birdsearch.search.sightings.store import KnownEvents, known_events
from birdsearch.settings import Settings

__all__ = ["SimilarHit", "SimilarResult", "similar"]

_SIGHTING = re.compile(r"s(\d{1,18})", re.ASCII)
# From here on a time is another time, and a place another place where no deployment says so.
_OTHER_TIME_S, _ELSEWHERE_KM = 86_400.0, 1.0


@dataclass(frozen=True, slots=True)
class SimilarHit:
    """The best frame of another event.

    Attributes:
        hit: The photo.
        event: Name of its event, the smallest photo id in it.
        sighting: Number of its sighting, or None before the first `sightings` run.
        site: Site of its deployment, or None; None too where the exact place is hidden.
        away_s: Seconds between the asked photo or sighting and this photo, by their clocks, or None.
        away_km: Kilometres between them as their places are told, or None.
    """

    hit: Hit
    event: int
    sighting: int | None
    site: str | None
    away_s: float | None
    away_km: float | None

    def to_dict(self) -> dict[str, object]:
        """Return the hit as JSON types."""
        return {
            "rank": self.hit.rank,
            "similarity": self.hit.similarity,
            "path": self.hit.path,
            "photo_id": self.hit.photo_id,
            "label": self.hit.label,
            "captured_at": self.hit.captured_at,
            "site": self.site,
            "event": self.event,
            "sighting": None if self.sighting is None else f"s{self.sighting}",
            "away_s": self.away_s,
            "away_km": self.away_km,
        }


@dataclass(frozen=True, slots=True)
class SimilarResult:
    """The answer to a search for what looks like a photo or a sighting.

    Attributes:
        asked: The photo's path, or the sighting's number.
        photo_ids: The photos that were asked about; none for a photo that is not in the catalog.
        hits: Best first, one an event.
        warnings: For a person.
    """

    asked: str
    photo_ids: tuple[int, ...]
    hits: tuple[SimilarHit, ...]
    warnings: tuple[str, ...]


def similar(
    store: CatalogStore,
    asked: Photo,
    k: int = 20,
    where: Where | None = None,
    *,
    elsewhere: bool = False,
    other_time: bool = False,
    exact_places: bool = False,
    settings: Settings | None = None,
    device: str = "auto",
) -> SimilarResult:
    """Find the same look in other events: of each event the frame that is most alike.

    Photos of the asked photo's own event and sighting are no hits, nor are its copies, which are of its event.

    Args:
        store: An open catalog; reading is enough.
        asked: A photo as `Catalog.query` takes it, or `s12` for a sighting of the newest `sightings` run, which is
            asked by the mean of its photos' vectors.
        k: How many hits, at least 0.
        where: Conditions on the hits, applied before the search, as are the following two.
        elsewhere: Only at another site; where one of the two has none, more than 1 km away by their positions.
        other_time: Only a day or more before or after.
        exact_places: Tell sites of sensitive species, and kilometres from and to their places as they are.
        settings: Where weights are looked for, for a photo that is not in the catalog.
        device: Where the network runs for such a photo.

    Returns:
        The hits; of equally similar ones the lower view first.

    Raises:
        InvalidInputError: `k` is negative, there is no such sighting, or `elsewhere` or `other_time` is asked of a
            photo whose place or time is not known.
        PhotoError: The photo cannot be read.
        CatalogError: No photo is indexed yet.
    """
    if k < 0:
        raise InvalidInputError(f"k must be at least 0, got {k}")
    record = store.active_model()
    if record is None:
        raise CatalogError(f"{store.path}: no photo is indexed yet; run `birdsearch index FOLDER`")
    known = known_events(store, record)
    hidden = np.zeros(len(known.frames), bool)
    if not exact_places:
        hidden = SensitivePhotos(store).are_hidden(known.frames.photo_ids)
        known = replace(known, frames=with_shown_places(known.frames, hidden))
    name, members, query = _asked(store, record, known, asked, settings, device)
    allowed = allowed_views(store, record.id, Where() if where is None else where)
    barred = np.isin(known.events, known.events[members]) | np.isin(known.sightings, known.sightings[members])
    away_km, away_s = _kilometres(known, members), _seconds(known, members)
    if elsewhere:
        barred |= ~_is_elsewhere(known, members, away_km, name)
    if other_time:
        if not len(members) or np.isnat(known.frames.times[members]).all():
            raise InvalidInputError(f"{name}: its time is not known, so that no time is another one")
        barred |= ~(away_s >= _OTHER_TIME_S)
    row_of = {photo_id: at for at, photo_id in enumerate(known.frames.photo_ids.tolist())}
    # A photo that was indexed since is not known yet.
    at_view = np.array([row_of.get(each, -1) for each in photos_of(store, allowed).tolist()], dtype=np.int64)
    allowed = allowed[(at_view >= 0) & ~barred[at_view]]
    index = VectorIndex.open(store, record.id, record.embedding_size)
    matches = _one_an_event(store, index, query, k, allowed, known, row_of)
    names = np.full(len(known.frames), np.iinfo(np.int64).max)
    np.minimum.at(names, known.events, known.frames.photo_ids)
    with store.snapshot() as snapshot:
        described = describe(snapshot, record, [matches])[0]
    hits = []
    for hit in described:
        at = row_of[hit.photo_id]
        number, site = int(known.numbers[at]), int(known.sites[at])
        hits.append(
            SimilarHit(
                hit=hit,
                event=int(names[known.events[at]]),
                sighting=number or None,
                site=known.site_names[site] if site >= 0 and not hidden[at] else None,
                away_s=None if np.isnan(away_s[at]) else float(away_s[at]),
                away_km=None if np.isnan(away_km[at]) else round(float(away_km[at]), 3),
            )
        )
    return SimilarResult(name, tuple(known.frames.photo_ids[members].tolist()), tuple(hits), index.warnings)


def _asked(
    store: CatalogStore,
    record: ModelRecord,
    known: KnownEvents,
    asked: Photo,
    settings: Settings | None,
    device: str,
) -> tuple[str, NDArray[np.int64], NDArray[np.float32]]:
    """Return the name of what is asked about, the rows of its photos, and its unit vector, (1, C)."""
    match = _SIGHTING.fullmatch(asked) if isinstance(asked, str) else None
    if match is not None:
        if known.run_id is None:
            raise InvalidInputError(f"{asked}: no sightings are stored yet; run `birdsearch sightings`")
        members = np.flatnonzero(known.numbers == int(match.group(1)))
        if not len(members) or int(match.group(1)) == 0:
            last = int(known.numbers.max(initial=0))
            raise InvalidInputError(f"{asked}: there is no such sighting; the newest run has s1 to s{last}")
        unit, _ = unit_vectors(store, record.id, known.frames.view_ids[members])
        mean = unit.astype(np.float64).sum(axis=0, keepdims=True)
        if not mean.any():
            raise CatalogError(f"{asked}: none of its photos has a whole vector; run `birdsearch check`")
        return str(asked), members, normalised(mean.astype(np.float32))
    limits = PhotoLimits()
    found = find_photo(store, asked, None, limits)
    members = np.flatnonzero(known.frames.photo_ids == (found.query.photo_id or 0))
    unit, _ = unit_vectors(store, record.id, known.frames.view_ids[members])
    if unit.any():
        return found.query.path, members, unit
    model = catalog_model(record, None, settings or Settings.from_environment(), device)
    pixels = network_input(found, model.input_size, limits, decode_mode(store, record.id))
    return found.query.path, members, normalised(model.infer_pixels(pixels[None]).embeddings)


def _one_an_event(
    store: CatalogStore,
    index: VectorIndex,
    query: NDArray[np.float32],
    k: int,
    allowed: NDArray[np.int64],
    known: KnownEvents,
    row_of: dict[int, int],
) -> list[Match]:
    """Return the best view of each of the k best events."""
    fetch = 4 * k
    while True:
        found = nearest(index, query, fetch, allowed)
        views = store.views(found.view_ids[0].tolist())
        best: dict[int, Match] = {}
        for view_id, similarity in zip(
            found.view_ids[0].tolist(), found.similarities[0].tolist(), strict=True
        ):
            event = int(known.events[row_of[views[view_id].photo_id]])
            best.setdefault(event, (views[view_id], similarity))
        if len(best) >= k or found.view_ids.shape[1] < fetch:
            return list(best.values())[:k]
        fetch *= 4


def _seconds(known: KnownEvents, members: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return seconds from each photo to the nearest of the times asked about, NaN where one is not known."""
    frames = known.frames
    found = np.full(len(frames), np.nan)
    times = np.sort(frames.stamps[members[frames.has_time[members]]])
    if len(times):
        timed = np.flatnonzero(frames.has_time)
        stamps = frames.stamps[timed]
        after = np.searchsorted(times, stamps)
        left = np.abs(stamps - times[np.maximum(after - 1, 0)])
        right = np.abs(times[np.minimum(after, len(times) - 1)] - stamps)
        found[timed] = np.minimum(left, right) / 1e6
    return found


def _kilometres(known: KnownEvents, members: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return kilometres from each photo to the first position asked about, NaN where one is not known."""
    latitudes, longitudes = known.frames.latitudes, known.frames.longitudes
    placed = members[~np.isnan(latitudes[members]) & ~np.isnan(longitudes[members])]
    if not len(placed):
        return np.full(len(latitudes), np.nan)
    return great_circle_km(float(latitudes[placed[0]]), float(longitudes[placed[0]]), latitudes, longitudes)


def _is_elsewhere(
    known: KnownEvents, members: NDArray[np.int64], away_km: NDArray[np.float64], name: str
) -> NDArray[np.bool_]:
    own = known.sites[members]
    own = own[own >= 0]
    if not len(own) and np.isnan(away_km).all():
        raise InvalidInputError(
            f"{name}: its place is not known, so that no place is another one; see `birdsearch deployments`"
        )
    has_site = (known.sites >= 0) & bool(len(own))
    return np.where(has_site, ~np.isin(known.sites, own), away_km > _ELSEWHERE_KM)
