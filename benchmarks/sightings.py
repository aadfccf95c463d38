"""How well bursts, events and sightings are found in a demo archive, whose truth is known.

Usage: `python benchmarks/sightings.py DEMO...`, each a folder that `birdsearch demo` made. For every pair of frames
(copies and empty frames left out, for sightings) it is asked whether the truth joins them and whether birdsearch
does; precision, recall and F1 are of such pairs. The catalog is copied, so that it stays as it is.

Sightings are found in four ways: with what the catalog knows (half of the events verified, the rest predicted), and
by look alone; each without deployments, where only one camera's events can be joined but for equal positions, and
with the folders two levels below the archive as deployments.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from birdsearch.data.synthetic.truth import Truth, read_truth
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.deployments import store_deployments
from birdsearch.indexer.catalog.frames import cosines_from, read_frames
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.labels.calibration import Calibration
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.metrics.pairs import pair_scores
from birdsearch.search.sightings.deployments import deployments_from_folders
from birdsearch.search.sightings.events import EventRules, events_of
from birdsearch.search.sightings.find import FoundSightings, find_sightings
from birdsearch.search.sightings.parts import SightingRules


def main(folders: Sequence[str]) -> None:
    for folder in folders:
        with tempfile.TemporaryDirectory() as temporary:
            catalog = Path(shutil.copytree(Path(folder) / "catalog", Path(temporary) / "catalog"))
            _report(Path(folder), catalog)


def _report(folder: Path, catalog: Path) -> None:
    archive = folder / "archive"
    known = {os.path.realpath(archive / row.path): row for row in read_truth(archive)}
    with CatalogStore.open(catalog, "write") as store:
        record = store.active_model()
        if record is None:
            raise SystemExit(f"{catalog} holds no photo")
        with store.reading() as connection:
            ids = np.array(connection.execute(sa.select(schema.photo.c.id)).scalars().all())
        frames = read_frames(store, ids)
        rows = _truth_of(store, frames.photo_ids.tolist(), known)
        print(f"{folder}: {len(rows)} photos")
        cosines = cosines_from(store, record.id, frames)
        whole = replace(
            frames,
            times=frames.times.astype("datetime64[s]").astype("datetime64[us]"),
            has_fraction=np.zeros(len(frames), bool),
        )
        for name, shown in (("", frames), (", all times in whole seconds", whole)):
            grouping = events_of(shown, cosines, EventRules())
            _print(f"exposures{name}", [row.copy_of or row.path for row in rows], grouping.exposures)
            _print(
                f"bursts{name}", [row.burst or f"-{row.copy_of or row.path}" for row in rows], grouping.bursts
            )
            _print(f"events{name}", [row.event for row in rows], grouping.events)
        estimator = LabelEstimator.open(store, record, Calibration())
        found = find_sightings(store, record, estimator=estimator)
        _print_sightings("verified and predicted", rows, found)
        _labels("fused labels", rows, found)
        store_deployments(
            store, deployments_from_folders(frames, [root for _, root in store.roots()], 2), "x"
        )
        found = find_sightings(store, record, estimator=estimator)
        _print_sightings("verified and predicted, deployments", rows, found)
        with store.writing() as connection:
            connection.execute(sa.delete(schema.annotation))
            connection.execute(sa.delete(schema.prediction))
        _print_sightings("look alone, deployments", rows, find_sightings(store, record))
        with store.writing() as connection:
            connection.execute(sa.delete(schema.deployment))
        _print_sightings("look alone", rows, find_sightings(store, record))
        within = find_sightings(store, record, rules=SightingRules(gap_s=0))
        _print_sightings("events alone", rows, within)


def _truth_of(store: CatalogStore, ids: Sequence[int], known: dict[str, Truth]) -> list[Truth]:
    photos = store.photos(ids)
    return [known[os.path.realpath(os.fsdecode(photos[photo_id].path))] for photo_id in ids]


def _print_sightings(name: str, rows: Sequence[Truth], found: FoundSightings) -> None:
    used = [place for place, row in enumerate(rows) if row.sighting and found.grouping.leads[place]]
    _print(f"sightings, {name}", [rows[place].sighting for place in used], found.sightings[used])
    # Two birds of one species at one place within the gap are one sighting to whoever does not know them apart.
    _print(
        "  of one species there",
        [f"{rows[place].site} {rows[place].captured_at[:10]} {rows[place].species}" for place in used],
        found.sightings[used],
    )


def _labels(name: str, rows: Sequence[Truth], found: FoundSightings) -> None:
    """Of sightings that nobody verified: how often the likeliest species is right, and what that is worth."""
    right, total = 0, 0
    for one in found.listed:
        members = [rows[place] for place in np.flatnonzero(found.numbers == one.number).tolist()]
        birds = [row.common_name for row in members if row.species and row.known == "1"]
        if birds and not one.verified and one.species is not None:
            total += 1
            right += one.species == Counter(birds).most_common(1)[0][0]
    print(f"  {name}: likeliest species right in {right} of {total} unverified sightings of known species")


def _print(name: str, truth: Sequence[str], found: np.ndarray) -> None:
    scores = pair_scores(truth, found.tolist())
    print(f"  {name}: precision {scores.precision:.4f}, recall {scores.recall:.4f}, F1 {scores.f1:.4f}")


if __name__ == "__main__":
    main(sys.argv[1:])
