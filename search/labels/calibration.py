"""Fitting the label estimate on verified photos, each of them judged without its own group.

The parameters of the fusion maximise the likelihood of the verified labels, with a prior that holds them near
the defaults while there are few labels. A part of the photos is judged as if their label, or their class, were
known to one expert only, so that the balance also holds for labels that have no photo yet and for species that
the model has no class for. The unknown model is fitted on the same photos with their label hidden from both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import CatalogError, InvalidInputError
from birdsearch.first_use import first_use
from birdsearch.indexer.catalog.calibrations import add_calibration, newest_calibration
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import RANKS
from birdsearch.search.labels.fusion import (
    FusionParameters,
    NeighbourEvidence,
    References,
    fuse,
    neighbour_evidence,
)
from birdsearch.search.labels.space import LabelSpace
from birdsearch.search.labels.unknown import UnknownParameters, fit_logistic, signs
from birdsearch.search.metrics.calibration import expected_calibration_error
from birdsearch.search.query.background import above_background

__all__ = ["Calibration", "fit", "fit_fusion", "halves", "load_calibration", "save_calibration"]

_FEWEST_GROUPS, _FEWEST_LABELS = 20, 2
_MOST_ROWS = 1500
# Labels that are compared for a photo while fitting: the others have no weight that matters.
_CANDIDATES = 40
_FOLDS = 5
_HIDDEN_PART = 1 / 3
# As many unknown birds as one in five are assumed when the unknown model is fitted.
_UNKNOWN_PART = 0.2
_COUNTS = ("photos", "groups", "labels")
# Where labels are separable the likelihood is flat far from the defaults, and a step of the optimiser may go where
# exponentials overflow. Bounded, the loss stays finite there, so that the line search comes back: the prior is
# what ends the fit, never these bounds.
_MOST_LOG, _MOST_EXPONENT = 30.0, 600.0
_FITTED = (
    # name, whether it is fitted as a logarithm, standard deviation of the prior
    ("sharpness", True, 0.5),
    ("discount", True, 0.3),
    ("alone", False, 1.0),
    ("outside", False, 1.5),
    ("outside_factor", True, 0.3),
    ("neighbour_weight", True, 0.7),
    ("neighbour_floor", False, 0.15),
    ("neighbour_scale", True, 0.4),
    ("mean_weight", True, 0.5),
    ("mean_floor", False, 0.15),
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Parameters of the estimate, and what they were fitted on.

    Attributes:
        fusion: Of the fused label.
        unknown: Of the unknown score.
        photos: Verified photos that it was fitted on; 0 for the defaults.
        groups: How many groups they are.
        labels: How many labels they have.
        ece_before: Expected calibration error with the defaults (15 bins), or None.
        ece_after: The same with fitted parameters, on photos of folds that the fit did not see, or None.
        top1_before: Top-1 with the defaults, or None.
        top1_after: Top-1 by folds, or None.
        id: Row in the catalog, or None.
    """

    fusion: FusionParameters = field(default_factory=FusionParameters)
    unknown: UnknownParameters = field(default_factory=UnknownParameters)
    photos: int = 0
    groups: int = 0
    labels: int = 0
    ece_before: float | None = None
    ece_after: float | None = None
    top1_before: float | None = None
    top1_after: float | None = None
    id: int | None = None

    @property
    def is_fitted(self) -> bool:
        """True if the parameters are not the defaults."""
        return self.photos > 0

    def to_json(self) -> str:
        """Return the calibration as JSON; floats keep every bit."""
        return json.dumps({key: value for key, value in asdict(self).items() if key != "id"})

    @classmethod
    def from_json(cls, text: str, number: int | None = None) -> Calibration:
        """Read what `to_json` wrote.

        Raises:
            CatalogError: It is something else.
        """
        try:
            found = json.loads(text)
            unknown: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in found.pop("unknown").items()
            }
            given = found.pop("fusion")
            fusion = FusionParameters(**given)
            if len(given) < len(fields(FusionParameters)):
                raise TypeError("it is of an older version")
            for key, value in found.items():
                if not isinstance(value, int | float | None) or (value is None and key in _COUNTS):
                    raise TypeError(f"{key} is {value!r}")
            return cls(fusion=fusion, unknown=UnknownParameters(**unknown), id=number, **found)
        except (ValueError, TypeError, KeyError, AttributeError, InvalidInputError) as error:
            raise CatalogError(
                f"the calibration stored in the catalog cannot be read ({error}); run `birdsearch label --fit`"
            ) from error


def fit(
    logits: NDArray[np.float32],
    references: References,
    space: LabelSpace,
    *,
    start: Calibration | None = None,
    on: NDArray[np.bool_] | None = None,
    voters: NDArray[np.bool_] | None = None,
    allowed: NDArray[np.bool_] | None = None,
    seed: int = 0,
    judge: bool = True,
) -> Calibration:
    """Fit fusion and unknown model on verified photos.

    Args:
        logits: (V, M) float32 of the references.
        references: The verified photos.
        space: The labels.
        start: Where the fit starts and what the prior holds it to; the defaults if None.
        on: (V,) photos to fit on; all by default. Photos that the network was trained on should not be among
            them: it is surer of those than of any other.
        voters: (V,) photos that vote; all by default. A photo's own group never votes for it.
        allowed: (M,) classes that the model is held to know; all by default.
        seed: Decides which photos are taken where there are many, and what is hidden from whom.
        judge: Also measure calibration before and after, which takes two more fits.

    Returns:
        The calibration.

    Raises:
        InvalidInputError: There are fewer than 20 groups or fewer than 2 labels, or no label is known to the model
            or has photos of two groups.
    """
    start = Calibration() if start is None else start
    task, rows = _prepared(logits, references, space, on, voters, allowed, seed)
    fusion = task.fusion(rows, start.fusion)
    unknown = task.unknown(rows, fusion)
    found = replace(
        start,
        fusion=fusion,
        unknown=unknown,
        photos=len(rows),
        groups=len(np.unique(references.groups[rows])),
        labels=len(np.unique(references.labels[rows])),
        id=None,
    )
    if not judge:
        return replace(found, ece_before=None, ece_after=None, top1_before=None, top1_after=None)
    before = task.judged([(rows, start.fusion)])
    folds = halves(rows, references.groups, seed + 2)
    first, second = (task.fusion(half, start.fusion) for half in folds)
    after = task.judged([(folds[1], first), (folds[0], second)])
    return replace(
        found, ece_before=before[0], ece_after=after[0], top1_before=before[1], top1_after=after[1]
    )


def fit_fusion(
    logits: NDArray[np.float32],
    references: References,
    space: LabelSpace,
    *,
    on: NDArray[np.bool_] | None = None,
    voters: NDArray[np.bool_] | None = None,
    allowed: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> FusionParameters:
    """Fit the fusion alone, from the defaults; arguments and errors are those of `fit`, as is what is found."""
    task, rows = _prepared(logits, references, space, on, voters, allowed, seed)
    return task.fusion(rows, FusionParameters())


def _prepared(
    logits: NDArray[np.float32],
    references: References,
    space: LabelSpace,
    on: NDArray[np.bool_] | None,
    voters: NDArray[np.bool_] | None,
    allowed: NDArray[np.bool_] | None,
    seed: int,
) -> tuple[_Task, NDArray[np.int64]]:
    """Return the task and the rows to fit on; raise if they are too few."""
    rows = np.flatnonzero(np.ones(len(references), bool) if on is None else on)
    groups = len(np.unique(references.groups[rows]))
    labels = len(np.unique(references.labels[rows]))
    if groups < _FEWEST_GROUPS or labels < _FEWEST_LABELS:
        raise InvalidInputError(
            f"{len(rows)} verified photos in {groups} groups with {labels} labels are too few to fit on; verify "
            f"at least {_FEWEST_GROUPS} photos of different events and {_FEWEST_LABELS} species "
            "(`birdsearch annotate`)"
        )
    rows = _sample(rows, references.groups, seed)
    shown = references if voters is None else references.where(voters)
    task = _Task(logits, references, shown, space, allowed, seed)
    if not task.can_judge(rows):
        raise InvalidInputError(
            "the model knows none of the verified labels, and none has photos of two events, so that nothing says "
            "what is right; verify more photos of the same species (`birdsearch annotate`)"
        )
    return task, rows


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """The data of a fit: the verified photos and the evidence of each expert about them."""

    logits: NDArray[np.float32]
    references: References
    voters: References
    space: LabelSpace
    allowed: NDArray[np.bool_] | None
    seed: int

    def evidence(self, rows: NDArray[np.int64], hidden: NDArray[np.int64] | None = None) -> NeighbourEvidence:
        shown = self.voters
        if hidden is not None and len(hidden):
            shown = shown.where(~np.isin(shown.labels, hidden))
        mine = self.references
        return neighbour_evidence(mine.unit[rows], mine.groups[rows], shown, len(self.space))

    def known(self, hidden: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        known = np.ones(self.space.classes, bool) if self.allowed is None else self.allowed.copy()
        if hidden is not None:
            known[hidden[hidden < self.space.classes]] = False
        return known

    def can_judge(self, rows: NDArray[np.int64]) -> bool:
        """Return whether the label of some photo is known to the model, or to a voter of another group."""
        mine = self.references
        groups_of_label: dict[int, set[int]] = {}
        for label, group in zip(self.voters.labels.tolist(), self.voters.groups.tolist(), strict=True):
            groups_of_label.setdefault(label, set()).add(group)
        in_model = set(np.flatnonzero(self.known()).tolist())
        return any(
            label in in_model or groups_of_label.get(label, set()) - {group}
            for label, group in zip(mine.labels[rows].tolist(), mine.groups[rows].tolist(), strict=True)
        )

    def fusion(self, rows: NDArray[np.int64], start: FusionParameters) -> FusionParameters:
        truth = self.references.labels[rows]
        present = np.unique(truth)
        rng = np.random.default_rng(self.seed)
        some = rng.permutation(present)[: max(1, int(len(present) * _HIDDEN_PART))]
        others = rng.permutation(present)[: max(1, int(len(present) * _HIDDEN_PART))]
        evidence = self.evidence(rows)
        scenes = [
            # What is known to whom as it is counts for as much as the two others together.
            (evidence, self.known(), 2.0),
            (self.evidence(rows, some), self.known(), 1.0),
            (evidence, self.known(others), 1.0),
        ]
        prepared = [
            _scene(self.logits[rows], shown, known, truth, start, self.references.background, weight)
            for shown, known, weight in scenes
        ]
        return _maximise([scene for scene in prepared if scene is not None], start)

    def unknown(self, rows: NDArray[np.int64], fusion: FusionParameters) -> UnknownParameters:
        truth = self.references.labels[rows]
        present = np.random.default_rng(self.seed + 1).permutation(np.unique(truth))
        features, positive, clades = [], [], []
        for fold in range(min(_FOLDS, len(present))):
            hidden = present[fold::_FOLDS]
            evidence, known = self.evidence(rows, hidden), self.known(hidden)
            if not known.any() and not evidence.verified.any():
                continue
            found = fuse(self.logits[rows], evidence, fusion, self.references.background, known)
            features.append(signs(self.logits[rows], evidence, found, self.references.background, known))
            is_hidden = np.isin(truth, hidden)
            positive.append(is_hidden)
            clades.append(self._clades_right(found.probabilities[is_hidden], truth[is_hidden]))
        rows_in, unknown = np.concatenate(features), np.concatenate(positive)
        weights = np.where(
            unknown, _UNKNOWN_PART / max(unknown.sum(), 1), (1 - _UNKNOWN_PART) / max((~unknown).sum(), 1)
        )
        intercept, theta, centre, scale = fit_logistic(rows_in, unknown, weights * len(rows))
        return UnknownParameters(
            intercept=intercept,
            weights=tuple(theta.tolist()),
            centre=tuple(centre.tolist()),
            scale=tuple(scale.tolist()),
            above=tuple(np.concatenate(clades, axis=0).mean(axis=0).tolist()),
        )

    def _clades_right(
        self, probabilities: NDArray[np.float64], truth: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return (B, 3): whether the likeliest genus, family and order are those of the hidden label."""
        columns = []
        for level, rank in enumerate(RANKS[1:]):
            clades = self.space.clade_probabilities(probabilities, rank)
            true = self.space.clades[level][truth]
            best = clades.argmax(axis=1) if clades.shape[1] else np.full(len(truth), -2)
            columns.append((best == true) & (true >= 0))
        return np.stack(columns, axis=1)

    def judged(self, parts: Sequence[tuple[NDArray[np.int64], FusionParameters]]) -> tuple[float, float]:
        """Return expected calibration error and top-1 over parts that each have their own parameters."""
        confidence, right = [], []
        for part, parameters in parts:
            if not len(part):
                continue
            found = fuse(
                self.logits[part], self.evidence(part), parameters, self.references.background, self.known()
            )
            confidence.append(found.probabilities.max(axis=1))
            right.append(found.probabilities.argmax(axis=1) == self.references.labels[part])
        sure, correct = np.concatenate(confidence), np.concatenate(right)
        return expected_calibration_error(sure, correct), float(correct.mean())


def _sample(rows: NDArray[np.int64], groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Draw at most 1,500 rows, as few as possible from any one group."""
    if len(rows) <= _MOST_ROWS:
        return rows
    shuffled = np.random.default_rng(seed).permutation(rows)
    turn: dict[int, int] = {}
    turns = np.empty(len(shuffled), np.int64)
    for row, group in enumerate(groups[shuffled].tolist()):
        turns[row] = turn[group] = turn.get(group, -1) + 1
    return np.sort(shuffled[np.argsort(turns, kind="stable")[:_MOST_ROWS]])


def halves(
    rows: NDArray[np.int64], groups: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide rows in two such that no group is in both, each with half of the groups."""
    values = np.random.default_rng(seed).permutation(np.unique(groups[rows]))
    first = np.isin(groups[rows], values[: len(values) // 2])
    return rows[first], rows[~first]


def _scene(
    logits: NDArray[np.float32],
    evidence: NeighbourEvidence,
    known: NDArray[np.bool_],
    truth: NDArray[np.int64],
    start: FusionParameters,
    background: float,
    weight: float,
) -> dict[str, Any] | None:
    """Return the photos whose label an expert knows, cut down to the labels that matter, for the optimiser."""
    total = evidence.means.shape[1]
    in_model = np.zeros(total, bool)
    in_model[: len(known)] = known
    rows = np.flatnonzero(in_model[truth] | evidence.verified[np.arange(len(truth)), truth])
    if not len(rows):
        return None
    probabilities = fuse(logits, evidence, start, background, known).probabilities[rows]
    probabilities[np.arange(len(rows)), truth[rows]] = 2.0  # always a candidate, and the first
    size = min(_CANDIDATES, total)
    candidates = np.argsort(-probabilities, axis=1, kind="stable")[:, :size]
    wide = np.full((len(rows), total), -np.inf)
    wide[:, : len(known)] = np.where(known, logits[rows], -np.inf)
    mu = background if start.background is None else start.background
    present = evidence.nearest[rows] >= 0
    verified = np.take_along_axis(evidence.verified[rows], candidates, axis=1)
    known_here = in_model[candidates]
    return {
        # The sum over all classes is needed, not only over the candidates: its logits are kept apart.
        "logits": np.take_along_axis(wide, candidates, axis=1),
        "all_logits": np.where(np.isfinite(wide[:, : len(known)]), wide[:, : len(known)], -1e9),
        "has_model": bool(known.any()),
        "known": known_here,
        "usable": known_here | verified,
        "alike": np.where(present, above_background(evidence.cosines[rows], mu), 0.0),
        # (B, k, C): which neighbour votes for which candidate
        "votes": (evidence.votes[rows][:, :, None] == candidates[:, None, :]) & present[:, :, None],
        "means": above_background(np.take_along_axis(evidence.means[rows], candidates, axis=1), mu),
        "verified": verified,
        "weight": weight / len(rows),
        "count": len(rows),
    }


def _maximise(scenes: Sequence[dict[str, Any]], start: FusionParameters) -> FusionParameters:
    if not scenes:
        return start
    with first_use("torch"):
        import torch

    names = [name for name, _, _ in _FITTED]
    logarithmic = torch.tensor([is_log for _, is_log, _ in _FITTED])
    spread = torch.tensor([deviation for _, _, deviation in _FITTED], dtype=torch.float64)
    values = torch.tensor([getattr(start, name) for name in names], dtype=torch.float64)
    origin = torch.where(logarithmic, torch.log(values.clamp_min(1e-6)), values)
    moved = torch.zeros(len(names), dtype=torch.float64, requires_grad=True)
    batches = [
        {
            key: torch.as_tensor(value) if isinstance(value, np.ndarray) else value
            for key, value in scene.items()
        }
        for scene in scenes
    ]
    photos = max(scene["count"] for scene in scenes)
    weight = sum(scene["weight"] * scene["count"] for scene in scenes)

    def parameters() -> list[torch.Tensor]:
        theta = origin + spread * moved
        return list(torch.where(logarithmic, torch.exp(theta.clamp(-_MOST_LOG, _MOST_LOG)), theta))

    def loss() -> torch.Tensor:
        a, discount, alone, outside, factor, w, floor, scale, v, mean_floor = parameters()
        total: torch.Tensor = 0.5 * (moved**2).sum() / photos
        for batch in batches:
            said = discount * a * batch["logits"].clamp_min(-1e9)
            if batch["has_model"]:
                said = said - torch.logsumexp(discount * a * batch["all_logits"], dim=1, keepdim=True)
            said = torch.where(batch["verified"], said, said / discount + alone)
            from_model = torch.where(batch["known"], said, outside)
            kernel = torch.exp(((batch["alike"] - floor) / scale).clamp_max(_MOST_EXPONENT))
            mass = torch.einsum("bk,bkc->bc", kernel, batch["votes"].double())
            from_photos = w * torch.log1p(mass) + v * (batch["means"] - mean_floor)
            from_photos = torch.where(batch["known"], from_photos, factor * from_photos)
            score = from_model + torch.where(batch["verified"], from_photos, 0.0)
            score = score.masked_fill(~batch["usable"], -1e9)
            # The right label is the first candidate.
            right = torch.log_softmax(score, dim=1)[:, 0]
            total = total - batch["weight"] / weight * right.sum()
        return total

    optimiser = torch.optim.LBFGS(
        [moved], max_iter=60, tolerance_grad=1e-6, tolerance_change=1e-8, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value: torch.Tensor = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        found = {name: float(value) for name, value in zip(names, parameters(), strict=True)}
    return replace(start, **found, background=start.background)


def save_calibration(store: CatalogStore, model_id: int, calibration: Calibration) -> Calibration:
    """Store a calibration and put it in use.

    Args:
        store: A catalog that is open for writing.
        model_id: The model whose labels it calibrates.
        calibration: The calibration.

    Returns:
        The calibration with its id.

    Raises:
        CatalogReadOnlyError: The catalog was opened for reading.
    """
    counts = {key: getattr(calibration, key) for key in _COUNTS}
    return replace(calibration, id=add_calibration(store, model_id, calibration.to_json(), counts).id)


def load_calibration(store: CatalogStore, model_id: int) -> Calibration:
    """Return the newest calibration of a model, or the defaults.

    Raises:
        CatalogError: What is stored cannot be read.
    """
    found = newest_calibration(store, model_id)
    return Calibration() if found is None else Calibration.from_json(found.parameters, found.id)
