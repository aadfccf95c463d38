"""Verified labels over HTTP: recorded once, taken back, and never lost."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import sqlalchemy as sa

from birdsearch.indexer.catalog import schema, store
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import labels_in_force

if TYPE_CHECKING:
    from tests.search.service.conftest import MakeServer, RunningServer


@pytest.fixture
def own(make_server: MakeServer) -> RunningServer:
    return make_server(who="Ada")


def post(server: RunningServer, *items: dict[str, Any], **more: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/api/annotations", json={"items": list(items), **more})


def unlabelled(server: RunningServer) -> list[int]:
    """Photos without a label, by id."""
    store = server.service.store
    with store.reading() as connection:
        ids = set(connection.execute(sa.select(schema.photo.c.id)).scalars())
    return sorted(ids - {label.photo_id for label in labels_in_force(store, None)})


def in_force(server: RunningServer, photo_id: int) -> list[tuple[str, str, str]]:
    return [
        (label.name, label.verdict, label.who)
        for label in labels_in_force(server.service.store, None)
        if label.photo_id == photo_id
    ]


def test_marks_in_a_name_make_its_verdict(own: RunningServer) -> None:
    first, second, third = unlabelled(own)[:3]
    answer = post(
        own,
        {"photo_id": first, "taxon": "Mallard (?)"},
        {"photo_id": second, "taxon": "≠ Mallard"},
        {"photo_id": third, "taxon": "cf. Mallard", "verdict": "uncertain"},
    )
    assert answer.status_code == 201
    verdicts = [in_force(own, photo_id)[0][:2] for photo_id in (first, second, third)]
    assert verdicts == [("Mallard", "uncertain"), ("Mallard", "negative"), ("Mallard", "uncertain")]
    for item in (
        {"taxon": "Mallard?", "verdict": "negative"},
        {"taxon": "Mallard/Gadwall"},
        {"taxon": "Mallard x Gadwall"},
        {"taxon": "Mallard sp."},
        {"taxon": "-Mallard"},
    ):
        refused = post(own, {"photo_id": first, **item}, new_taxa=True)
        assert refused.status_code == 422
        assert item["taxon"] in refused.json()["detail"]
    assert in_force(own, first)[0][:2] == ("Mallard", "uncertain")


def test_a_label_is_recorded_once_and_a_repeat_changes_nothing(own: RunningServer) -> None:
    photo_id = unlabelled(own)[0]
    item = {"photo_id": photo_id, "taxon": "upupa EPOPS"}
    first = post(own, item)
    assert first.status_code == 201
    assert first.json() | {"run_id": 0} == {
        "run_id": 0,
        "recorded": 1,
        "replaced": 0,
        "unchanged": 0,
        "new_taxa": [],
    }
    assert in_force(own, photo_id) == [("Eurasian hoopoe", "positive", "Ada")]
    again = post(own, item)
    assert again.status_code == 200
    assert again.json() == {"run_id": None, "recorded": 0, "replaced": 0, "unchanged": 1, "new_taxa": []}


def test_a_label_that_is_taken_back_brings_the_one_before_back(own: RunningServer) -> None:
    photo_id = unlabelled(own)[0]
    post(own, {"photo_id": photo_id, "taxon": "Eurasian hoopoe"}, who="Bo")
    second = post(own, {"photo_id": photo_id, "taxon": "Common kingfisher"}).json()
    assert second["replaced"] == 1
    assert in_force(own, photo_id) == [("Common kingfisher", "positive", "Ada")]
    address = f"{own.url}/api/annotations/{second['run_id']}"
    undone = httpx.delete(address)
    assert undone.status_code == 200
    assert undone.json() | {"run_id": 0} == {"run_id": 0, "undone": 1, "restored": 1}
    assert in_force(own, photo_id) == [("Eurasian hoopoe", "positive", "Bo")]
    assert httpx.delete(address).status_code == 409
    assert httpx.delete(f"{own.url}/api/annotations/999999").status_code == 404
    told = httpx.get(f"{own.url}/api/annotations", params={"photo_id": photo_id}).json()["history"]
    assert [(entry["taxon"], entry["in_force"], entry["undone_by"] is None) for entry in told] == [
        ("Eurasian hoopoe", True, True),
        ("Common kingfisher", False, False),
    ]
    assert told[1]["replaces"] == told[0]["annotation_id"]


def test_a_name_that_is_not_known_is_refused_with_those_near_it_and_nothing_is_written(
    own: RunningServer,
) -> None:
    first, second = unlabelled(own)[:2]
    answer = post(
        own,
        {"photo_id": first, "taxon": "Eurasian hoopoe"},
        {"photo_id": second, "taxon": "Eurasian hoopo"},
    )
    assert answer.status_code == 422
    problem = answer.json()
    assert "did you mean Eurasian hoopoe" in problem["detail"]
    assert [fault["where"] for fault in problem["errors"]] == ["body.items.1.taxon"]
    assert in_force(own, first) == []
    answer = post(own, {"photo_id": second, "taxon": "Eurasian hoopo"}, new_taxa=True)
    assert answer.status_code == 201
    assert answer.json()["new_taxa"] == ["Eurasian hoopo"]


def test_views_and_verdicts_are_recorded_as_given(own: RunningServer) -> None:
    photo_id = unlabelled(own)[0]
    view_id = own.service.store.whole_views([photo_id])[photo_id]
    answer = post(
        own,
        {"view_id": view_id, "taxon": "Eurasian hoopoe", "verdict": "negative"},
        {"view_id": view_id, "taxon": "Common kingfisher", "verdict": "uncertain"},
    )
    assert answer.json()["recorded"] == 2
    assert sorted(in_force(own, photo_id)) == [
        ("Common kingfisher", "uncertain", "Ada"),
        ("Eurasian hoopoe", "negative", "Ada"),
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"items": [{"photo_id": 10**9, "taxon": "Eurasian hoopoe"}]}, 404),
        ({"items": [{"view_id": 10**9, "taxon": "Eurasian hoopoe"}]}, 404),
        ({"items": [{"photo_id": 2**70, "taxon": "Eurasian hoopoe"}]}, 422),
        ({"items": [{"photo_id": 1, "view_id": 1, "taxon": "Eurasian hoopoe"}]}, 422),
        ({"items": [{"taxon": "Eurasian hoopoe"}]}, 422),
        ({"items": [{"photo_id": 1, "taxon": "Eurasian hoopoe", "verdict": "maybe"}]}, 422),
        ({"items": [{"photo_id": 1, "taxon": "Eurasian hoopoe"}], "who": "a\nb"}, 422),
        ({"items": [{"photo_id": 1, "taxon": "Eurasian hoopoe"}], "whom": "a"}, 422),
        ({"items": []}, 422),
    ],
)
def test_what_cannot_be_recorded_is_refused(own: RunningServer, body: dict[str, Any], status: int) -> None:
    before = len(labels_in_force(own.service.store, None))
    answer = httpx.post(f"{own.url}/api/annotations", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["status"] == status
    assert len(labels_in_force(own.service.store, None)) == before


def test_a_label_is_recorded_while_another_process_does_long_work(own: RunningServer) -> None:
    item = {"photo_id": unlabelled(own)[0], "taxon": "Eurasian hoopoe"}
    program = (
        "import sys; from birdsearch.indexer.catalog.store import CatalogStore\n"
        "with CatalogStore.open(sys.argv[1], 'write', purpose='dedup --apply'): print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(own.options.catalog)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        answer = post(own, item)
        assert answer.status_code == 201
        assert "Eurasian hoopoe" in [label.name for label in labels_in_force(own.service.store, None)]
        run_id = answer.json()["run_id"]
        assert httpx.delete(f"{own.url}/api/annotations/{run_id}").status_code == 200
        # Long work of the service itself is to be asked for later.
        job = httpx.post(f"{own.url}/api/jobs", json={"kind": "label"}).json()
        while job["state"] in ("queued", "running"):
            job = httpx.get(f"{own.url}/api/jobs/{job['id']}").json()
        assert job["error"]["status"] == 409
        assert "(dedup --apply) is writing" in job["error"]["detail"]
        holder.communicate("\n")


def test_while_another_edit_takes_too_long_a_label_is_to_be_given_later(
    own: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = {"photo_id": unlabelled(own)[0], "taxon": "Eurasian hoopoe"}
    monkeypatch.setattr(store, "_EDIT_WAIT_S", 0.1)
    with CatalogStore.open(own.options.catalog, "edit", purpose="a test"):
        answer = post(own, item)
    assert (answer.status_code, answer.headers["retry-after"]) == (409, "5")
    assert "(a test) is writing" in answer.json()["detail"]
    assert post(own, item).status_code == 201


def test_labels_that_come_at_the_same_time_are_all_recorded(own: RunningServer) -> None:
    photo_ids = unlabelled(own)[:8]
    statuses: list[int] = []

    def label(photo_id: int) -> None:
        statuses.append(post(own, {"photo_id": photo_id, "taxon": "Eurasian hoopoe"}).status_code)

    threads = [threading.Thread(target=label, args=(photo_id,)) for photo_id in photo_ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [201] * len(photo_ids)
    assert all(in_force(own, photo_id) for photo_id in photo_ids)


def test_a_server_that_only_reads_records_nothing(server: RunningServer) -> None:
    assert post(server, {"photo_id": 1, "taxon": "Eurasian hoopoe"}).status_code == 403
    assert httpx.delete(f"{server.url}/api/annotations/1").status_code == 403
    assert httpx.get(f"{server.url}/api/annotations", params={"photo_id": 10**9}).status_code == 404
    assert httpx.get(f"{server.url}/api/annotations").status_code == 422


def test_a_class_of_the_network_that_no_taxonomy_has_can_be_confirmed(own: RunningServer) -> None:
    record = own.service.store.active_model()
    assert record is not None
    taxonomy = own.service.catalog.label_estimator().taxonomy
    name = next(name for name in record.classes if taxonomy.find(name) is None)
    answer = post(own, {"photo_id": unlabelled(own)[0], "taxon": name.upper()})
    assert answer.status_code == 201, answer.text
    assert answer.json()["new_taxa"] == [name]
