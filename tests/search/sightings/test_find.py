"""Sightings: what was seen, once each, and why it was joined or parted."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import record as verify
from birdsearch.indexer.catalog.deployments import Deployment, store_deployments
from birdsearch.indexer.catalog.filtered_photos import great_circle_km
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.taxa import new_taxon
from birdsearch.model.taxonomy import Taxonomy
from birdsearch.search.labels.calibration import Calibration
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.sightings.find import FoundSightings, Sighting, find_sightings
from birdsearch.search.sightings.labels import fused_labels, representatives
from birdsearch.search.sightings.levels import list_groups
from birdsearch.search.sightings.parts import SightingRules, average_linkage, split_event
from birdsearch.search.sightings.store import counts_of, known_events, store_sightings

DIM = 8
START = datetime(2024, 5, 4, 6, 0)
RULES = SightingRules()


def axis(*numbers: int) -> np.ndarray:
    return np.asarray(np.eye(DIM, dtype=np.float32)[list(numbers)].sum(axis=0))


class Made:
    """A catalog of photos, named by letters; seconds are counted from six o'clock."""

    def __init__(self, made: Any) -> None:
        self.made = made
        self.store = made.store
        self.ids: dict[str, int] = {}
        self.views: dict[str, int] = {}

    @property
    def record(self) -> ModelRecord:
        found = self.store.active_model()
        assert found is not None
        return found  # type: ignore[no-any-return]

    def add(
        self,
        name: str,
        seconds: float | None,
        vector: np.ndarray | None = None,
        *,
        folder: str = "/archive/a",
        camera: str = "Norvik D50",
        serial: str = "1",
        **facts: object,
    ) -> None:
        taken = None
        if seconds is not None:
            taken = (START + timedelta(seconds=seconds + 0.001)).isoformat(timespec="microseconds")
        self.ids[name], views = self.made.photo(
            [axis(0) if vector is None else vector],
            [(folder.encode(), name.encode(), "present")],
            digest=hashlib.sha256(name.encode()).digest(),
            captured_at=taken,
            camera=camera,
            serial=serial,
            **facts,
        )
        self.views[name] = views[0]

    def verify(self, **labels: str) -> None:
        verify(
            self.store,
            [(self.views[name], new_taxon(label), "positive") for name, label in labels.items()],
            "ada",
            "test",
        )

    def predict(self, probability: float, **labels: str) -> None:
        """What a `label` run said."""
        with self.store.writing() as connection:
            run_id = start_run(connection, "label", self.made.model_id)
            for name, label in labels.items():
                values = {"name": label, "rank": "species", "probability": probability, "species": label}
                values |= {
                    "species_probability": probability,
                    "margin": 0.5,
                    "knn_weight": 0.0,
                    "unknown": 0.1,
                }
                connection.execute(
                    sa.insert(schema.prediction).values(
                        view_id=self.views[name], run_id=run_id, flags="", **values
                    )
                )
            finish_run(connection, run_id, {})

    def deploy(self, **sites: str) -> None:
        """The site of each folder of the archive."""
        store_deployments(
            self.store,
            [Deployment(name, site, f"/archive/{name}".encode()) for name, site in sites.items()],
            "test",
        )

    def find(self, **options: Any) -> FoundSightings:
        return find_sightings(self.store, self.record, **options)

    def members(self, found: FoundSightings) -> set[frozenset[str]]:
        names = {photo_id: name for name, photo_id in self.ids.items()}
        groups: dict[int, set[str]] = {}
        for photo_id, number in zip(found.frames.photo_ids.tolist(), found.numbers.tolist(), strict=True):
            groups.setdefault(number, set()).add(names[photo_id])
        return {frozenset(group) for group in groups.values()}

    def sightings(self, **options: Any) -> set[frozenset[str]]:
        return self.members(self.find(**options))

    def only(self, **options: Any) -> Sighting:
        (one,) = self.find(**options).listed
        return one


@pytest.fixture
def made(make_catalog: Callable[..., Any]) -> Made:
    return Made(make_catalog(DIM))


def groups(*names: str) -> set[frozenset[str]]:
    return {frozenset(name) for name in names}


# -- within an event ---------------------------------------------------------------------------------------


def test_an_event_is_one_sighting_unless_it_shows_two(made: Made) -> None:
    for name, seconds in zip("abcd", (0, 10, 20, 30), strict=True):
        made.add(name, seconds, axis(int(name == "d")))
    # One frame that is unlike shows that the bird has left, not that there is another.
    assert made.sightings() == groups("abcd")


def test_two_species_verified_in_one_event_are_two_sightings(made: Made) -> None:
    for name, seconds, which in (("a", 0, 0), ("b", 10, 1), ("c", 20, 1), ("d", 30, 0)):
        made.add(name, seconds, axis(which) + 0.3)
    assert made.sightings() == groups("abcd")
    made.verify(a="crow", c="wren")
    found = made.find()
    assert made.members(found) == groups("ad", "bc")
    assert [(one.name, one.verified, one.frames, one.events) for one in found.listed] == [
        ("crow", True, 2, 1), ("wren", True, 2, 1)
    ]  # fmt: skip
    assert [one.why[0].split for one in found.listed] == ["taxon", "taxon"]
    assert found.listed[0].why[0].event == found.listed[1].why[0].event == min(made.ids.values())


def test_two_species_predicted_part_an_event_only_if_both_are_sure_and_seen_twice(made: Made) -> None:
    for name, seconds in zip("abcd", (0, 10, 20, 30), strict=True):
        made.add(name, seconds)
    made.predict(0.95, a="crow", b="crow", c="wren", d="crow")
    assert made.sightings() == groups("abcd")
    made.predict(0.8, a="crow", b="crow", c="wren", d="wren")
    assert made.sightings() == groups("abcd")
    made.predict(0.95, a="crow", b="crow", c="wren", d="wren")
    assert made.sightings() == groups("ab", "cd")
    assert made.sightings(rules=SightingRules(least_probability=0.99)) == groups("abcd")
    made.verify(a="crow", b="crow", c="crow", d="crow")
    assert made.sightings() == groups("abcd")


def test_two_looks_with_two_frames_each_are_two_sightings(made: Made) -> None:
    for name, seconds, which in (("a", 0, 0), ("b", 10, 0), ("c", 20, 1), ("d", 30, 1), ("e", 40, 2)):
        made.add(name, seconds, axis(which) + np.float32(0.05) * axis(0))
    found = made.find()
    assert made.members(found) == groups("abe", "cd")
    assert {one.why[0].split for one in found.listed} == {"look"}
    assert made.sightings(rules=SightingRules(two_looks=-1.0)) == groups("abcde")
    # Of one species they are one bird from two sides.
    made.verify(b="crow", d="crow")
    assert made.sightings() == groups("abcde")


def test_linkage_is_that_of_a_search_over_all_pairs() -> None:
    rng = np.random.default_rng(7)
    for count in (1, 2, 9):
        unit = rng.normal(size=(count, 3))
        similarities = unit @ unit.T
        clusters = [[place] for place in range(count)]

        def mean(a: list[int], b: list[int], table: np.ndarray = similarities) -> float:
            return float(np.mean([table[i, j] for i in a for j in b]))

        while len(clusters) > 1:
            a, b = max(itertools.combinations(clusters, 2), key=lambda pair: mean(*pair))
            if mean(a, b) < 0.1:
                break
            clusters = [each for each in clusters if each not in (a, b)] + [a + b]
        expected = np.empty(count, int)
        for cluster in clusters:
            expected[cluster] = min(cluster)
        assert average_linkage(similarities, 0.1).tolist() == expected.tolist()


def test_a_very_long_event_is_parted_in_bounded_time() -> None:
    unit = np.repeat(np.eye(2, 4, dtype=np.float32), 3000, axis=0)
    nothing = np.full(6000, -1)
    labels, why = split_event(unit, nothing, np.zeros(6000, bool), RULES)
    assert why == "look"
    assert np.unique(labels, return_counts=True)[1].min() > 2900


# -- across events -----------------------------------------------------------------------------------------


def test_events_of_one_camera_go_on_if_they_look_alike_and_are_near_in_time(made: Made) -> None:
    for name, seconds, vector in (
        ("a", 0, axis(0)),
        ("b", 600, axis(1)),
        ("c", 1200, axis(0, 2)),
        ("d", 3001, axis(0)),
        ("e", 3900, axis(1)),
    ):
        made.add(name, seconds, vector)
    found = made.find()
    assert made.members(found) == groups("ac", "b", "d", "e")
    reason = found.listed[0].why[1]
    assert (reason.by, reason.place, reason.gap_s) == ("look", "camera", 1200.0)
    assert reason.cosine == pytest.approx(0.7071)
    assert reason.joined_to == found.listed[0].why[0].event == made.ids["a"]
    assert made.sightings(rules=SightingRules(gap_s=7200)) == groups("acd", "be")
    assert made.sightings(rules=SightingRules(same_look=0.8)) == groups("a", "b", "c", "d", "e")


def test_a_taxon_joins_what_looks_different_and_parts_what_looks_alike(made: Made) -> None:
    for name, seconds, vector in (("a", 0, axis(0)), ("b", 600, axis(1)), ("c", 1200, axis(1))):
        made.add(name, seconds, vector)
    made.verify(a="crow", b="Crow", c="wren")
    found = made.find()
    assert made.members(found) == groups("ab", "c")
    assert found.listed[0].why[1].by == "taxon"


def test_two_looks_of_one_event_are_not_joined_by_way_of_a_third(made: Made) -> None:
    made.add("r", 0, axis(0, 1))
    for name, seconds, which in (("a", 600, 0), ("b", 610, 0), ("c", 620, 1), ("d", 630, 1)):
        made.add(name, seconds, axis(which))
    found = made.sightings()
    assert found in (groups("rab", "cd"), groups("rcd", "ab"))


def test_two_cameras_at_one_site_share_a_sighting(made: Made) -> None:
    made.add("a", 0, folder="/archive/left", serial="1")
    made.add("b", 20, folder="/archive/right", serial="2")
    made.add("c", 30, folder="/archive/far", serial="3")
    assert made.sightings() == groups("a", "b", "c")
    made.deploy(left="Fen", right="Fen", far="Wood")
    found = made.find()
    assert made.members(found) == groups("ab", "c")
    one = found.listed[0]
    assert (one.cameras, one.events, one.site) == (2, 2, "Fen")
    assert (one.why[1].place, one.why[1].gap_s) == ("site", 20.0)


def test_a_clock_that_is_an_hour_off_keeps_two_cameras_apart_unless_it_tells_its_offset(made: Made) -> None:
    made.deploy(left="Fen", right="Fen")
    made.add("a", 0, folder="/archive/left", serial="1", offset_minutes=120)
    made.add("b", -3600 + 20, folder="/archive/right", serial="2", offset_minutes=60)
    made.add("c", 3 * 3600, folder="/archive/left", serial="1", offset_minutes=120)
    made.add("d", 4 * 3600, folder="/archive/right", serial="3")
    assert made.sightings() == groups("ab", "c", "d")


@pytest.mark.parametrize("level", ["bursts", "events", "sightings"])
def test_a_span_across_the_end_of_summer_time_does_not_end_before_it_began(made: Made, level: str) -> None:
    made.add("b", 0.125, axis(0), offset_minutes=60)
    made.add("a", 3600 - 0.5, axis(0), offset_minutes=120)
    made.add("c", 0.75, axis(0), offset_minutes=60)
    found = made.find()
    listed = found.listed if level == "sightings" else list_groups(found, level)  # type: ignore[arg-type]
    assert len(listed) == 1
    # 1.25 s by the clock that it began with.
    assert listed[0].started_at == "2024-05-04T06:59:59.501000"
    assert listed[0].ended_at == "2024-05-04T07:00:00.751000"


def test_cameras_within_fifty_metres_see_the_same_place(made: Made) -> None:
    metre = 1 / 111_195
    made.add("a", 0, serial="1", latitude=60.0, longitude=10.0)
    made.add("b", 60, serial="2", latitude=60.0 + 40 * metre, longitude=10.0)
    made.add("c", 120, serial="3", latitude=60.0, longitude=10.0 - 2 * 70 * metre)
    found = made.find()
    assert made.members(found) == groups("ab", "c")
    assert found.listed[0].why[1].place == "position"
    # Both sides of the antimeridian.
    made.add("e", 90_000, serial="1", latitude=-16.0, longitude=179.9999)
    made.add("f", 90_060, serial="2", latitude=-16.0, longitude=-179.9999)
    assert made.sightings() == groups("ab", "c", "ef")
    assert abs(made.find().listed[-1].longitude or 0) > 179.99


def test_a_camera_that_was_carried_a_kilometre_on_is_at_another_place(made: Made) -> None:
    made.add("a", 0, latitude=60.0, longitude=10.0)
    made.add("b", 600, latitude=60.02, longitude=10.0)
    made.add("c", 900)
    assert made.sightings() == groups("a", "bc")


def test_grid_and_windows_join_as_a_comparison_of_all_pairs_does(made: Made) -> None:
    rng = np.random.default_rng(3)
    places = 60.0 + rng.uniform(0, 0.001, 30), 10.0 + rng.uniform(0, 0.002, 30)
    seconds = np.sort(rng.uniform(0, 9000, 30))
    for number in range(30):
        made.add(
            f"p{number:02d}", float(seconds[number]), serial=str(number),
            latitude=float(places[0][number]), longitude=float(places[1][number]),
        )  # fmt: skip
    found = made.sightings(rules=SightingRules(gap_s=900))
    # Each joins one earlier part at most; whoever has a partner is joined to one.
    for j in range(30):
        near = [
            i
            for i in range(j)
            if seconds[j] - seconds[i] <= 900
            and great_circle_km(places[0][i], places[1][i], places[0][j : j + 1], places[1][j : j + 1])[0]
            <= 0.05
        ]
        group = next(group for group in found if f"p{j:02d}" in group)
        assert bool(near) == any(f"p{i:02d}" in group for i in range(j)), j


# -- what is told of a sighting ----------------------------------------------------------------------------


def test_copies_are_counted_once(made: Made) -> None:
    made.add("DSC_0001.JPG", 0)
    made.add("DSC_0001_web.jpg", 0, folder="/archive/web")
    made.add("DSC_0002.JPG", 0.4)
    made.add("DSC_0003.JPG", 20)
    one = made.only()
    assert (one.frames, one.photos, one.bursts, one.events, one.cameras) == (3, 4, 1, 1, 1)
    assert (one.started_at, one.ended_at) == ("2024-05-04T06:00:00.001000", "2024-05-04T06:00:20.001000")
    assert one.to_dict()["number"] == "s1"


def test_sightings_are_numbered_by_time_and_those_without_come_last(made: Made) -> None:
    made.add("z", None, axis(3), serial="9")
    made.add("b", 9000, axis(1))
    made.add("a", 0)
    found = made.find()
    names = {photo_id: name for name, photo_id in made.ids.items()}
    assert [names[one.photo_id] for one in found.listed] == ["a", "b", "z"]
    assert [one.number for one in found.listed] == [1, 2, 3]
    assert found.listed[2].started_at is None


def test_one_photo_and_none(made: Made) -> None:
    found = made.find()
    assert found.listed == ()
    assert counts_of(found) == {"photos": 0, "frames": 0, "bursts": 0, "events": 0, "sightings": 0}
    assert store_sightings(made.store, found, {}) > 0
    made.add("a", 0)
    assert made.only().frames == 1


def test_places_of_sensitive_species_are_coarse_unless_asked_for(made: Made) -> None:
    sensitive = next(taxon.common_name for taxon in Taxonomy.load() if taxon.sensitive)
    made.add("a", 0, latitude=60.1234567, longitude=-10.07)
    made.add("b", 9000, axis(1), latitude=60.1234567, longitude=10.0)
    made.verify(a=sensitive, b="crow")
    hidden, told = made.find().listed
    assert (hidden.latitude, hidden.longitude, hidden.is_coarse) == (60.1, -10.1, True)
    assert (told.latitude, told.longitude, told.is_coarse) == (60.123457, 10.0, False)
    exact = made.find(exact_places=True).listed[0]
    assert (exact.latitude, exact.is_coarse) == (60.123457, False)


def test_a_deployment_lends_its_position(made: Made) -> None:
    store_deployments(
        made.store, [Deployment("d", "Fen", b"/archive/a", latitude=1.5, longitude=2.5)], "test"
    )
    made.add("a", 0)
    assert (made.only().latitude, made.only().longitude) == (1.5, 2.5)


def test_the_representative_is_best_on_balance() -> None:
    sightings = np.array([0, 0, 0, 3, 3])
    rows = np.arange(5)
    sharp = np.array([1.0, 2.0, 3.0, 5.0, 5.0])
    size = np.array([0.1, 0.9, 0.5, np.nan, np.nan])
    sure = np.array([0.2, 0.9, 0.3, np.nan, 0.5])
    assert representatives(sightings, rows, (sharp,)) == {0: 2, 3: 3}
    assert representatives(sightings, rows, (sharp, size, sure)) == {0: 1, 3: 4}
    assert representatives(sightings, rows[::-1].copy(), (sharp, size, sure)) == {0: 1, 3: 4}
    nothing = np.full(5, np.nan)
    assert representatives(sightings, rows, (nothing,)) == {0: 0, 3: 3}


def estimator(made: Made) -> LabelEstimator:
    return LabelEstimator.open(made.store, made.record, Calibration())


def confident(made: Made) -> None:
    """The three classes of the model are the first three axes."""
    with made.store.writing() as connection:
        connection.execute(
            sa.update(schema.model).values(
                head_weight=np.eye(3, DIM, dtype="<f4").tobytes(), head_bias=np.zeros(3, "<f4").tobytes()
            )
        )


def test_identical_frames_are_as_sure_as_one(make_catalog: Callable[..., Any]) -> None:
    sure = []
    for count in (1, 6):
        made = Made(make_catalog(DIM, f"catalog{count}"))
        confident(made)
        for number in range(count):
            made.add(f"p{number}", number * 5, 2.0 * axis(0, 0) + axis(1))
        one = made.only(estimator=estimator(made), confidence=0.0)
        assert (one.name, one.rank, one.frames) == ("crow", "species", count)
        sure.append((one.probability or 0.0, one.unknown or 0.0))
    np.testing.assert_allclose(sure[0], sure[1], rtol=1e-6)


def test_frames_that_differ_are_surer_together(made: Made) -> None:
    confident(made)
    made.add("a", 0, 2.0 * axis(0) + 3.0 * axis(4))
    alone = made.only(estimator=estimator(made), confidence=0.0)
    for number, other in enumerate((5, 6, 7)):
        made.add(f"b{number}", 5.0 * number + 5, 2.0 * axis(0) + 3.0 * axis(other))
    together = made.only(estimator=estimator(made), confidence=0.0, rules=SightingRules(two_looks=-1.0))
    assert together.name == alone.name == "crow"
    assert (together.probability or 0) > (alone.probability or 0) + 0.05


def test_a_verified_frame_does_not_vote_for_its_own_event(made: Made) -> None:
    confident(made)
    # The event goes on for longer than what votes are kept apart by on their own.
    for number in range(76):
        made.add(f"p{number:02d}", 50.0 * number, axis(0), sharpness=float(number))
    made.verify(p00="moss owl", p01="moss owl")
    found = made.find(estimator=estimator(made), confidence=0.0)
    assert [(one.name, one.verified, one.frames) for one in found.listed] == [("moss owl", True, 76)]
    labels, _ = fused_labels(
        made.store,
        estimator(made),
        found.frames,
        found.grouping.events,
        found.sightings,
        found.grouping.bursts,
        np.flatnonzero(found.frames.photo_ids == made.ids["p75"]),
        0.0,
    )
    assert [one.name for one in labels.values()] == ["crow"]


def test_confidence_outside_its_limits_is_refused(made: Made) -> None:
    with pytest.raises(InvalidInputError, match="confidence is 2"):
        made.find(confidence=2)


@pytest.mark.parametrize(
    "values",
    [{"gap_s": -1}, {"same_look": 2}, {"two_looks": 0.9}, {"least_probability": 2}, {"near_km": 0}],
)
def test_rules_outside_their_limits_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        SightingRules(**values)


# -- stored ------------------------------------------------------------------------------------------------


def test_what_was_found_is_stored_by_the_smallest_photo_ids(made: Made) -> None:
    made.deploy(a="Fen")
    for name, seconds in (("c", 40), ("b", 0.5), ("a", 0), ("d", 900), ("e", 90_000)):
        made.add(name, seconds)
    found = made.find()
    run_id = store_sightings(made.store, found, {"event_gap_s": 60.0})
    with made.store.reading() as connection:
        rows = {row.photo_id: row for row in connection.execute(sa.select(schema.event))}
        run = connection.execute(sa.select(schema.run).where(schema.run.c.id == run_id)).one()
    ids = made.ids
    assert {
        name: (rows[ids[name]].burst, rows[ids[name]].event, rows[ids[name]].sighting) for name in ids
    } == {
        "a": (ids["b"], ids["c"], ids["c"]),
        "b": (ids["b"], ids["c"], ids["c"]),
        "c": (ids["c"], ids["c"], ids["c"]),
        "d": (ids["d"], ids["d"], ids["c"]),
        "e": (ids["e"], ids["e"], ids["e"]),
    }
    assert all(row.deployment_id for row in rows.values())
    assert (run.command, run.outcome) == ("sightings", "done")
    assert '"sightings": 2' in run.counts
    known = known_events(made.store, made.record)
    assert known.run_id == run_id
    assert known.frames.photo_ids.tolist() == found.frames.photo_ids.tolist()
    assert known.numbers.tolist() == found.numbers.tolist()
    assert known.events.tolist() == found.grouping.events.tolist()
    assert known.sightings.tolist() == found.sightings.tolist()
    # What the run did not see is alone and has no number; the others keep theirs.
    made.add("first", -90_000)
    known = known_events(made.store, made.record)
    at = known.frames.photo_ids == ids["first"]
    assert known.numbers[at].tolist() == [0]
    assert known.numbers[known.frames.photo_ids == ids["a"]].tolist() == [1]


def test_events_and_bursts_are_listed_too(made: Made) -> None:
    for name, seconds in (("a", 0), ("b", 0.5), ("c", 40), ("d", 900)):
        made.add(name, seconds, sharpness=seconds)
    found = made.find()
    (burst,) = list_groups(found, "bursts")
    assert (burst.frames, burst.photo_id, burst.sightings) == (2, made.ids["b"], (1,))
    events = list_groups(found, "events")
    assert [(one.frames, one.photo_id) for one in events] == [(3, made.ids["c"]), (1, made.ids["d"])]
    assert events[0].to_dict()["sightings"] == ["s1"]
    assert events[0].camera == "Norvik D50"


def test_sightings_do_not_depend_on_the_order_in_which_photos_were_indexed(
    make_catalog: Callable[..., Any],
) -> None:
    seed = 4
    print("seed", seed)
    rng = np.random.default_rng(seed)
    seconds = np.cumsum(rng.choice([0.3, 5.0, 200.0, 1000.0], 40))
    facts: list[tuple[str, float | None, np.ndarray, dict[str, Any]]] = [
        (
            f"p{number:02d}",
            None if rng.random() < 0.1 else float(seconds[number]),
            axis(int(rng.integers(3))) + rng.normal(0, 0.2, DIM).astype(np.float32),
            {
                "serial": str(rng.integers(3)),
                "latitude": 60 + float(rng.integers(3)) / 2000,
                "longitude": 10.0,
                "sharpness": float(rng.integers(4)),
            },
        )
        for number in range(40)
    ]
    seen = []
    for turn in range(2):
        made = Made(make_catalog(DIM, f"catalog{turn}"))
        confident(made)
        for place in range(40) if turn == 0 else rng.permutation(40):
            name, taken, vector, more = facts[int(place)]
            made.add(name, taken, vector, **more)
        made.verify(p03="wren", p20="moss owl", p31="crow")
        names = {photo_id: name for name, photo_id in made.ids.items()}
        found = made.find(estimator=estimator(made))
        told = []
        for one in found.listed:
            shown = one.to_dict() | {"photo_id": names[one.photo_id]}
            shown.pop("why")
            told.append(shown)
        seen.append((made.members(found), told))
        assert 5 < len(told) < 35
    assert seen[0][0] == seen[1][0]
    for first, second in zip(seen[0][1], seen[1][1], strict=True):
        for key in ("probability", "unknown"):
            assert first.pop(key) == pytest.approx(second.pop(key))
        assert first == second
