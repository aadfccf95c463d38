"""Clusters of a catalog: kept, known again from run to run, edited, labelled at once, and taken back."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError, PhotoError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import record, undo
from birdsearch.indexer.catalog.clusters import OUTLIER, ClusterState, current_state, require_state
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import new_taxon
from birdsearch.indexer.catalog.vector_bytes import encode_vector
from birdsearch.indexer.catalog.verified_labels import labels_in_force
from birdsearch.indexer.vectors.index import normalised
from birdsearch.search.annotate.photos import Matched
from birdsearch.search.clusters.catalog import NEW, cluster_catalog, match_clusters
from birdsearch.search.clusters.edit import (
    label_cluster,
    merge_clusters,
    name_cluster,
    photo_list,
    split_cluster,
    split_photos,
    undo_edit,
)
from birdsearch.search.clusters.split import split_vectors

DIM = 8


@dataclass(frozen=True)
class Found:
    """What the stand-in answers."""

    labels: NDArray[np.int64]
    strength: NDArray[np.float64]
    method: str = "planted"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=lambda: {"nan": float("nan"), "array": np.arange(2)})


def planted(unit: NDArray[np.float32], *_: Any, **__: Any) -> Found:
    """The axis that a vector is near, else an outlier."""
    near = unit[:, :-1].max(axis=1)
    raw = np.where(near > 0.8, unit[:, :-1].argmax(axis=1), -1)
    # Labels are names without a meaning: those of another run may be others.
    names = {label: number for number, label in enumerate(dict.fromkeys(raw[raw >= 0].tolist()))}
    return Found(
        np.array([names.get(label, -1) for label in raw.tolist()], np.int64), near.astype(np.float64)
    )


def vector(axis: int, number: int, last: float = 0.0) -> NDArray[np.float32]:
    """Near an axis; the higher the number, the farther."""
    made = np.zeros(DIM, np.float32)
    made[axis], made[(axis + 1) % (DIM - 1)], made[-1] = 1.0, 0.01 * number, last
    return 3 * made


def outlier() -> NDArray[np.float32]:
    return np.ones(DIM, np.float32)


@pytest.fixture
def made(make_catalog: Callable[..., Any]) -> Any:
    """Three clusters of 6, 5 and 4 photos with ids of their own as views, and an outlier."""
    catalog = make_catalog(DIM)
    for axis, size in enumerate((6, 5, 4)):
        for number in range(size):
            catalog.photo([vector(axis, number, 0.2 if number % 2 else -0.2)])
    catalog.photo([outlier()])
    return catalog


def cluster(catalog: Any, **options: Any) -> ClusterState:
    return cluster_catalog(catalog.store, catalog.model_id, algorithm=planted, **options)


def parts(state: ClusterState) -> dict[int, list[int]]:
    """Views by cluster."""
    found: dict[int, list[int]] = {}
    for view_id, cluster_id in zip(state.view_ids.tolist(), state.cluster_ids.tolist(), strict=True):
        found.setdefault(cluster_id, []).append(view_id)
    return found


def move(catalog: Any, view_id: int, made: NDArray[np.float32]) -> None:
    content, checksum = encode_vector(made)
    with catalog.store.writing() as connection:
        connection.execute(
            sa.update(schema.embedding)
            .where(schema.embedding.c.view_id == view_id)
            .values(vector=content, crc32=checksum)
        )


FIRST, SECOND, THIRD, ALONE = list(range(1, 7)), list(range(7, 12)), list(range(12, 16)), [16]


# -- clustering ----------------------------------------------------------------------------------------------


def test_clusters_are_numbered_by_size_and_kept_with_their_run(made: Any) -> None:
    assert current_state(made.store) is None
    state = cluster(made)
    assert parts(state) == {1: FIRST, 2: SECOND, 3: THIRD, OUTLIER: ALONE}
    assert state.ids == [1, 2, 3]
    assert state.strengths[0] == pytest.approx(1 / np.sqrt(1.04))
    assert (state.strengths >= 0).all()
    assert (state.method, state.based_on, dict(state.names)) == ("planted", None, {})
    assert state.parameters["scores"] == {"nan": None, "array": [0, 1]}
    again = current_state(made.store)
    assert again is not None
    assert parts(again) == parts(state)
    with made.store.reading() as connection:
        run = connection.execute(sa.select(schema.run).where(schema.run.c.id == state.run_id)).one()
    assert (run.command, run.outcome) == ("cluster", "done")


def test_ids_and_names_stay_when_most_members_stay_and_are_never_used_twice(made: Any) -> None:
    cluster(made)
    name_cluster(made.store, 2, "grey ones")
    # Two of the five of the second go, one of the first comes; the third falls apart.
    for view_id in SECOND[:2]:
        move(made, view_id, outlier())
    move(made, FIRST[0], vector(1, 0))
    for view_id in THIRD:
        move(made, view_id, outlier())
    made.photo([vector(5, 0)])
    state = cluster(made)
    assert parts(state)[1] == FIRST[1:]
    assert parts(state)[2] == [FIRST[0], *SECOND[2:]]
    assert dict(state.names) == {2: "grey ones"}
    # The third is gone, and the new one gets an id that was never used.
    assert state.ids == [1, 2, 4]
    assert parts(state)[4] == [17]
    for view_id in THIRD:
        move(made, view_id, vector(2, 0))
    assert cluster(made).ids == [1, 2, 4, 5]


def test_the_same_photos_in_another_order_give_the_same_partition(make_catalog: Callable[..., Any]) -> None:
    seed = 7
    print("seed", seed)
    rng = np.random.default_rng(seed)
    photos = [
        (hashlib.sha256(b"%d" % number).digest(), vector(number % 3, number), number) for number in range(24)
    ]
    seen = []
    for turn in range(3):
        catalog = make_catalog(DIM, name=f"catalog{turn}")
        order = np.arange(24) if turn == 0 else rng.permutation(24)
        for place in order:
            digest, made, number = photos[place]
            # Pairs of frames: the events of a camera.
            catalog.photo(
                [made],
                digest=digest,
                camera="Z 9",
                captured_at=f"2023-05-{number // 2 + 1:02d}T06:30:0{number % 2}",
            )
        state = cluster(catalog)
        _, digests = _digests(catalog.store, state)
        seen.append(
            {
                digest: (cluster_id, strength)
                for digest, cluster_id, strength in zip(
                    digests, state.cluster_ids.tolist(), state.strengths.tolist(), strict=True
                )
            }
        )
    assert seen[0] == seen[1] == seen[2]


def _digests(store: CatalogStore, state: ClusterState) -> tuple[NDArray[np.float64], list[bytes]]:
    from birdsearch.indexer.catalog.views import view_facts

    return view_facts(store, state.view_ids)


def test_an_event_goes_where_its_sharpest_photo_goes(make_catalog: Callable[..., Any]) -> None:
    catalog = make_catalog(DIM)
    for second, (axis, sharpness) in enumerate([(0, 1.0), (1, 9.0), (2, None), (0, 2.0)]):
        facts = {"camera": "Z 9", "captured_at": f"2023-05-14T06:30:0{second}", "sharpness": sharpness}
        catalog.photo([vector(axis, 0)], **facts)
    catalog.photo([vector(0, 0)])
    catalog.photo([vector(1, 1)])
    state = cluster(catalog)
    assert parts(state) == {1: [1, 2, 3, 4, 6], 2: [5]}
    assert len(set(state.strengths[:4].tolist())) == 1
    assert state.parameters["events"] == 3
    frames = cluster(catalog, frames=True)
    assert sorted(parts(frames).values()) == [[1, 4, 5], [2, 6], [3]]


def test_equally_sharp_photos_are_told_apart_by_content(make_catalog: Callable[..., Any]) -> None:
    catalog = make_catalog(DIM)
    for second, digest in enumerate((b"c" * 32, b"a" * 32, b"b" * 32)):
        facts = {"camera": "Z 9", "captured_at": f"2023-05-14T06:30:0{second}", "sharpness": 4.0}
        catalog.photo([vector(second, 0)], digest=digest, **facts)
    catalog.photo([vector(1, 0)])
    assert parts(cluster(catalog)) == {1: [1, 2, 3, 4]}


def test_tiles_and_missing_and_damaged_photos_are_left_out(made: Any) -> None:
    made.photo([vector(0, 1)], [(b"/archive", b"gone.jpg", "missing")])
    _, (whole, _) = made.photo([vector(0, 1), vector(1, 1)], boxes=[(0.0, 0.0, 0.5, 0.5)])
    move(made, FIRST[0], np.full(DIM, np.nan, np.float32))
    move(made, FIRST[1], np.zeros(DIM, np.float32))
    state = cluster(made)
    assert parts(state)[1] == SECOND
    assert parts(state)[2] == [*FIRST[2:], whole]
    assert state.parameters["skipped"] == 2


def test_nothing_to_cluster_is_an_error_and_the_run_says_that_it_failed(
    made: Any, make_catalog: Callable[..., Any]
) -> None:
    with pytest.raises(InvalidInputError, match="there is no photo to cluster"):
        cluster(made, where=Where(camera="nikon"))
    with pytest.raises(InvalidInputError, match="there is no photo to cluster"):
        cluster(make_catalog(DIM, name="empty"))
    with made.store.reading() as connection:
        assert connection.execute(sa.select(schema.run.c.outcome)).scalars().all() == ["failed"]
    with pytest.raises(InvalidInputError, match="nothing is clustered yet"):
        require_state(made.store)


def test_a_clustering_is_in_force_whatever_was_edited_while_it_was_reckoned(made: Any) -> None:
    cluster(made)

    def edited_meanwhile(*arguments: Any, **options: Any) -> Any:
        name_cluster(made.store, 1, "by hand")
        return planted(*arguments, **options)

    anew = cluster_catalog(made.store, made.model_id, algorithm=edited_meanwhile)
    assert require_state(made.store).run_id == anew.run_id
    assert anew.names == {1: "by hand"}


def test_an_edit_of_clusters_that_were_made_anew_meanwhile_is_refused(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cluster(made)
    anew = cluster(made)
    with monkeypatch.context() as patch:
        patch.setattr("birdsearch.search.clusters.edit.require_state", lambda store: before)  # noqa: ARG005
        with pytest.raises(InvalidInputError, match=r"made anew meanwhile; nothing was changed"):
            name_cluster(made.store, 1, "late")
    assert require_state(made.store).run_id == anew.run_id
    assert name_cluster(made.store, 1, "now").names == {1: "now"}


def test_clusters_that_a_part_of_the_catalog_hides_are_known_again_afterwards(made: Any) -> None:
    cluster(made)
    name_cluster(made.store, 3, "the third")
    with made.store.writing() as connection:
        connection.execute(
            sa.update(schema.photo).where(schema.photo.c.id.in_([*FIRST, *SECOND])).values(camera="Z 9")
        )
    assert parts(cluster(made, where=Where(camera="z 9"))) == {1: FIRST, 2: SECOND}
    state = cluster(made)
    assert parts(state) == {1: FIRST, 2: SECOND, 3: THIRD, OUTLIER: ALONE}
    assert dict(state.names) == {3: "the third"}


KILLED = """
import os, sys
import numpy as np
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog import clusters
from birdsearch.search.clusters import catalog as cluster_catalog

class Found:
    method, parameters, scores = "late", {}, {}
    def __init__(self, count):
        self.labels, self.strength = np.zeros(count, np.int64), np.ones(count)

def algorithm(unit, *_, **__):
    return Found(len(unit))

def killed(*arguments):
    saved(*arguments)
    os.kill(os.getpid(), 9)

saved = clusters._save_members
if sys.argv[2] == "saving":
    clusters._save_members = killed
if sys.argv[2] == "finishing":
    clusters.finish_run = lambda *_: os.kill(os.getpid(), 9)
with CatalogStore.open(sys.argv[1], "write") as store:
    cluster_catalog.cluster_catalog(store, 1, algorithm=algorithm)
"""


@pytest.mark.parametrize("moment", ["saving", "finishing"])
def test_a_kill_in_the_middle_leaves_the_former_clusters_in_force(made: Any, moment: str) -> None:
    state = cluster(made)
    name_cluster(made.store, 1, "the first")
    path = made.store.path
    made.store.close()
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), moment], check=False)
    assert done.returncode == -9
    with CatalogStore.open(path, "write") as store:
        found = require_state(store)
        assert parts(found) == parts(state)
        assert dict(found.names) == {1: "the first"}
        again = cluster_catalog(store, 1, algorithm=planted)
        assert parts(again) == parts(state)
        assert dict(again.names) == {1: "the first"}


# -- matching ------------------------------------------------------------------------------------------------


def test_matching_is_the_mutual_majority_of_every_pair() -> None:
    seed = 3
    print("seed", seed)
    rng = np.random.default_rng(seed)
    found_any = 0
    for _ in range(200):
        before = rng.integers(-2, 4, 30)
        after = np.where(rng.random(30) < 0.6, np.maximum(before, -1), rng.integers(-1, 4, 30))
        expected = {}
        for old in range(4):
            for new in range(4):
                shared = int(((before == old) & (after == new)).sum())
                of_old = int(((before == old) & (after >= 0)).sum())
                of_new = int(((before >= OUTLIER) & (after == new)).sum())
                if 2 * shared > of_old and 2 * shared > of_new:
                    expected[new] = old
        found = match_clusters(before, after)
        found_any += len(found)
        assert found == expected
        assert len(set(found.values())) == len(found)
    assert found_any > 100


def test_a_large_cluster_does_not_take_the_name_of_a_small_one_that_it_swallowed() -> None:
    before = np.array([1] * 3 + [OUTLIER] * 20 + [2] * 10)
    assert match_clusters(before, np.array([0] * 23 + [1] * 10)) == {1: 2}
    assert match_clusters(np.array([1, 1, 1, NEW, NEW, NEW, NEW]), np.zeros(7, np.int64)) == {0: 1}
    assert match_clusters(np.array([1, 1, 2, 2]), np.zeros(4, np.int64)) == {}
    assert match_clusters(np.zeros(0, np.int64), np.zeros(0, np.int64)) == {}


# -- edits ---------------------------------------------------------------------------------------------------


def test_a_merge_keeps_the_first_and_takes_a_name_where_it_has_none(made: Any) -> None:
    cluster(made)
    name_cluster(made.store, 2, "two")
    state = merge_clusters(made.store, [3, 2, 3])
    assert parts(state) == {1: FIRST, 3: [*SECOND, *THIRD], OUTLIER: ALONE}
    assert dict(state.names) == {3: "two"}
    for wanted in ([1], [1, 1], [1, 9], [1, 2]):
        with pytest.raises(InvalidInputError, match=r"two clusters or more|there is no cluster"):
            merge_clusters(made.store, wanted)


def test_a_split_leaves_the_largest_part_its_id(made: Any) -> None:
    cluster(made)
    name_cluster(made.store, 2, "two")
    state = split_cluster(made.store, 2)
    # Places 0, 2 and 4 of the five are on the lower side of the last axis.
    assert parts(state)[2] == [7, 9, 11]
    assert parts(state)[4] == [8, 10]
    assert dict(state.names) == {2: "two"}
    assert state.parameters["new"] == [4]
    with pytest.raises(InvalidInputError, match="has 2 events"):
        split_cluster(made.store, 4, 3)
    with pytest.raises(InvalidInputError, match="2 parts or more"):
        split_cluster(made.store, 4, 1)


def test_parts_are_those_of_the_best_cut_and_none_is_empty() -> None:
    seed = 12
    print("seed", seed)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        centre = rng.normal(size=(2, 4))
        unit = normalised(np.repeat(centre, 4, axis=0) + 0.3 * rng.normal(size=(8, 4)))
        labels, strengths = split_vectors(unit, 2)
        # The oracle tries every cut: k-means is to find the one with the longest sums.
        cuts = [np.array([mask >> place & 1 for place in range(8)]) for mask in range(1, 128)]
        best = max(
            cuts, key=lambda cut: sum(np.linalg.norm(unit[cut == part].sum(axis=0)) for part in (0, 1))
        )
        assert ((labels == labels[7]) == (best == best[7])).all()
        assert ((strengths >= 0) & (strengths <= 1)).all()
        np.testing.assert_array_equal(split_vectors(unit, 2)[0], labels)
    unit = normalised(rng.normal(size=(6, 4)).astype(np.float32))
    assert sorted(split_vectors(unit, 6)[0].tolist()) == list(range(6))
    assert split_vectors(unit, 1)[0].tolist() == [0] * 6
    twins = np.repeat(unit[:2], 5, axis=0)
    assert split_vectors(twins, 2)[0].tolist() in ([0] * 5 + [1] * 5, [1] * 5 + [0] * 5)
    for count in (0, 3):
        with pytest.raises(InvalidInputError, match=f"2 different vectors cannot be cut into {count}"):
            split_vectors(twins, count)


def test_a_split_by_k_means_does_not_cut_an_event(made: Any) -> None:
    with made.store.writing() as connection:
        connection.execute(
            sa.update(schema.photo)
            .where(schema.photo.c.id.in_(SECOND[:3]))
            .values(camera="Z 9", captured_at="2023-05-14T06:30:00")
        )
    cluster(made)
    state = split_cluster(made.store, 2)
    assert [each for each in parts(state).values() if set(SECOND[:3]) <= set(each)]


def test_named_photos_move_into_a_cluster_of_their_own(made: Any) -> None:
    cluster(made)
    state = split_photos(made.store, 1, [2, 5, 5])
    assert parts(state)[4] == [2, 5]
    assert parts(state)[1] == [1, 3, 4, 6]
    for wanted, said in (([7], "#7: not in cluster 1"), ([], "no photo"), ([1, 3, 4, 6], "these are all")):
        with pytest.raises(InvalidInputError, match=said):
            split_photos(made.store, 1, wanted)


def test_names_print_and_an_empty_one_takes_the_name_away(made: Any) -> None:
    cluster(made)
    assert dict(name_cluster(made.store, 1, "  =cmd|<b> ").names) == {1: "=cmd|<b>"}
    with made.store.reading() as connection:
        assert connection.execute(sa.select(schema.cluster.c.name)).scalars().all()[0] == "=cmd|<b>"
    assert dict(name_cluster(made.store, 1, "").names) == {}
    for name in ("a\nb", "x" * 201):
        with pytest.raises(InvalidInputError, match="the name"):
            name_cluster(made.store, 1, name)
    with pytest.raises(InvalidInputError, match="there is no cluster -1"):
        name_cluster(made.store, OUTLIER, "x")


def test_undo_goes_back_state_by_state_and_writes_new_ones(made: Any) -> None:
    first = cluster(made)
    name_cluster(made.store, 1, "one")
    merged = merge_clusters(made.store, [1, 2])
    back = undo_edit(made.store)
    assert parts(back) == parts(first)
    assert dict(back.names) == {1: "one"}
    assert back.run_id > merged.run_id
    again = undo_edit(made.store)
    assert parts(again) == parts(first)
    assert dict(again.names) == {}
    with made.store.reading() as connection:
        assert connection.execute(sa.select(schema.cluster.c.name)).scalars().all() == [None] * 3
    with pytest.raises(InvalidInputError, match="no state of the clusters before"):
        undo_edit(made.store)
    # An edit after an undo is undone to what the undo had brought back.
    merge_clusters(made.store, [2, 3])
    assert parts(undo_edit(made.store)) == parts(first)


def test_a_new_clustering_can_be_undone_and_tells_the_edits_that_it_lost(made: Any) -> None:
    cluster(made)
    merged = merge_clusters(made.store, [1, 2])
    state = cluster(made)
    # The larger part of the merged one keeps its id; what was put into it gets a new one.
    assert parts(state) == {1: FIRST, 4: SECOND, 3: THIRD, OUTLIER: ALONE}
    assert state.parameters["edits_dropped"] == 1
    assert parts(undo_edit(made.store)) == parts(merged)
    assert cluster(made).parameters["edits_dropped"] == 1


# -- labels --------------------------------------------------------------------------------------------------


def labels(catalog: Any) -> dict[int, str]:
    return {label.photo_id: label.name for label in labels_in_force(catalog.store)}


def labelled(catalog: Any, cluster_id: int, name: str, excepted: Sequence[int] = ()) -> int:
    found = label_cluster(
        catalog.store, cluster_id, Matched(name, new_taxon(name), is_new=True), excepted=excepted
    )
    assert not found.problems
    summary = record(catalog.store, [one.item() for one in found.labels], "ada", f"cluster {cluster_id}")
    return int(summary.run_id or 0)


def test_labels_of_a_cluster_are_written_at_once_and_undone_as_any(made: Any) -> None:
    cluster(made)
    record(made.store, [(2, new_taxon("Moss owl"), "positive")], "ada", "test")
    run = labelled(made, 1, "Ghost finch", excepted=[3])
    assert labels(made) == dict.fromkeys([1, 2, 4, 5, 6], "Ghost finch")
    assert undo(made.store, run).restored == 1
    assert labels(made) == {2: "Moss owl"}


def test_a_photo_that_is_left_out_has_to_be_of_the_cluster(made: Any) -> None:
    cluster(made)
    with pytest.raises(InvalidInputError, match="#7: not in cluster 1"):
        labelled(made, 1, "Ghost finch", excepted=[2, 7])
    assert labels(made) == {}


def test_photos_are_named_by_ids_between_commas_or_by_path(made: Any) -> None:
    assert photo_list(made.store, ["3,#1", "#2", "3"]) == [3, 1, 2]
    assert photo_list(made.store, ["/archive/000004.jpg"]) == [4]
    with pytest.raises(PhotoError, match="99"):
        photo_list(made.store, ["1,99"])
    with pytest.raises(PhotoError, match="nowhere"):
        photo_list(made.store, ["nowhere.jpg"])
