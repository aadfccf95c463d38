"""A check whether clusters follow the site (camera, folder or deployment) rather than the bird.

A network sees the whole frame. Where it looks at the background, or at what a camera does to colours, photos
cluster by site. Sites also have birds of their own, so that a relation alone proves nothing; but a cluster of
one site is one to look at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError

__all__ = ["SiteCheck", "binomial_tail", "check_sites"]

# A cluster that comes from one site with more than this share is looked at.
_SHARE = 0.9
# How improbable that has to be if sites and clusters had nothing to do with each other, over all clusters.
_SIGNIFICANCE = 0.01
# Adjusted information from which on the whole clustering is warned about: a fifth of what there could be.
_WARNING = 0.2


@dataclass(frozen=True, slots=True)
class SiteCheck:
    """The dependence of clusters on sites.

    Attributes:
        kind: What a site is: `camera`, `folder` or `deployment`.
        sites: How many sites.
        events: How many events, each counted once, are in a cluster and of a known site.
        information: Normalised mutual information of cluster and site, 0..1: over the mean of their entropies.
        chance: Its mean when the sites are permuted among the events.
        chance_high: The highest of these permutations.
        adjusted: (information - chance) / (1 - chance), at most 1; 0 is what chance gives.
        p_value: Share of permutations with at least as much information, the data counted as one of them.
        permutations: How many permutations.
        one_site: Cluster id -> (site, its share of the cluster's events), of clusters that come from one of
            several sites with more than 90 % and by more than chance.
    """

    kind: str
    sites: int
    events: int
    information: float
    chance: float
    chance_high: float
    adjusted: float
    p_value: float
    permutations: int
    one_site: dict[int, tuple[str, float]]

    @property
    def is_warning(self) -> bool:
        """True if clusters follow the site as a whole."""
        return self.adjusted >= _WARNING and self.p_value <= _SIGNIFICANCE

    @property
    def sentence(self) -> str:
        """What came of it, for a person."""
        figures = (
            f"mutual information {self.information:.2f} of 1, by chance {self.chance:.2f} (at most "
            f"{self.chance_high:.2f} in {self.permutations} permutations); adjusted for chance {self.adjusted:.2f}"
        )
        if not self.is_warning:
            more = ""
            if self.one_site:
                more = f"; {_count(len(self.one_site), 'cluster')} of one {self.kind} all the same"
            how = "do not follow" if self.p_value > _SIGNIFICANCE else "hardly follow"
            return f"clusters {how} the {self.kind}: {figures}{more}"
        single = f"; {_count(len(self.one_site), 'cluster')} of one {self.kind}" if self.one_site else ""
        return (
            f"clusters follow the {self.kind}: {figures}{single}. They may show the background rather than the "
            f"bird, unless each {self.kind} has birds of its own: look at them"
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def check_sites(
    kind: str,
    clusters: NDArray[np.int64],
    sites: Sequence[str | None],
    *,
    permutations: int = 199,
    seed: int = 0,
) -> SiteCheck | None:
    """Compare cluster and site of events.

    Mutual information rises with the numbers of clusters and sites even if they have nothing to do with each
    other, so it is measured against permutations: each site keeps its number of events, and they are dealt out
    anew.

    Source: N. X. Vinh, J. Epps, J. Bailey, "Information Theoretic Measures for Clusterings Comparison", JMLR 11
    (2010) 2837, section 3 (arithmetic mean of the entropies).
    NOTE: their expectation is over all permutations, exactly; here it is the mean of some, which also gives the
    p-value.

    Args:
        kind: What a site is, as it is told to people.
        clusters: (E,) int64, cluster of each event; negative for outliers, which are left out.
        sites: E sites, None where unknown: left out.
        permutations: How many, at least 1.
        seed: Of the permutations.

    Returns:
        What came of it; None where there are not two sites and two clusters.

    Raises:
        InvalidInputError: The lengths differ, or there are no permutations.
    """
    if len(clusters) != len(sites) or permutations < 1:
        raise InvalidInputError(
            f"{len(clusters)} events need as many sites, got {len(sites)}; and at least 1 permutation, not "
            f"{permutations}"
        )
    is_known = np.array([site is not None for site in sites], dtype=bool) & (clusters >= 0)
    # In an order of their own, so that the permutations do not depend on that of the events.
    pairs = sorted((int(clusters[index]), str(sites[index])) for index in np.flatnonzero(is_known).tolist())
    names, site = np.unique([name for _, name in pairs], return_inverse=True)
    ids, cluster = np.unique([each for each, _ in pairs], return_inverse=True)
    if len(names) < 2 or len(ids) < 2:
        return None
    scale = (_entropy(np.bincount(cluster)) + _entropy(np.bincount(site))) / 2
    found = _information(cluster, site, len(names)) / scale
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [_information(cluster, rng.permutation(site), len(names)) / scale for _ in range(permutations)]
    )
    chance = float(drawn.mean())
    return SiteCheck(
        kind=kind,
        sites=len(names),
        events=len(pairs),
        information=float(found),
        chance=chance,
        chance_high=float(drawn.max()),
        adjusted=float((found - chance) / (1 - chance)) if chance < 1 else 0.0,
        p_value=float((1 + (drawn >= found - 1e-12).sum()) / (1 + permutations)),
        permutations=permutations,
        one_site=_of_one_site(ids, cluster, names.tolist(), site),
    )


def _entropy(counts: NDArray[np.int64]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _information(left: NDArray[np.int64], right: NDArray[np.int64], rights: int) -> float:
    """Return the mutual information, in nats."""
    _, joint = np.unique(left * rights + right, return_counts=True)
    return _entropy(np.bincount(left)) + _entropy(np.bincount(right)) - _entropy(joint)


def _of_one_site(
    ids: NDArray[np.int64], cluster: NDArray[np.int64], names: list[str], site: NDArray[np.int64]
) -> dict[int, tuple[str, float]]:
    base = np.bincount(site) / len(site)
    found: dict[int, tuple[str, float]] = {}
    # `cluster` rises, so that each cluster is one part of it.
    edges = np.searchsorted(cluster, np.arange(len(ids) + 1))
    for index, cluster_id in enumerate(ids.tolist()):
        counts = np.bincount(site[edges[index] : edges[index + 1]], minlength=len(names))
        size, most = int(counts.sum()), int(counts.argmax())
        share = float(counts[most] / size)
        # As many tests as there are clusters and sites that could have been it.
        limit = _SIGNIFICANCE / (len(ids) * len(names))
        if share > _SHARE and binomial_tail(int(counts[most]), size, float(base[most])) <= limit:
            found[cluster_id] = (names[most], share)
    return found


def binomial_tail(successes: int, trials: int, probability: float) -> float:
    """Return the probability of at least so many successes in independent trials, 0..1.

    Args:
        successes: 0..trials.
        trials: How many.
        probability: Of a success, 0..1.
    """
    if successes <= 0 or probability >= 1:
        return 1.0
    if probability <= 0:
        return 0.0
    log_p, log_q = math.log(probability), math.log1p(-probability)
    return min(
        1.0,
        math.fsum(
            math.exp(
                math.lgamma(trials + 1)
                - math.lgamma(each + 1)
                - math.lgamma(trials - each + 1)
                + each * log_p
                + (trials - each) * log_q
            )
            for each in range(successes, trials + 1)
        ),
    )
