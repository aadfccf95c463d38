"""Clusters without labels: planted ones are found, where there are none none are."""

from __future__ import annotations

import builtins
import itertools
from typing import Any

import faiss
import numpy as np
import pytest

from birdsearch.errors import BirdsearchError, InvalidInputError
from birdsearch.indexer.vectors.index import normalised
from birdsearch.search.clusters.choice import agreement, far_out, fit, settled, small_strength, whitened
from birdsearch.search.clusters.leiden import ward
from birdsearch.search.clusters.vectors import METHODS, Clustering, cluster_vectors


def planted(
    rng: np.random.Generator, sizes: list[int], dim: int = 24, noise: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors about random centres, and which centre each is about."""
    truth = np.repeat(np.arange(len(sizes)), sizes)
    centres = normalised(rng.normal(size=(len(sizes), dim)).astype(np.float32))
    vectors = centres[truth] + rng.normal(size=(len(truth), dim)) * noise / dim**0.5
    return normalised(vectors.astype(np.float32)), truth


def partition(labels: np.ndarray) -> set[frozenset[int]]:
    """The clusters as sets of places; each outlier is one of its own."""
    return {
        frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels[labels >= 0])
    } | {frozenset([int(place)]) for place in np.flatnonzero(labels < 0)}


def rand_index(truth: np.ndarray, labels: np.ndarray) -> float:
    from sklearn.metrics import adjusted_rand_score

    alone = np.where(labels < 0, labels.max() + 1 + np.arange(len(labels)), labels)
    return float(adjusted_rand_score(truth, alone))


# -- clustering ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_planted_clusters_are_found_without_their_number(method: str) -> None:
    unit, truth = planted(np.random.default_rng(0), [40, 25, 25, 15, 10])
    found = cluster_vectors(unit, method)
    assert rand_index(truth, found.labels) > 0.95
    assert found.labels.dtype == np.int64
    assert found.strength.dtype == np.float64
    assert ((found.strength >= 0) & (found.strength <= 1)).all()
    assert (found.strength[found.labels < 0] == 0).all()
    assert found.method == method
    assert all(isinstance(value, float) for value in found.scores.values())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_vectors_does_not_matter(method: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    unit, _ = planted(rng, rng.integers(2, 30, size=6).tolist(), noise=0.9)
    # Copies of a vector, and vectors that cannot be told apart but are not the same.
    unit[5:9] = unit[4]
    unit[12] = np.nextafter(unit[11], np.float32(2))
    groups = rng.integers(0, len(unit) // 2, size=len(unit))
    order = rng.permutation(len(unit))
    given = groups if seed else None
    found = cluster_vectors(unit, method, groups=given)
    other = cluster_vectors(unit[order], method, groups=None if given is None else given[order])
    back = np.empty(len(unit), np.int64)
    back[order] = other.labels
    strength = np.empty(len(unit))
    strength[order] = other.strength
    assert partition(found.labels) == partition(back), f"seed {seed}"
    assert np.array_equal(found.strength, strength), f"seed {seed}"
    assert found.scores == other.scores, f"seed {seed}"
    assert len(set(found.labels[4:9].tolist())) == 1


def test_clusters_are_numbered_by_size_then_by_their_first_member() -> None:
    unit, truth = planted(np.random.default_rng(1), [10, 30, 10, 20], noise=0.2)
    found = cluster_vectors(unit)
    assert found.labels.tolist() == np.array([2, 0, 3, 1])[truth].tolist()


@pytest.mark.parametrize(("count", "dim"), [(10, 128), (60, 32), (200, 128), (200, 8)])
def test_noise_is_no_cluster(count: int, dim: int) -> None:
    rng = np.random.default_rng(count)
    found = cluster_vectors(normalised(rng.normal(size=(count, dim)).astype(np.float32)))
    assert (found.labels == -1).all()
    assert found.scores["ward_silhouette"] < 1.1 * found.scores["surrogate_silhouette"]


def test_vectors_about_one_direction_are_one_cluster() -> None:
    unit, _ = planted(np.random.default_rng(0), [80], noise=0.8)
    found = cluster_vectors(unit)
    assert (found.labels == 0).all()
    assert found.strength.min() > 0.3


@pytest.mark.parametrize("seed", range(2))
def test_at_least_half_of_the_vectors_unlike_all_others_are_outliers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    unit, truth = planted(rng, [20] * 10, dim=64, noise=0.6)
    strangers = normalised(rng.normal(size=(6, 64)).astype(np.float32))
    found = cluster_vectors(np.concatenate([unit, strangers]))
    assert rand_index(truth, found.labels[:-6]) > 0.95, f"seed {seed}"
    assert (found.labels[-6:] == -1).sum() >= 3, f"seed {seed}"
    kept = cluster_vectors(np.concatenate([unit, strangers]), min_strength=0.0, min_size=1)
    assert (kept.labels >= 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 6, 7, 12])
def test_few_vectors_are_clustered_or_left_out_without_an_error(method: str, count: int) -> None:
    unit = normalised(np.random.default_rng(count).normal(size=(count, 16)).astype(np.float32))
    found = cluster_vectors(unit, method)
    assert found.labels.shape == found.strength.shape == (count,)
    assert found.labels.max(initial=-1) < max(count // 2, 1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [2, 5, 40])
def test_copies_of_one_vector_are_one_cluster(method: str, count: int) -> None:
    unit = normalised(
        np.repeat(np.random.default_rng(0).normal(size=(1, 8)), count, axis=0).astype(np.float32)
    )
    assert cluster_vectors(unit, method).labels.tolist() == [0] * count


@pytest.mark.parametrize("method", ["auto", "graph", "kmeans"])
def test_copies_of_two_vectors_are_two_clusters(method: str) -> None:
    one, other = normalised(np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32))
    found = cluster_vectors(np.stack([one] * 9 + [other] * 7), method)
    assert found.labels.tolist() == [0] * 9 + [1] * 7


def test_a_vector_of_zeros_is_an_outlier() -> None:
    unit, _ = planted(np.random.default_rng(0), [20, 20], noise=0.3)
    unit[3] = 0.0
    found = cluster_vectors(unit)
    assert (found.labels[3], found.strength[3]) == (-1, 0.0)
    assert found.labels.max() == 1
    assert cluster_vectors(np.zeros((4, 3), np.float32)).labels.tolist() == [-1] * 4


def test_bursts_are_not_clusters() -> None:
    rng = np.random.default_rng(0)
    # Three species, eight visits of each, eight frames a visit that are far more alike than the visits are.
    visits, species = planted(rng, [8, 8, 8], dim=48, noise=0.7)
    frames = np.repeat(visits, 8, axis=0) + rng.normal(size=(192, 48)) * 0.02
    unit, truth = normalised(frames.astype(np.float32)), np.repeat(species, 8)
    groups = np.repeat(np.arange(24), 8)
    assert rand_index(truth, cluster_vectors(unit, groups=groups).labels) > 0.95
    assert rand_index(truth, cluster_vectors(unit).labels) < 0.3


@pytest.mark.parametrize("method", ["auto", "kmeans"])
def test_so_many_clusters_are_made_as_are_asked_for(method: str) -> None:
    unit, truth = planted(np.random.default_rng(0), [30, 20, 20, 10])
    for k in (1, 2, 4):
        found = cluster_vectors(unit, method, k=k, min_strength=0.0, min_size=1)
        assert found.labels.max() + 1 == k
    assert rand_index(truth, cluster_vectors(unit, method, k=4).labels) > 0.95
    more = cluster_vectors(unit[:7], method, k=100, min_strength=0.0, min_size=1)
    assert more.labels.max() < 7


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    unit, _ = planted(np.random.default_rng(0), [30, 20, 20, 10], noise=0.9)
    before = faiss.omp_get_max_threads()
    found: list[Clustering] = []
    try:
        for count in (1, 2):
            faiss.omp_set_num_threads(count)
            found.append(cluster_vectors(unit))
    finally:
        faiss.omp_set_num_threads(before)
    assert np.array_equal(found[0].labels, found[1].labels)


def test_many_vectors_take_the_path_of_samples_and_of_leidens_finest_clusters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"_LEAVES": 150, "_SMALL": 100, "_MIDDLE": 200, "_SCORED": 300}.items():
        monkeypatch.setattr(f"birdsearch.search.clusters.scales.{name}", value)
    unit, truth = planted(np.random.default_rng(0), [80, 80, 70, 60, 50, 40, 40], noise=0.6)
    found = cluster_vectors(unit)
    assert rand_index(truth, found.labels) > 0.95
    order = np.random.default_rng(1).permutation(len(unit))
    other = cluster_vectors(unit[order])
    assert partition(found.labels[order]) == partition(other.labels)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"method": "dbscan"}, "no method 'dbscan'; the methods are auto, hdbscan, graph, kmeans"),
        ({"method": "hdbscan", "k": 3}, "hdbscan finds the number of clusters itself"),
        ({"k": 0}, "k is 0"),
        ({"min_size": 0}, "min_size 0"),
        ({"min_strength": 1.5}, "min_strength is 1.5"),
        ({"neighbours": 1}, "neighbours is 1"),
        ({"groups": np.zeros(2, np.int64)}, r"as many groups, got \(2,\)"),
        ({"unit": np.ones((3, 4), np.float32)}, "unit-norm"),
        ({"unit": np.full((3, 4), np.nan, np.float32)}, "finite"),
        ({"unit": np.ones(4, np.float32)}, r"shape \(4,\)"),
    ],
)
def test_what_cannot_be_clustered_is_refused(arguments: dict[str, Any], text: str) -> None:
    given = {"unit": normalised(np.eye(3, dtype=np.float32)), **arguments}
    with pytest.raises(InvalidInputError, match=text):
        cluster_vectors(given.pop("unit"), **given)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any, **named: Any) -> Any:
        if name.split(".")[0] == "graspologic_native":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(BirdsearchError, match=r"pip install \"birdsearch\[cluster\]\""):
        cluster_vectors(np.eye(3, dtype=np.float32))


# -- what the choice is made by ------------------------------------------------------------------------------


def brute_fit(unit: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[list[float], list[float]]:
    cosines = unit.astype(np.float64) @ unit.astype(np.float64).T
    own, best = [], []
    for row, label in enumerate(labels):
        fellows = [i for i in range(len(labels)) if labels[i] == label and groups[i] != groups[row]]
        own.append(cosines[row, fellows].mean() if label >= 0 and fellows else np.nan)
        others = [each for each in np.unique(labels) if each >= 0 and each != label]
        best.append(max((cosines[row, labels == each].mean() for each in others), default=-2.0))
    return own, best


@pytest.mark.parametrize("seed", range(6))
def test_the_fit_is_that_of_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    unit = normalised(rng.normal(size=(40, 6)).astype(np.float32))
    labels, groups = rng.integers(-1, 4, size=40), rng.integers(0, 15, size=40)
    rows = rng.choice(40, 17, replace=False)
    for given, of_brute in ((groups, groups), (None, np.arange(40))):
        own, best = brute_fit(unit, labels, of_brute)
        found = fit(unit, labels, given)
        np.testing.assert_allclose(found.own, own, atol=1e-9)
        np.testing.assert_allclose(found.next, best, atol=1e-9)
        some = fit(unit, labels, given, rows)
        np.testing.assert_allclose(some.own, np.array(own)[rows], atol=1e-9)
        np.testing.assert_allclose(some.next, np.array(best)[rows], atol=1e-9)


def test_silhouettes_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import silhouette_samples

    unit, _ = planted(np.random.default_rng(0), [9, 8, 7, 6], noise=1.0)
    labels = np.random.default_rng(1).integers(0, 4, size=30)
    labels[:5], labels[5] = [0, 1, 2, 3, 3], 4
    expected = silhouette_samples(unit.astype(np.float64), labels, metric="cosine")
    np.testing.assert_allclose(fit(unit, labels).silhouettes, expected, atol=1e-9)
    assert (fit(unit, np.zeros(30, np.int64)).silhouettes == 0).all()


def test_strength_is_the_share_of_vectors_that_fit_a_foreign_cluster_less() -> None:
    unit, labels = planted(np.random.default_rng(0), [9, 8, 7], noise=1.0)
    found = fit(unit, labels)
    expected = [np.mean(found.next < own) for own in found.own]
    np.testing.assert_allclose(found.strength, expected)


@pytest.mark.parametrize("seed", range(4))
def test_a_few_vectors_are_compared_with_as_many_strangers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    unit = normalised(rng.normal(size=(60, 8)).astype(np.float32))
    labels = np.repeat(np.arange(9), [2, 2, 3, 4, 5, 6, 8, 10, 20])
    labels[-3:] = -1
    cosines = unit.astype(np.float64) @ unit.astype(np.float64).T
    expected = np.ones(60)
    for row in range(17):
        others = int((labels == labels[row]).sum()) - 1
        if 1 <= others <= 4:
            own = (cosines[row, labels == labels[row]].sum() - cosines[row, row]) / others
            strangers = [
                np.sort(cosines[each, labels != labels[each]])[::-1][:others].mean() for each in range(60)
            ]
            expected[row] = np.mean(np.array(strangers) < own)
    np.testing.assert_allclose(small_strength(unit, labels)[:57], expected[:57], atol=1e-6)
    assert (small_strength(unit, np.zeros(60, np.int64)) == 1).all()


def test_only_what_is_far_below_all_others_of_its_cluster_is_far_out() -> None:
    own = np.array([0.8, 0.81, 0.82, 0.83, 0.84, 0.85, 0.86, 0.3, 0.78, 0.9, 0.1, np.nan])
    labels = np.array([0] * 9 + [1, 1, 0])
    assert np.flatnonzero(far_out(own, labels)).tolist() == [7]
    assert not far_out(own[:7], labels[:7]).any()
    assert not far_out(own, np.full(12, -1)).any()


def test_what_most_partitions_say_is_agreed_on_and_the_reference_breaks_ties() -> None:
    reference = np.array([0, 0, 0, 1, 1, 1])
    moved = np.array([7, 7, 9, 9, 9, 9])
    labels, share = agreement(reference, [moved, moved])
    assert labels.tolist() == [0, 0, 1, 1, 1, 1]
    np.testing.assert_allclose(share, [1, 1, 2 / 3, 1, 1, 1])
    assert agreement(reference, [moved])[0].tolist() == reference.tolist()
    # A cluster that is nobody's best match has no vote.
    split = np.array([0, 0, 1, 2, 2, 2])
    assert agreement(reference, [split, split])[0].tolist() == reference.tolist()


def test_settling_moves_each_vector_to_the_nearest_centre() -> None:
    unit, truth = planted(np.random.default_rng(0), [20, 20, 20], noise=0.3)
    start = truth.copy()
    start[::5] = (start[::5] + 1) % 3
    assert settled(unit, start).tolist() == truth.tolist()


def test_whitening_makes_nothing_of_a_direction_that_varies_within_clusters() -> None:
    rng = np.random.default_rng(0)
    unit, truth = planted(rng, [60] * 5, dim=10, noise=0.2)
    loud = normalised((unit + rng.normal(size=(300, 1)) * np.eye(10)[0]).astype(np.float32))
    loud = normalised(loud - loud.mean(axis=0))
    turned, shrinkage = whitened(loud, truth)
    assert 0.0 <= shrinkage < 0.2
    assert fit(turned, truth).silhouettes.mean() > 1.3 * fit(loud, truth).silhouettes.mean()
    same, shrinkage = whitened(loud, np.arange(300))
    assert shrinkage == 1.0
    assert np.array_equal(same, loud)


@pytest.mark.parametrize("seed", range(4))
def test_wards_linkage_is_that_of_scipy(seed: int) -> None:
    from scipy.cluster.hierarchy import fcluster, linkage

    unit = normalised(np.random.default_rng(seed).normal(size=(70, 5)).astype(np.float32))
    tree = ward(unit)
    expected = linkage(unit.astype(np.float64), "ward")
    # scipy's heights are distances: sqrt(2 x the rise of the sum of squares).
    np.testing.assert_allclose(np.sqrt(2 * tree.heights), expected[:, 2], atol=1e-6)
    counts = [1, 2, 7, 33, 70]
    for count, labels in zip(counts, tree.cut(counts), strict=True):
        assert partition(labels) == partition(fcluster(expected, count, "maxclust"))


def test_wards_linkage_from_small_clusters_weighs_them_by_size() -> None:
    rng = np.random.default_rng(0)
    unit = normalised(rng.normal(size=(40, 4)).astype(np.float32))
    leaves = ward(unit).cut([12])[0]
    tree = ward(unit, leaves)

    def rise(one: set[int], other: set[int]) -> float:
        def spread(rows: set[int]) -> float:
            wide = unit[sorted(rows)].astype(np.float64)
            return float(((wide - wide.mean(axis=0)) ** 2).sum())

        return spread(one | other) - spread(one) - spread(other)

    clusters = [set(np.flatnonzero(leaves == leaf).tolist()) for leaf in range(12)]
    while len(clusters) > 1:
        one, other = min(itertools.combinations(clusters, 2), key=lambda pair: rise(*pair))
        clusters = [each for each in clusters if each not in (one, other)] + [one | other]
        assert partition(tree.cut([len(clusters)])[0]) == {frozenset(each) for each in clusters}
