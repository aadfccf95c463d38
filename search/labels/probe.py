"""A linear probe on stored embeddings: the catalog learns species that the network does not know.

Multinomial logistic regression on unit-norm embeddings and verified labels. It needs a few labels a species and
seconds, no GPU and no photo. A fitted probe is kept in the catalog like a model: every one has its row, and the
newest is in use until it is dropped.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.probes import Probe, ProbeRecord, save_probe
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.runs import recorded_run
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.labels.witnesses import read_witnesses

__all__ = ["CHOICES", "fit_probe", "train_probe"]

CHOICES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""The values of C that are tried, from strong to weak regularisation."""

_C_UNTESTED = 1.0
_FOLDS = 5
# Rows that C is chosen on: more cost minutes and move the choice by less than its standard error.
_CHOOSING_ROWS = 10_000
_MOST_ITERATIONS, _TOLERANCE = 1000, 1e-4
_COMMAND = "probe"


def fit_probe(
    unit: NDArray[np.float32],
    labels: Sequence[str],
    groups: NDArray[np.int64],
    *,
    C: float | None = None,  # noqa: N803 the field's name
    balanced: bool = True,
    seed: int = 0,
) -> Probe:
    """Fit multinomial logistic regression with an L2 penalty, by L-BFGS.

    Embeddings are scaled by sqrt(D), so that a component has mean square 1 and C means the same for every size
    of embedding; the scale is part of the weights that come back. C multiplies the sum of the losses: the greater,
    the weaker is the penalty. It is the smallest of `CHOICES` whose cross-validated log-loss is within one
    standard error of the least (L. Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3).
    Groups are dealt to at most 5 folds by `StratifiedGroupKFold` and never straddle them; each group counts
    once, however many photos it has. Of more than 10,000 photos, C is chosen on 10,000, rare classes kept whole.

    Args:
        unit: (N, D) float32, unit-norm.
        labels: N class names.
        groups: (N,) int64; photos of one group are no independent evidence (see `vote_groups`).
        C: Weakness of the penalty, more than 0; None to choose it.
        balanced: Give all classes the same weight in sum, however many labels they have. Verified labels are
            seldom as frequent as their species.
        seed: Draws the photos that C is chosen on.

    Returns:
        The probe. `parameters` holds `C`, whether it was `chosen`, `balanced`, `seed`, `labels`, `groups`,
        `labels_by_class`, `groups_by_class`, `too_few_groups` (classes of a single group, which cannot be
        cross-validated), `tried` (a row for each C: `C`, `log_loss`, `log_loss_se`, `accuracy`, `accuracy_se`),
        the same four values for the C that was taken (None where there was nothing to validate with),
        `validated_groups` (how many they are over), `folds`, `iterations`, `converged` and `sklearn`.

    Raises:
        InvalidInputError: Lengths differ, a row is not finite or not unit-norm, C is not more than 0, or there are
            fewer than 2 classes.
    """
    _check(unit, labels, groups, C)
    classes, numbers = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    rows = np.ascontiguousarray(unit * np.float32(np.sqrt(unit.shape[1])), dtype=np.float32)
    groups = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    by_class = [len(np.unique(groups[numbers == each])) for each in range(len(classes))]
    some = _choosing(numbers, _CHOOSING_ROWS, seed)
    tried, folds, validated = _cross_validate(
        rows[some], numbers[some], groups[some], CHOICES if C is None else (float(C),), balanced
    )
    taken = _one_standard_error(tried)
    strength = float(C) if C is not None else taken["C"] if taken else _C_UNTESTED
    weight, bias, iterations = _fit(rows, numbers, strength, balanced)
    names = classes.tolist()
    parameters = {
        "C": strength,
        "chosen": C is None and taken is not None,
        "balanced": balanced,
        "seed": seed,
        "labels": len(rows),
        "groups": int(groups.max()) + 1,
        "labels_by_class": dict(zip(names, np.bincount(numbers).tolist(), strict=True)),
        "groups_by_class": dict(zip(names, by_class, strict=True)),
        "too_few_groups": [name for name, count in zip(names, by_class, strict=True) if count < 2],
        **{name: taken[name] if taken else None for name in _SCORES},
        "validated_groups": validated,
        "folds": folds,
        "tried": tried,
        "iterations": iterations,
        "converged": iterations < _MOST_ITERATIONS,
        "sklearn": sklearn.__version__,
    }
    return Probe(
        tuple(names),
        np.ascontiguousarray(weight * np.float32(np.sqrt(unit.shape[1])), dtype=np.float32),
        np.ascontiguousarray(bias, dtype=np.float32),
        parameters,
    )


_SCORES = ("log_loss", "log_loss_se", "accuracy", "accuracy_se")


def _check(
    unit: NDArray[np.float32], labels: Sequence[str], groups: NDArray[np.int64], strength: float | None
) -> None:
    if unit.ndim != 2 or len(labels) != len(unit) or groups.shape != (len(unit),):
        raise InvalidInputError(
            f"embeddings of shape {unit.shape} need as many labels and groups, got {len(labels)} and {groups.shape}"
        )
    distinct = sorted(set(labels))
    if len(distinct) < 2:
        named = f"only {distinct[0]!r}" if distinct else "none"
        raise InvalidInputError(
            f"a probe needs labels of at least 2 classes, got {named}; record more with `birdsearch annotate`"
        )
    # Written so that NaN fails too.
    if not (np.abs(np.linalg.norm(unit.astype(np.float64), axis=1) - 1.0) < 1e-3).all():
        raise InvalidInputError(
            "embeddings must be finite and unit-norm; see `birdsearch.indexer.vectors.index.normalised`"
        )
    if strength is not None and not 0.0 < strength < np.inf:
        raise InvalidInputError(f"C is {strength}; it has to be more than 0 and finite")


def _fit(
    rows: NDArray[np.float32], numbers: NDArray[np.int64], strength: float, balanced: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """Return weight (L, D), bias (L,) and iterations of a fit on scaled rows; every class 0..L-1 has a row."""
    regression = LogisticRegression(
        C=strength,
        class_weight="balanced" if balanced else None,
        max_iter=_MOST_ITERATIONS,
        tol=_TOLERANCE,
    )
    with warnings.catch_warnings():
        # Kept as `converged`.
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(rows, numbers)
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:
        # Of two classes it fits the difference of their logits.
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight.astype(np.float32), bias.astype(np.float32), int(regression.n_iter_.max())


def _choosing(numbers: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Draw at most so many rows, in order: the first of every class, then the second, and so on."""
    if len(numbers) <= most:
        return np.arange(len(numbers))
    order = np.random.default_rng(seed).permutation(len(numbers))
    by_class = order[np.argsort(numbers[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(numbers))])
    turn = np.arange(len(numbers)) - starts[numbers[by_class]]
    return np.sort(by_class[np.argsort(turn, kind="stable")[:most]])


def _folds(numbers: NDArray[np.int64], groups: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the fold of each row, 0..count-1: no group is in two, and classes are spread over them."""
    folds = np.zeros(len(numbers), dtype=np.int64)
    with warnings.catch_warnings():
        # That a class has fewer groups than there are folds.
        warnings.simplefilter("ignore", UserWarning)
        for fold, (_, held) in enumerate(StratifiedGroupKFold(count).split(numbers, numbers, groups)):
            folds[held] = fold
    return folds


def _cross_validate(
    rows: NDArray[np.float32],
    numbers: NDArray[np.int64],
    groups: NDArray[np.int64],
    choices: Sequence[float],
    balanced: bool,
) -> tuple[list[dict[str, float]], int, int]:
    """Return the scores of each C, how many folds there were, and over how many groups they are.

    A row whose class is in no other fold cannot be right and is not scored.
    """
    pairs = np.unique(np.stack([numbers, groups]), axis=1)
    count = min(_FOLDS, int(np.bincount(pairs[0]).max()))
    if count < 2:
        return [], 0, 0
    losses = np.full((len(choices), len(rows)), np.nan)
    hits = np.full((len(choices), len(rows)), np.nan)
    folds = _folds(numbers, groups, count)
    for fold in range(count):
        train = folds != fold
        known, codes = np.unique(numbers[train], return_inverse=True)
        held = np.flatnonzero(~train & np.isin(numbers, known))
        if len(known) < 2 or not len(held):
            continue
        true = np.searchsorted(known, numbers[held])
        for column, strength in enumerate(choices):
            weight, bias, _ = _fit(rows[train], codes, strength, balanced)
            logits = (rows[held] @ weight.T + bias).astype(np.float64)
            top = logits.max(axis=1)
            own = logits[np.arange(len(held)), true]
            losses[column, held] = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top - own
            hits[column, held] = logits.argmax(axis=1) == true
    scored = ~np.isnan(losses[0])
    _, group = np.unique(groups[scored], return_inverse=True)
    validated = int(group.max()) + 1 if len(group) else 0
    if validated < 2:
        return [], 0, 0
    tried = []
    for column, strength in enumerate(choices):
        loss, loss_se = _by_group(losses[column, scored], group)
        accuracy, accuracy_se = _by_group(hits[column, scored], group)
        tried.append(
            {
                "C": float(strength),
                "log_loss": loss,
                "log_loss_se": loss_se,
                "accuracy": accuracy,
                "accuracy_se": accuracy_se,
            }
        )
    return tried, count, validated


def _by_group(values: NDArray[np.float64], group: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean of the groups' means, and its standard error."""
    means = np.bincount(group, values) / np.bincount(group)
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))


def _one_standard_error(tried: Sequence[dict[str, float]]) -> dict[str, float] | None:
    """Return the row of the smallest C whose loss is within one standard error of the least."""
    if not tried:
        return None
    best = min(tried, key=lambda row: (row["log_loss"], row["C"]))
    limit = best["log_loss"] + best["log_loss_se"]
    return min((row for row in tried if row["log_loss"] <= limit), key=lambda row: row["C"])


def train_probe(
    store: CatalogStore,
    record: ModelRecord,
    *,
    C: float | None = None,  # noqa: N803 the field's name
    balanced: bool = True,
) -> ProbeRecord:
    """Fit a probe on the verified labels of a catalog, keep it and put it in use.

    Photos without a live file do not count, and copies of a picture count once. Nor does a labelled view without a
    sound vector of the model; how many there are is in `parameters` as `without_vector`.

    Args:
        store: A catalog that is open for writing.
        record: The model whose embeddings it takes.
        C: As `fit_probe`.
        balanced: As `fit_probe`.

    Returns:
        The probe, in use.

    Raises:
        BirdsearchError: As `fit_probe`; the probe before stays in use.
        CatalogReadOnlyError: The catalog was opened for reading.
    """
    with recorded_run(store, _COMMAND, record.id) as (run_id, counts):
        verified = read_witnesses(store, record.id)
        fitted = fit_probe(
            verified.unit,
            [label.name for label in verified.labels],
            verified.groups,
            C=C,
            balanced=balanced,
        )
        without = {"without_vector": verified.without_vector}
        fitted = Probe(fitted.classes, fitted.weight, fitted.bias, fitted.parameters | without)
        saved = save_probe(store, record, fitted, run_id)
        counts.update(probe=saved.id, labels=len(verified.labels), classes=len(fitted.classes), **without)
    return saved
