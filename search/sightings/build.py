"""The input of sightings, from a catalog: the taxa of frames, and the parts of events."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.catalog.embeddings import normalised, unit_vectors
from birdsearch.indexer.catalog.frames import NO_OFFSET, Frames
from birdsearch.indexer.catalog.predictions import last_predictions
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import catalog_taxonomy
from birdsearch.indexer.catalog.verified_labels import labels_in_force
from birdsearch.model.taxonomy import Taxonomy, name_key
from birdsearch.search.query.deployed import Assignment
from birdsearch.search.sightings.events import Grouping
from birdsearch.search.sightings.parts import NO_TIME, Parts, SightingRules, split_event

__all__ = ["BuiltParts", "Taxa", "build_parts", "instants", "read_taxa", "site_codes", "vote_of"]

# Exposures whose vectors are held at a time; an event with more of them is taken whole.
_CHUNK = 16_384
_MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Taxa:
    """The taxa of frames.

    Attributes:
        names: The names, in order.
        codes: (N,) int64, indices in `names`; -1 where none is known, or two verified labels differ.
        verified: (N,) bool, whether somebody said so; else a prediction did.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    verified: NDArray[np.bool_]


def read_taxa(store: CatalogStore, frames: Frames, exposures: NDArray[np.int64], least: float) -> Taxa:
    """Return the taxon of each frame: its verified label, that of a copy, or what the last `label` run is sure of.

    Args:
        store: An open catalog.
        frames: N frames.
        exposures: (N,) int64; what is verified of a photo holds for its copies.
        least: Probability from which a predicted species counts.
    """
    taxonomy = catalog_taxonomy(store)
    shown: dict[str, str] = {}
    names = np.full(len(frames), None, dtype=object)
    row_of = {photo_id: index for index, photo_id in enumerate(frames.photo_ids.tolist())}
    said: dict[int, set[str]] = {}
    for one in labels_in_force(store, "positive"):
        if one.photo_id in row_of:
            exposure = int(exposures[row_of[one.photo_id]])
            said.setdefault(exposure, set()).add(_shown(taxonomy, one.name, shown))
    verified = np.isin(exposures, list(said)) if said else np.zeros(len(frames), bool)
    for index in np.flatnonzero(verified).tolist():
        different = said[int(exposures[index])]
        names[index] = next(iter(different)) if len(different) == 1 else None
    at_view = dict(zip(frames.view_ids.tolist(), range(len(frames)), strict=True))
    for prediction in last_predictions(store):
        index = at_view.get(prediction.view_id, -1)
        is_sure = prediction.rank == "species" and prediction.probability >= least
        if index >= 0 and is_sure and not verified[index]:
            names[index] = _shown(taxonomy, prediction.name, shown)
    ordered = tuple(sorted({name for name in names.tolist() if name is not None}))
    code = {name: number for number, name in enumerate(ordered)}
    codes = np.array([-1 if name is None else code[name] for name in names.tolist()], dtype=np.int64)
    return Taxa(ordered, codes, verified & (codes >= 0))


def _shown(taxonomy: Taxonomy, name: str, shown: dict[str, str]) -> str:
    """Return one spelling for all names of a taxon."""
    key = name_key(name)
    if key not in shown:
        taxon = taxonomy.find(name)
        shown[key] = name if taxon is None else taxon.common_name
    return shown[key]


def site_codes(
    assignment: Assignment, frames: Frames, grouping: Grouping
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the site of each frame: that of most exposures of its event that have one; and the sites by name.

    Returns:
        (N,) int64 codes, -1 where unknown, and the names that they are indices in.
    """
    sites = tuple(sorted({one.site for one in assignment.deployments}))
    code = {site: number for number, site in enumerate(sites)}
    of_deployment = np.array([code[one.site] for one in assignment.deployments] + [-1], dtype=np.int64)
    own = of_deployment[assignment.codes]
    of_event = vote_of(grouping.events, own, grouping.leads & (own >= 0), len(frames))
    # An event whose leads tell none may have a copy that lies in a deployment's folder.
    other = vote_of(grouping.events, own, own >= 0, len(frames))
    return np.where(of_event >= 0, of_event, other)[grouping.events], sites


def vote_of(
    groups: NDArray[np.int64], values: NDArray[np.int64], counts: NDArray[np.bool_], size: int
) -> NDArray[np.int64]:
    """Return the commonest value of each group, the smallest of equally common ones.

    Args:
        groups: (N,) int64, 0..size - 1.
        values: (N,) int64.
        counts: (N,) bool, which of them count.
        size: How many groups.

    Returns:
        (size,) int64, -1 for a group none of whose values counts.
    """
    found = np.full(size, -1, np.int64)
    pairs, votes = np.unique(np.stack([groups[counts], values[counts]], axis=1), axis=0, return_counts=True)
    if len(pairs):
        order = np.lexsort((pairs[:, 1], -votes, pairs[:, 0]))
        first = order[np.flatnonzero(np.diff(pairs[order, 0], prepend=-1))]
        found[pairs[first, 0]] = pairs[first, 1]
    return found


def instants(frames: Frames, cameras: NDArray[np.int64], sites: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return times on one clock, so that two cameras compare: UTC, as far as the offset of the photos is known.

    A photo that does not is taken to have the offset that most photos of its camera have, else of its site, else
    of all; where none tells one, wall-clock times stay as they are.

    Returns:
        (N,) int64 microseconds, `NO_TIME` where the time is unknown.
    """
    count = len(frames)
    known = frames.offsets != NO_OFFSET
    shift = frames.offsets.copy()
    for groups in (cameras, sites, np.zeros(count, np.int64)):
        has = groups >= 0
        usual = vote_of(groups, frames.offsets - NO_OFFSET, known & has, int(groups.max(initial=0)) + 1)
        lent = has & (shift == NO_OFFSET) & (usual[groups] >= 0)
        shift[lent] = usual[groups[lent]] + NO_OFFSET
    shift[shift == NO_OFFSET] = 0
    return np.where(frames.has_time, frames.stamps - shift * _MINUTE_US, NO_TIME)


@dataclass(frozen=True, slots=True, eq=False)
class BuiltParts:
    """Parts of events, with their taxa and other facts.

    Attributes:
        parts: P parts, what sightings are joined from.
        of_frame: (N,) int64, the part of each frame; copies are in that of their exposure.
        split: For each part why its event was parted: `one` (it was not), `taxon` or `look`.
        largest_gap_s: (P,) float64, the longest time between neighbours of its event, 0 for one exposure.
        least_cosine: (P,) float64, of neighbours within the part; NaN where there are none.
    """

    parts: Parts
    of_frame: NDArray[np.int64]
    split: tuple[str, ...]
    largest_gap_s: NDArray[np.float64]
    least_cosine: NDArray[np.float64]


def build_parts(
    store: CatalogStore,
    model_id: int,
    frames: Frames,
    grouping: Grouping,
    taxa: Taxa,
    sites: NDArray[np.int64],
    rules: SightingRules,
) -> BuiltParts:
    """Part the events that show two birds, and sum up each part.

    Args:
        store: An open catalog, whose vectors are read as they are needed.
        model_id: Whose vectors.
        frames: N frames.
        grouping: Their events.
        taxa: Their taxa.
        sites: (N,) int64 codes.
        rules: When an event shows two birds.
    """
    clock = instants(frames, grouping.cameras, sites)
    leads = np.flatnonzero(grouping.leads)
    row = leads[np.lexsort((leads, frames.numbers[leads], clock[leads], grouping.events[leads]))]
    starts = np.flatnonzero(np.diff(grouping.events[row], prepend=-1))
    is_plain = _show_one(taxa.codes[row], starts)
    part_of = np.empty(len(row), np.int64)
    split: list[str] = []
    sums: list[NDArray[np.float32]] = []
    alike = np.full(len(row), np.nan)
    for first, last in _blocks(starts, len(row)):
        begin = int(starts[first])
        end = int(starts[last]) if last < len(starts) else len(row)
        unit, _ = unit_vectors(store, model_id, frames.view_ids[row[begin:end]])
        edges = [*starts[first:last].tolist(), end]
        parts_before = len(split)
        for event, (at, upto) in enumerate(itertools.pairwise(edges), start=first):
            if is_plain[event]:
                part_of[at:upto] = len(split)
                split.append("one")
                continue
            some = row[at:upto]
            labels, kind = split_event(
                unit[at - begin : upto - begin], taxa.codes[some], taxa.verified[some], rules
            )
            if kind == "one":
                part_of[at:upto] = len(split)
                split.append(kind)
                continue
            named, back = np.unique(labels, return_inverse=True)
            part_of[at:upto] = len(split) + back.reshape(-1)
            split += [kind] * len(named)
        total = np.zeros((len(split) - parts_before, unit.shape[1]))
        np.add.at(total, part_of[begin:end] - parts_before, unit.astype(np.float64))
        sums.append(normalised(total.astype(np.float32)))
        has_both = unit[:-1].any(axis=1) & unit[1:].any(axis=1)
        near = (unit[:-1].astype(np.float64) * unit[1:].astype(np.float64)).sum(axis=1)
        alike[begin + 1 : end] = np.where(has_both, np.minimum(near, 1.0), np.nan)
    size = max((part.shape[1] for part in sums), default=0)
    means = [part if part.shape[1] else np.zeros((len(part), size), np.float32) for part in sums]
    return _summed_up(
        frames, grouping, taxa, sites, clock, row, part_of, tuple(split),
        np.concatenate(means) if means else np.zeros((0, 0), np.float32), alike,
    )  # fmt: skip


def _show_one(codes: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which events `split_event` leaves whole unseen: few exposures, and no two known taxa."""
    if not len(starts):
        return np.zeros(0, bool)
    most = np.maximum.reduceat(codes, starts)
    least = np.minimum.reduceat(np.where(codes < 0, np.iinfo(np.int64).max, codes), starts)
    return np.asarray((np.diff(starts, append=len(codes)) < 4) & (least >= most))


def _blocks(starts: NDArray[np.int64], total: int) -> Iterator[tuple[int, int]]:
    """Yield runs of whole events with few exposures in all: first event, and the one after the last."""
    first = 0
    while first < len(starts):
        last = int(np.searchsorted(starts, starts[first] + _CHUNK, side="right"))
        last = len(starts) if total <= starts[first] + _CHUNK else max(first + 1, last - 1)
        yield first, last
        first = last


def _summed_up(
    frames: Frames,
    grouping: Grouping,
    taxa: Taxa,
    sites: NDArray[np.int64],
    clock: NDArray[np.int64],
    row: NDArray[np.int64],
    part_of: NDArray[np.int64],
    split: tuple[str, ...],
    means: NDArray[np.float32],
    alike: NDArray[np.float64],
) -> BuiltParts:
    count = len(split)
    order = np.argsort(part_of, kind="stable")
    frame, part = row[order], part_of[order]
    first = np.flatnonzero(np.diff(part, prepend=-1))
    last = np.append(first[1:], len(part))[: len(first)] - 1
    verified = vote_of(part, taxa.codes[frame], taxa.verified[frame], count)
    predicted = vote_of(part, taxa.codes[frame], taxa.codes[frame] >= 0, count)
    gaps = np.zeros(len(row))
    same_event = grouping.events[row[1:]] == grouping.events[row[:-1]]
    gaps[1:][same_event] = np.diff(clock[row])[same_event] / 1e6
    of_event = np.zeros(len(frames))
    np.maximum.at(of_event, grouping.events[row], gaps)
    within = np.zeros(len(row), bool)
    within[1:] = part_of[1:] == part_of[:-1]
    least = np.full(count, np.inf)
    told = within & ~np.isnan(alike)
    np.minimum.at(least, part_of[told], alike[told])
    lead_part = np.full(len(frames), -1, np.int64)
    lead_part[row] = part_of
    lead_of = np.full(len(frames), -1, np.int64)
    lead_of[grouping.exposures[row]] = row
    return BuiltParts(
        Parts(
            events=grouping.events[frame[first]],
            means=means,
            taxa=np.where(verified >= 0, verified, predicted),
            starts=clock[frame[first]],
            ends=clock[frame[last]],
            cameras=grouping.cameras[frame[first]],
            sites=sites[frame[first]],
            latitudes=_mean(frames.latitudes[frame], part, count),
            longitudes=_mean_longitude(frames.longitudes[frame], part, count),
        ),
        lead_part[lead_of[grouping.exposures]],
        split,
        of_event[grouping.events[frame[first]]],
        np.where(np.isfinite(least), least, np.nan),
    )


def _mean(values: NDArray[np.float64], groups: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    sums = np.bincount(groups[known], weights=values[known], minlength=count)
    sizes = np.bincount(groups[known], minlength=count)
    return np.asarray(np.divide(sums, sizes, out=np.full(count, np.nan), where=sizes > 0))


def _mean_longitude(
    degrees: NDArray[np.float64], groups: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """Return the mean of the known longitudes of each group, also across the antimeridian."""
    known = np.flatnonzero(~np.isnan(degrees))
    base = np.zeros(count)
    base[groups[known[::-1]]] = degrees[known[::-1]]
    turned = (degrees - base[groups] + 180.0) % 360.0 - 180.0
    return np.asarray((_mean(turned, groups, count) + base + 180.0) % 360.0 - 180.0)
