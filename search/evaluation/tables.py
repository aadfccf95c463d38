"""The tables and curves of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from birdsearch.search.evaluation.evaluate import Evaluation, MethodScores, Setting, UnknownScores
from birdsearch.search.evaluation.report import (
    Cell,
    Curve,
    Report,
    Table,
    coverage_risk_plot,
    estimates_plot,
    reliability_plot,
    roc_plot,
)
from birdsearch.search.metrics.calibration import coverage_risk, reliability
from birdsearch.search.metrics.retrieval import RetrievalScores
from birdsearch.search.metrics.roc import auroc, fpr_at_tpr, roc_curve
from birdsearch.search.metrics.sampling import Estimate, estimate, macro_mean, paired_bootstrap

__all__ = ["build_report", "unknown_rates"]

_BINS = 15
_NOTE = (
    "Nothing was judged on photos that it was fitted on. A photo never finds its own group, and its group never "
    "votes for it. Intervals are 95 % bootstrap intervals over groups."
)


def build_report(found: Evaluation, provenance: Mapping[str, str], *, seed: int = 0) -> Report:
    """Build the tables and curves of an evaluation.

    Args:
        found: What was measured.
        provenance: What it was measured on, and with what.
        seed: Of the bootstrap, which resamples groups.

    Returns:
        The report; intervals are 95 % percentile bootstrap.
    """
    first = found.settings[0]
    tables = [
        _retrieval(found, seed),
        *_frequencies(found, seed),
        _labels(first, found, seed),
        _calibration(first),
        _settings(found, seed),
        _knn(found, seed),
    ]
    curves: list[Curve] = [
        reliability_plot(
            "Reliability",
            {
                name: reliability(first.methods[method].confidence, first.methods[method].right, _BINS)
                for name, method in (("fitted", "fused"), ("not fitted", "fused, not fitted"))
            },
        ),
        coverage_risk_plot(
            "Coverage and risk",
            {
                method: coverage_risk(first.methods[method].confidence, first.methods[method].right)
                for method in ("network", "k-NN", "fused")
            },
        ),
    ]
    shots = {
        int(setting.name.split()[0]): setting
        for setting in found.settings
        if setting.name.endswith((" label a species", " labels a species"))
    }
    if len(shots) > 1:
        curves.append(
            estimates_plot(
                "Few labels",
                "verified photos a species",
                "top-1",
                {
                    method: {
                        count: _interval(setting.methods[method].right, found.groups, seed)
                        for count, setting in sorted(shots.items())
                    }
                    for method in ("network", "k-NN", "fused")
                },
            )
        )
    if found.unknown is not None:
        tables.append(_unknown(found.unknown))
        curves.append(
            roc_plot(
                "Unknown species",
                {
                    name: roc_curve(_ranks(found.unknown, name), found.unknown.unknown)
                    for name in ("combined", "max-softmax", "energy", "k-NN distance")
                },
            )
        )
    return Report(
        title="How good labels and retrieval are",
        provenance=provenance,
        tables=tuple(tables),
        curves=tuple(curves),
        notes=(_NOTE,),
    )


def _interval(right: NDArray[np.bool_], groups: NDArray[np.int64], seed: int) -> Estimate:
    return estimate(right.astype(float), groups=groups, seed=seed)


def _retrieval(found: Evaluation, seed: int) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, scores in found.retrieval.items():
        groups = found.groups[scores.query]
        cells = [_interval(scores.found(k), groups, seed) for k in scores.ks]
        mean = estimate(scores.average_precision, groups=groups, seed=seed)
        rows.append((name, *cells, mean, len(scores.query)))
    gain = _gain(found, found.retrieval["plain"], found.retrieval["refined"], seed)
    return Table(
        "Retrieval",
        ("ranking", *(f"recall@{k}" for k in next(iter(found.retrieval.values())).ks), "mAP@R", "queries"),
        tuple(rows),
        f"Refined less plain: mAP@R {gain[0]}, recall@1 {gain[1]}.",
    )


def _frequencies(found: Evaluation, seed: int) -> list[Table]:
    rows = []
    for one in found.frequencies:
        precision, recall = _gain(found, one.plain, one.refined, seed)
        rows.append(
            (
                one.name,
                one.plain.mean_average_precision_at_r,
                one.refined.mean_average_precision_at_r,
                precision,
                one.plain.recall_at_k(1),
                one.refined.recall_at_k(1),
                recall,
            )
        )
    columns = (
        "verified photos",
        "mAP@R plain",
        "refined",
        "gain",
        "recall@1 plain",
        "refined recall@1",
        "gain in recall@1",
    )
    return [Table("Refined ranking by how many photos a species has", columns, tuple(rows))] if rows else []


def _gain(found: Evaluation, plain: RetrievalScores, refined: RetrievalScores, seed: int) -> tuple[str, str]:
    groups = found.groups[plain.query]
    precision = paired_bootstrap(refined.average_precision, plain.average_precision, groups=groups, seed=seed)
    recall = paired_bootstrap(
        refined.found(1).astype(float), plain.found(1).astype(float), groups=groups, seed=seed
    )
    return _signed(precision), _signed(recall)


def _signed(value: Estimate) -> str:
    return f"{value.value:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"


def _labels(setting: Setting, found: Evaluation, seed: int) -> Table:
    rows = [
        (
            method,
            _interval(scores.right, found.groups, seed),
            float(scores.right5.mean()),
            macro_mean(scores.right, found.labels),
            _ece(scores),
            float(-np.log(np.maximum(scores.likelihood, 1e-6)).mean()),
            coverage_risk(scores.confidence, scores.right).aurc,
        )
        for method, scores in setting.methods.items()
    ]
    return Table(
        "Labels, with everything that is verified",
        ("method", "top-1", "top-5", "top-1 macro", "ECE", "log loss", "AURC"),
        tuple(rows),
        f"ECE over {_BINS} bins; log loss in nats with probabilities of at least 1e-6; AURC is the area under the "
        "coverage-risk curve. All three are better when lower. On average the verified photos made "
        f"{setting.knn_weight.mean():.0%} of the decision in the fused label.",
    )


def _ece(scores: MethodScores) -> float:
    return float(reliability(scores.confidence, scores.right, _BINS).expected_calibration_error)


def _calibration(setting: Setting) -> Table:
    fusion = setting.fusion
    values = (
        ("temperature T of the logits", 1 / fusion.sharpness),
        ("discount r of the network where photos speak too", fusion.discount),
        ("bonus b of a class without photos", fusion.alone),
        ("score of a label that is no class", fusion.outside),
        ("factor g of the photos of such a label", fusion.outside_factor),
        ("weight of the neighbours w", fusion.neighbour_weight),
        ("floor of the neighbours s0", fusion.neighbour_floor),
        ("scale of the neighbours tau", fusion.neighbour_scale),
        ("weight of the class means v", fusion.mean_weight),
        ("floor of the class means c0", fusion.mean_floor),
    )
    return Table("What was fitted, on the first half", ("parameter", "value"), values)


def _settings(found: Evaluation, seed: int) -> Table:
    rows = []
    for setting in found.settings:
        network, knn, fused = (
            setting.methods[name].right.astype(float) for name in ("network", "k-NN", "fused")
        )
        better = network if network.mean() >= knn.mean() else knn
        gain = paired_bootstrap(fused, better, groups=found.groups, seed=seed)
        rows.append(
            (
                setting.name,
                float(network.mean()),
                float(knn.mean()),
                _interval(setting.methods["fused"].right, found.groups, seed),
                _signed(gain),
                _ece(setting.methods["fused, not fitted"]),
                _ece(setting.methods["fused"]),
            )
        )
    return Table(
        "Top-1 under different states of knowledge",
        ("state", "network", "k-NN", "fused", "fused less the better of them", "ECE before", "ECE after"),
        tuple(rows),
        "Before and after fitting; every state is fitted anew, on the other half of the queries.",
    )


def _knn(found: Evaluation, seed: int) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, scores in found.knn.items():
        groups = found.groups[scores.query]
        rows.append(
            (name, *(_interval(scores.right[:, column], groups, seed) for column in range(len(scores.ks))))
        )
    return Table(
        "k-NN classification, T = 0.07",
        ("ranking", *(f"k = {k}" for k in next(iter(found.knn.values())).ks)),
        tuple(rows),
    )


def unknown_rates(found: UnknownScores) -> dict[str, tuple[float, float]]:
    """Return AUROC and the false positive rate at 95 % true positives, by method: means over the folds."""
    rates = {}
    for name, scores in found.scores.items():
        folds = [found.fold == fold for fold in np.unique(found.fold)]
        folds = [fold for fold in folds if found.unknown[fold].any() and not found.unknown[fold].all()]
        rates[name] = (
            float(np.mean([auroc(scores[fold], found.unknown[fold]) for fold in folds])),
            float(np.mean([fpr_at_tpr(scores[fold], found.unknown[fold]) for fold in folds])),
        )
    return rates


def _unknown(found: UnknownScores) -> Table:
    rows = tuple((name, *rates) for name, rates in unknown_rates(found).items())
    return Table(
        "Telling unknown species",
        ("score", "AUROC", "FPR at 95 % TPR"),
        rows,
        "Every fifth species is held out in turn, from the network, the verified photos and the fit; means over "
        "the folds.",
    )


def _ranks(found: UnknownScores, name: str) -> NDArray[np.float64]:
    """Return scores as ranks within their fold, 0..1, since those of two folds do not compare."""
    ranks = np.zeros(len(found.fold))
    for fold in np.unique(found.fold):
        inside = found.fold == fold
        order = np.argsort(np.argsort(found.scores[name][inside], kind="stable"), kind="stable")
        ranks[inside] = order / max(len(order) - 1, 1)
    return ranks
