"""A linear probe on stored embeddings."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.errors import CatalogError, CatalogReadOnlyError, InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import record, undo
from birdsearch.indexer.catalog.probes import drop_probe, probe_in_use, probe_records, save_probe
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import new_taxon
from birdsearch.indexer.vectors.index import normalised
from birdsearch.search.labels import probe as probes
from birdsearch.search.labels.probe import CHOICES, fit_probe, train_probe
from birdsearch.search.query.softmax import softmax

Made = tuple[NDArray[np.float32], list[str], NDArray[np.int64]]


def made(
    classes: int = 3, groups: int = 8, photos: int = 3, size: int = 16, noise: float = 0.6, seed: int = 0
) -> Made:
    """Photos of classes around a direction each; those of a group are nearly the same."""
    rng = np.random.default_rng(seed)
    rows, labels, numbers = [], [], []
    for name, number in itertools.product(range(classes), range(groups)):
        centre = 2.0 * np.eye(size)[name] + noise * rng.normal(size=size)
        rows += [centre + 0.05 * rng.normal(size=size) for _ in range(photos)]
        labels += [f"species {name}"] * photos
        numbers += [name * groups + number] * photos
    return normalised(np.array(rows, np.float32)), labels, np.array(numbers)


def loss_and_gradient(
    unit: NDArray[np.float32], labels: list[str], weight: Any, bias: Any, strength: float, weights: Any
) -> tuple[float, Any]:
    """The objective in float64, written down from its definition: penalty and C times the weighted losses."""
    size = unit.shape[1]
    scaled, coefficients = unit.astype(np.float64) * np.sqrt(size), weight.astype(np.float64) / np.sqrt(size)
    classes = sorted(set(labels))
    true = np.array([classes.index(label) for label in labels])
    logits = scaled @ coefficients.T + bias
    logits -= logits.max(axis=1, keepdims=True)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    row = np.arange(len(true))
    loss = 0.5 * float((coefficients**2).sum()) - strength * float(
        (weights * np.log(chances[row, true])).sum()
    )
    slope = chances.copy()
    slope[row, true] -= 1
    slope *= weights[:, None]
    return loss, coefficients + strength * slope.T @ scaled


# -- fitting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("classes", [3, 4])
def test_the_fit_is_the_minimum_of_its_objective(classes: int, balanced: bool) -> None:
    unit, labels, groups = made(classes)
    # Classes of different size.
    kept = [place for place, label in enumerate(labels) if label != "species 0" or place % 3 == 0]
    unit, labels, groups = unit[kept], [labels[place] for place in kept], groups[kept]
    counts = {label: labels.count(label) for label in labels}
    weights = np.array([len(labels) / (classes * counts[label]) if balanced else 1.0 for label in labels])
    found = fit_probe(unit, labels, groups, C=0.3, balanced=balanced)
    least, gradient = loss_and_gradient(unit, labels, found.weight, found.bias, 0.3, weights)
    assert np.abs(gradient).max() < 0.02
    rng = np.random.default_rng(0)
    for _ in range(20):
        away = found.weight + rng.normal(scale=0.3, size=found.weight.shape)
        assert loss_and_gradient(unit, labels, away, found.bias, 0.3, weights)[0] > least


def test_two_classes_have_logits_of_their_own_too() -> None:
    unit, labels, groups = made(2)
    found = fit_probe(unit, labels, groups, C=0.3)
    assert found.weight.shape == (2, 16)
    assert found.bias.shape == (2,)
    _, gradient = loss_and_gradient(unit, labels, found.weight, found.bias, 0.3, np.ones(len(labels)))
    difference = found.weight[1] - found.weight[0]
    np.testing.assert_allclose(found.weight[1], difference / 2, rtol=1e-5)
    # The penalty is on the difference, not on its halves.
    scale = np.sqrt(16)
    assert np.abs(gradient[1] - found.weight[1] / scale + difference / scale).max() < 0.05


def test_what_was_learnt_is_told_of_other_photos() -> None:
    found = fit_probe(*made(seed=0))
    unit, labels, _ = made(seed=1)
    probabilities = softmax(found.logits(unit))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    named = [found.classes[index] for index in probabilities.argmax(axis=1)]
    assert np.mean([name == label for name, label in zip(named, labels, strict=True)]) > 0.9
    logits = found.logits(unit)
    assert logits.dtype == found.weight.dtype == found.bias.dtype == np.float32
    np.testing.assert_allclose(logits, unit @ found.weight.T + found.bias)


def test_the_same_labels_give_the_same_probe() -> None:
    unit, labels, groups = made()
    first, second = (fit_probe(unit, labels, groups) for _ in range(2))
    np.testing.assert_array_equal(first.weight, second.weight)
    assert first.parameters == second.parameters
    # What the groups are called does not matter where they come in the same order.
    assert fit_probe(unit, labels, 5 * groups + 100).parameters == first.parameters


def test_parameters_say_how_it_was_fitted_and_survive_json() -> None:
    import sklearn

    unit, labels, groups = made(groups=6, photos=2)
    labels[0] = "alone"
    parameters = fit_probe(unit, labels, groups).parameters
    assert json.loads(json.dumps(parameters, allow_nan=False)) == parameters
    assert parameters["chosen"] is True
    assert parameters["C"] in CHOICES
    assert [row["C"] for row in parameters["tried"]] == list(CHOICES)
    assert parameters["labels"] == 36
    assert parameters["groups"] == 18
    assert parameters["too_few_groups"] == ["alone"]
    assert parameters["labels_by_class"] == {"alone": 1, "species 0": 11, "species 1": 12, "species 2": 12}
    assert parameters["groups_by_class"] == {"alone": 1, "species 0": 6, "species 1": 6, "species 2": 6}
    # The photo that is alone in its class is not scored; the other of its group is.
    assert parameters["validated_groups"] == 18
    assert parameters["sklearn"] == sklearn.__version__
    assert parameters["converged"] is True


def test_c_is_the_smallest_within_one_standard_error_of_the_best() -> None:
    parameters = fit_probe(*made(noise=1.2)).parameters
    tried = parameters["tried"]
    best = min(tried, key=lambda row: row["log_loss"])
    good = [row["C"] for row in tried if row["log_loss"] <= best["log_loss"] + best["log_loss_se"]]
    assert parameters["C"] == min(good)
    assert parameters["C"] < best["C"]
    taken = next(row for row in tried if row["C"] == parameters["C"])
    assert all(parameters[name] == taken[name] for name in ("log_loss", "log_loss_se", "accuracy"))


def test_a_given_c_is_taken_and_validated() -> None:
    parameters = fit_probe(*made(), C=7).parameters
    assert parameters["C"] == 7
    assert parameters["chosen"] is False
    assert [row["C"] for row in parameters["tried"]] == [7]
    assert 0.5 < parameters["accuracy"] <= 1


def test_photos_of_one_group_do_not_vouch_for_each_other() -> None:
    rng = np.random.default_rng(0)
    # Labels are by lot: only the frames of the same event tell them.
    centres = normalised(rng.normal(size=(60, 64)).astype(np.float32))
    unit = normalised(np.repeat(centres, 4, axis=0) + 0.01 * rng.normal(size=(240, 64)).astype(np.float32))
    labels = np.repeat(rng.permutation(["a", "b", "c"] * 20), 4).tolist()
    groups = np.repeat(np.arange(60), 4)
    honest = fit_probe(unit, labels, groups, C=1).parameters
    fooled = fit_probe(unit, labels, np.arange(240), C=1).parameters
    assert honest["accuracy"] < 0.55
    assert fooled["accuracy"] > 0.95
    # Each event counts once: 4 frames are no 4 proofs.
    assert honest["validated_groups"] == 60
    assert honest["accuracy_se"] > 0.04


def test_scores_are_those_of_folds_made_by_hand() -> None:
    unit, labels, groups = made(groups=4, photos=2, noise=1.5)
    parameters = fit_probe(unit, labels, groups, C=0.3).parameters
    assert parameters["folds"] == 4
    classes = sorted(set(labels))
    losses: dict[int, list[float]] = {}
    # Groups of equal size are dealt one after the other: the first of each class to the first fold, and so on.
    for fold in range(4):
        held = groups % 4 == fold
        trained = fit_probe(unit[~held], [label for label, out in zip(labels, held, strict=True) if not out],
                            groups[~held], C=0.3)  # fmt: skip
        for place in np.flatnonzero(held):
            chance = softmax(trained.logits(unit[place : place + 1]))[0, classes.index(labels[place])]
            losses.setdefault(int(groups[place]), []).append(-np.log(chance))
    means = np.array([np.mean(each) for each in losses.values()])
    assert parameters["log_loss"] == pytest.approx(means.mean(), rel=1e-4)
    assert parameters["log_loss_se"] == pytest.approx(means.std(ddof=1) / np.sqrt(12), rel=1e-4)


def test_groups_never_straddle_folds_and_classes_are_spread() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 300)
    numbers = np.where(rng.random(300) < 0.1, rng.integers(0, 4, 300), groups % 4)
    folds = probes._folds(numbers, groups, 5)
    for group in range(40):
        assert len(set(folds[groups == group].tolist())) == 1
    for each in range(4):
        counts = np.bincount(folds[groups % 4 == each], minlength=5)
        assert counts.min() > 0
        assert counts.max() <= 2 * counts.min()
    # A large group of one class does not keep another class out of its fold.
    folds = probes._folds(np.array([0] * 50 + [1] * 5), np.array([0] * 50 + [1, 2, 3, 4, 5]), 5)
    assert sorted(folds[50:].tolist()) == [0, 1, 2, 3, 4]


def test_a_class_with_a_single_label_is_learnt_but_not_validated() -> None:
    unit, labels, groups = made(2)
    found = fit_probe(
        np.concatenate([unit, np.eye(16, dtype=np.float32)[-1:]]), [*labels, "rare"], np.append(groups, 99)
    )
    assert found.classes == ("rare", "species 0", "species 1")
    assert found.parameters["too_few_groups"] == ["rare"]
    assert found.parameters["validated_groups"] == 16
    # Balanced: one label speaks as loudly as 24.
    assert softmax(found.logits(np.eye(16, dtype=np.float32)[-1:]))[0].argmax() == 0


def test_nothing_to_validate_with_is_said() -> None:
    unit, labels, groups = made(3, groups=1)
    parameters = fit_probe(unit, labels, groups).parameters
    assert parameters["C"] == 1.0
    assert parameters["chosen"] is False
    assert parameters["log_loss"] is None
    assert parameters["tried"] == []
    assert len(parameters["too_few_groups"]) == 3


def test_two_classes_of_which_one_is_left_in_training_are_not_scored() -> None:
    # Class a has two groups, class b one: without b there is nothing to tell a from.
    unit = np.eye(3, dtype=np.float32)
    parameters = fit_probe(unit, ["a", "a", "b"], np.array([0, 1, 2])).parameters
    assert parameters["too_few_groups"] == ["b"]
    assert parameters["validated_groups"] in (0, 1, 2)
    assert parameters["labels"] == 3


def test_c_is_chosen_on_a_part_of_many_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_CHOOSING_ROWS", 30)
    unit, labels, groups = made(3, groups=20, photos=2)
    few = [place for place, label in enumerate(labels) if label != "species 0" or place < 4]
    parameters = fit_probe(unit[few], [labels[place] for place in few], groups[few], C=1).parameters
    assert parameters["labels"] == 84
    # All 4 photos (2 groups) of the rare class, and 13 of each other.
    assert parameters["validated_groups"] <= 28
    numbers = np.unique([labels[place] for place in few], return_inverse=True)[1]
    chosen = probes._choosing(numbers, 30, seed=0)
    assert np.bincount(numbers[chosen]).tolist() == [4, 13, 13]
    assert (np.diff(chosen) > 0).all()
    assert chosen.tolist() == probes._choosing(numbers, 30, seed=0).tolist()
    assert chosen.tolist() != probes._choosing(numbers, 30, seed=1).tolist()


def test_a_fit_that_ends_early_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_MOST_ITERATIONS", 2)
    parameters = fit_probe(*made(), C=100).parameters
    assert parameters["converged"] is False
    assert parameters["iterations"] == 2


def test_what_cannot_be_fitted_is_refused() -> None:
    unit, labels, groups = made()
    with pytest.raises(InvalidInputError, match="at least 2 classes, got only 'species 0'"):
        fit_probe(unit, ["species 0"] * len(unit), groups)
    with pytest.raises(InvalidInputError, match="at least 2 classes, got none"):
        fit_probe(np.zeros((0, 4), np.float32), [], np.zeros(0, np.int64))
    with pytest.raises(InvalidInputError, match="as many labels and groups"):
        fit_probe(unit, labels[:-1], groups)
    with pytest.raises(InvalidInputError, match="unit-norm"):
        fit_probe(2 * unit, labels, groups)
    with pytest.raises(InvalidInputError, match="unit-norm"):
        fit_probe(np.where(np.arange(16) == 3, np.nan, unit).astype(np.float32), labels, groups)
    for strength in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidInputError, match="C is"):
            fit_probe(unit, labels, groups, C=strength)
    with pytest.raises(InvalidInputError, match=r"\(B, 16\)"):
        fit_probe(unit, labels, groups, C=1).logits(unit[:, :5])


# -- the catalog -----------------------------------------------------------------------------------------


@pytest.fixture
def taught(make_catalog: Callable[..., Any]) -> Any:
    """A catalog with labelled photos of two species that its network does not know, and one unlabelled."""
    catalog = make_catalog(dim=16)
    unit, labels, groups = made(2, groups=4, photos=2)
    items = []
    for row, label, group in zip(3.0 * unit, labels, groups.tolist(), strict=True):
        # Photos of a group are of one minute.
        _, (view,) = catalog.photo([row], captured_at=f"2024-05-01T{6 + group:02d}:00:00", camera="a")
        items.append((view, new_taxon(label.replace("species", "Teal")), "positive"))
    catalog.photo([unit[0]])
    record(catalog.store, items, "Ada", "test")
    return catalog


def model(store: CatalogStore) -> ModelRecord:
    found = store.active_model()
    assert found is not None
    return found


def runs(store: CatalogStore) -> list[tuple[str, str, dict[str, Any]]]:
    with store.reading() as connection:
        rows = connection.execute(sa.select(schema.run).order_by(schema.run.c.id)).all()
    return [
        (row.command, row.outcome, json.loads(row.counts)) for row in rows if row.command.startswith("probe")
    ]


def test_a_trained_probe_is_in_use_and_comes_back_whole(taught: Any) -> None:
    store = taught.store
    assert probe_in_use(store, taught.model_id) is None
    trained = train_probe(store, model(store))
    assert trained.in_use
    assert trained.probe.classes == ("Teal 0", "Teal 1")
    assert trained.probe.parameters["labels"] == 16
    # Grouped by time: the two photos of a minute are one piece of evidence.
    assert trained.probe.parameters["groups"] == 8
    assert trained.probe.parameters["without_vector"] == 0
    loaded = probe_in_use(store, taught.model_id)
    assert loaded is not None
    assert loaded.classes == trained.probe.classes
    assert loaded.parameters == trained.probe.parameters
    np.testing.assert_array_equal(loaded.weight, trained.probe.weight)
    np.testing.assert_array_equal(loaded.bias, trained.probe.bias)
    assert loaded.weight.dtype == np.float32
    assert runs(store) == [
        ("probe", "done", {"probe": trained.id, "labels": 16, "classes": 2, "without_vector": 0})
    ]
    vectors = np.stack(list(store.embeddings(taught.model_id, range(1, 17)).values()))
    expected = fit_probe(normalised(vectors), ["Teal 0"] * 8 + ["Teal 1"] * 8, np.repeat(np.arange(8), 2))
    np.testing.assert_array_equal(loaded.weight, expected.weight)


def test_the_newest_probe_is_in_use_until_it_is_dropped_and_all_are_kept(taught: Any) -> None:
    store = taught.store
    first = train_probe(store, model(store), C=0.1)
    second = train_probe(store, model(store), C=10)
    assert [(each.id, each.in_use) for each in probe_records(store, taught.model_id)] == [
        (first.id, False),
        (second.id, True),
    ]
    loaded = probe_in_use(store, taught.model_id)
    assert loaded is not None
    assert loaded.parameters["C"] == 10
    assert drop_probe(store, model(store)) == second.id
    assert probe_in_use(store, taught.model_id) is None
    assert [each.in_use for each in probe_records(store, taught.model_id)] == [False, False]
    assert drop_probe(store, model(store)) is None
    assert [run[:2] for run in runs(store)] == [("probe", "done")] * 2 + [("probe drop", "done")]
    assert train_probe(store, model(store), C=1).in_use


def test_a_probe_belongs_to_the_model_it_was_fitted_to(taught: Any) -> None:
    trained = train_probe(taught.store, model(taught.store), C=1)
    assert probe_in_use(taught.store, taught.model_id + 1) is None
    assert probe_records(taught.store, taught.model_id + 1) == []
    with pytest.raises(InvalidInputError, match=r"\(2, 8\)"):
        save_probe(
            taught.store, replace(model(taught.store), embedding_size=8), trained.probe, trained.run_id
        )


def test_labels_without_a_sound_vector_are_left_out_and_counted(taught: Any) -> None:
    embedding = schema.embedding.c
    bad = {2: b"cut", 4: np.full(16, np.nan, "<f4").tobytes(), 6: bytes(64)}
    with taught.store.writing() as connection:
        for view_id, blob in bad.items():
            connection.execute(
                sa.update(schema.embedding).where(embedding.view_id == view_id).values(vector=blob)
            )
    trained = train_probe(taught.store, model(taught.store), C=1)
    assert trained.probe.parameters["without_vector"] == 3
    assert trained.probe.parameters["labels"] == 13


def test_a_failed_fit_is_recorded_and_leaves_the_probe_in_use(
    taught: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = taught.store
    first = train_probe(store, model(store), C=1)
    undo(store)
    with pytest.raises(InvalidInputError, match="at least 2 classes, got none"):
        train_probe(store, model(store))

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(probes, "fit_probe", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_probe(store, model(store))
    assert [each.in_use for each in probe_records(store, taught.model_id)] == [True]
    assert first.id == probe_records(store, taught.model_id)[0].id
    assert [run[:2] for run in runs(store)] == [
        ("probe", "done"),
        ("probe", "failed"),
        ("probe", "interrupted"),
    ]


def test_a_damaged_probe_is_named_and_can_be_replaced_or_dropped(taught: Any) -> None:
    store = taught.store
    for damage in ({"weight": b"cut"}, {"bias": bytes(4)}, {"classes": "{"}, {"bias": b"\xff" * 8}):
        trained = train_probe(store, model(store), C=1)
        with store.writing() as connection:
            connection.execute(
                sa.update(schema.probe).where(schema.probe.c.id == trained.id).values(**damage)
            )
        with pytest.raises(CatalogError, match=f"probe {trained.id} is damaged"):
            probe_in_use(store, taught.model_id)
    assert drop_probe(store, model(store)) is not None
    assert probe_in_use(store, taught.model_id) is None


def test_a_catalog_open_for_reading_is_not_taught(taught: Any, tmp_path: Path) -> None:
    with CatalogStore.open(tmp_path / "catalog") as store, pytest.raises(CatalogReadOnlyError):
        train_probe(store, model(store))
