"""Long work: one at a time, followed, stopped, and never in the way of the service's end."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from birdsearch.errors import CatalogLockedError
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import labels_in_force
from birdsearch.search.job import Job
from birdsearch.search.service.jobs import Jobs, Task

if TYPE_CHECKING:
    from pathlib import Path

    from tests.search.service.conftest import MakeServer, RunningServer

_DEADLINE_S = 60.0


def until(check: Callable[[], Any]) -> Any:
    """Wait for something to become true, and give it."""
    end = time.monotonic() + _DEADLINE_S
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def finished(server: RunningServer, job: dict[str, Any]) -> dict[str, Any]:
    """A job, once it has ended."""

    def ended() -> dict[str, Any] | None:
        now: dict[str, Any] = httpx.get(f"{server.url}/api/jobs/{job['id']}").json()
        return now if now["state"] in ("done", "failed", "cancelled") else None

    found: dict[str, Any] = until(ended)
    return found


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    made = Jobs(dict)
    yield made
    made.close()


# -- the queue -----------------------------------------------------------------------------------------------


def test_jobs_run_one_after_the_other_in_the_order_in_which_they_were_asked_for(jobs: Jobs) -> None:
    running: list[int] = []
    most: list[int] = []

    def work(number: int) -> Callable[[Task], dict[str, int]]:
        def do(task: Task) -> dict[str, int]:
            running.append(number)
            most.append(len(running))
            task.progress("counting", 1, 2)
            running.remove(number)
            return {"number": number}

        return do

    started = [jobs.start("label", work(number)) for number in range(5)]
    until(lambda: all(job.is_finished for job in jobs.list()))
    assert most == [1] * 5
    assert [(job.id, job.result) for job in reversed(jobs.list())] == [
        (job.id, {"number": number}) for number, job in enumerate(started)
    ]


def test_the_same_work_is_not_queued_twice(jobs: Jobs) -> None:
    release = threading.Event()

    def wait(_task: Task) -> dict[str, Any]:
        release.wait(_DEADLINE_S)
        return {}

    first = jobs.start("index", wait, "index")
    assert jobs.start("index", wait, "index").id == first.id
    assert jobs.start("label", wait, "label").id != first.id
    release.set()
    until(lambda: all(job.is_finished for job in jobs.list()))
    assert jobs.start("index", wait, "index").id not in (first.id, first.id + 1)


def test_more_jobs_than_may_wait_are_refused(jobs: Jobs) -> None:
    from starlette.exceptions import HTTPException

    release = threading.Event()

    def wait(_task: Task) -> dict[str, Any]:
        release.wait(_DEADLINE_S)
        return {}

    while len(jobs.list()) < 21:
        jobs.start("label", wait)
    with pytest.raises(HTTPException, match="jobs wait already") as caught:
        jobs.start("label", wait)
    release.set()
    assert caught.value.status_code == 503


def test_old_jobs_are_forgotten_and_running_ones_are_not(jobs: Jobs) -> None:
    for _ in range(120):
        until(lambda: sum(not job.is_finished for job in jobs.list()) < 10)
        jobs.start("label", lambda _task: {})
    until(lambda: all(job.is_finished for job in jobs.list()))
    last = jobs.start("label", lambda _task: {})
    assert len(jobs.list()) == 101
    assert jobs.list()[0].id == last.id == 121
    assert jobs.get(1) is None


def test_a_job_ends_at_its_next_step_once_it_is_cancelled(jobs: Jobs) -> None:
    steps: list[int] = []
    begun = threading.Event()

    def endless(task: Task) -> dict[str, Any]:
        for step in range(10**9):
            steps.append(step)
            begun.set()
            task.progress("counting", step)
        return {}

    running, waiting = jobs.start("label", endless), jobs.start("label", endless)
    assert begun.wait(_DEADLINE_S)
    cancelled = jobs.cancel(waiting.id)
    assert cancelled is not None
    assert (cancelled.state, cancelled.started_at) == ("cancelled", None)
    jobs.cancel(running.id)
    until(lambda: all(job.is_finished for job in jobs.list()))
    found = jobs.get(running.id)
    assert found is not None
    assert (found.state, found.result, found.error) == ("cancelled", None, None)
    assert jobs.cancel(10**6) is None


def test_an_error_that_nobody_foresaw_tells_nothing_of_its_inside(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_task: Task) -> dict[str, Any]:
        raise RuntimeError("/home/secret/place")

    job = jobs.start("label", fail)
    found: Job = until(lambda: (now := jobs.get(job.id)) and now.is_finished and now)
    assert found.state == "failed"
    assert found.error is not None
    assert (found.error.status, found.error.detail) == (500, "internal error")
    assert "/home/secret/place" in caplog.text


def test_an_error_of_birdsearch_is_told_as_the_api_tells_it(jobs: Jobs) -> None:
    def fail(_task: Task) -> dict[str, Any]:
        raise CatalogLockedError("process 12 is writing to this catalog")

    job = jobs.start("label", fail)
    found: Job = until(lambda: (now := jobs.get(job.id)) and now.is_finished and now)
    assert found.error is not None
    assert (found.error.status, found.error.title) == (409, "Conflict")


def test_who_follows_is_told_at_once_and_hears_that_nothing_happens(jobs: Jobs) -> None:
    step = threading.Event()

    def work(task: Task) -> dict[str, Any]:
        step.wait(_DEADLINE_S)
        task.progress("half", 1, 2)
        return {"all": True}

    async def follow() -> list[Job | None]:
        job = jobs.start("label", work)
        heard: list[Job | None] = []
        async for now in jobs.follow(job.id, heartbeat_s=0.05):
            heard.append(now)
            if now is None:
                step.set()
        return heard

    heard = asyncio.run(follow())
    assert None in heard
    states = [now.state for now in heard if now is not None]
    assert states[-1] == "done"
    assert states == sorted(states, key=["queued", "running", "done"].index)
    assert heard[-1] is not None
    assert heard[-1].result == {"all": True}


# -- over HTTP -----------------------------------------------------------------------------------------------


def _events(server: RunningServer, job_id: int) -> list[dict[str, Any]]:
    """All events of a job until the stream ends."""
    url = f"{server.url}/api/jobs/{job_id}/events"
    with httpx.stream("GET", url, timeout=_DEADLINE_S) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = list(answer.iter_lines())
    assert [line for line in lines if line.startswith("event:")] == ["event: progress"] * lines.count(
        "event: progress"
    )
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def test_labelling_everything_is_a_job_that_can_be_followed_to_its_end(make_server: MakeServer) -> None:
    server = make_server()
    answer = httpx.post(f"{server.url}/api/jobs", json={"kind": "label"})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/api/jobs/{job['id']}"
    events = _events(server, job["id"])
    assert events[-1]["state"] == "done"
    assert events[-1]["result"]["photos"] == server.service.store.counts().photos
    assert httpx.get(f"{server.url}/api/jobs").json()["jobs"] == [events[-1]]


def test_a_browser_that_connects_again_after_the_last_event_is_told_that_there_is_no_more(
    make_server: MakeServer,
) -> None:
    server = make_server()
    job = httpx.post(f"{server.url}/api/jobs", json={"kind": "label"}).json()
    finished(server, job)
    url = f"{server.url}/api/jobs/{job['id']}/events"
    assert httpx.get(url, headers={"Last-Event-ID": "end"}).status_code == 204
    assert [event["state"] for event in _events(server, job["id"])] == ["done"]


def test_indexing_again_finds_what_changed(make_server: MakeServer, own_catalog: Path) -> None:
    server = make_server(catalog=own_catalog)
    photos = server.service.store.counts().photos
    job = finished(server, httpx.post(f"{server.url}/api/jobs", json={"kind": "index"}).json())
    assert job["state"] == "done", job
    assert (job["result"]["new"], job["result"]["embedded"]) == (0, 0)
    assert job["result"]["unchanged"] >= photos


def test_a_label_can_be_given_while_a_job_writes(make_server: MakeServer) -> None:
    server = make_server()
    begun, release = threading.Event(), threading.Event()

    def hold(_task: Task) -> dict[str, Any]:
        with server.service.writing_beside("hold"):
            begun.set()
            release.wait(_DEADLINE_S)
        return {}

    job = server.service.jobs.start("label", hold)
    assert begun.wait(_DEADLINE_S)
    with server.service.writing("label") as store:
        assert labels_in_force(store)
        assert store.writable
    with pytest.raises(CatalogLockedError, match="birdsearch serve: hold"):
        CatalogStore.open(server.options.catalog, "write")
    release.set()
    until(lambda: (now := server.service.jobs.get(job.id)) and now.is_finished)
    CatalogStore.open(server.options.catalog, "write").close()


def test_a_job_while_another_process_writes_fails_and_says_who_does(make_server: MakeServer) -> None:
    server = make_server()
    with CatalogStore.open(server.options.catalog, "write", purpose="a test"):
        job = finished(server, httpx.post(f"{server.url}/api/jobs", json={"kind": "label"}).json())
    assert job["state"] == "failed"
    assert job["error"]["status"] == 409
    assert "(a test) is writing" in job["error"]["detail"]
    assert str(server.options.catalog) not in job["error"]["detail"]


def test_unknown_jobs_and_wrong_requests_are_refused(server: RunningServer) -> None:
    assert httpx.get(f"{server.url}/api/jobs/999").status_code == 404
    assert httpx.get(f"{server.url}/api/jobs/999/events").status_code == 404
    assert httpx.delete(f"{server.url}/api/jobs/999").status_code == 404
    assert httpx.get(f"{server.url}/api/jobs/{10**30}").status_code == 422
    assert httpx.post(f"{server.url}/api/jobs", json={"kind": "dance"}).status_code == 422
    assert httpx.post(f"{server.url}/api/jobs", json={"kind": "label", "x": 1}).status_code == 422
    refused = httpx.post(f"{server.url}/api/jobs", json={"kind": "label"})
    assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")


def test_neither_who_follows_nor_a_running_job_holds_up_the_end_of_the_service(
    make_server: MakeServer,
) -> None:
    from tests.search.service.conftest import running

    ended = threading.Event()

    def endless(task: Task) -> dict[str, Any]:
        try:
            while True:
                task.progress("waiting")
                time.sleep(0.01)
        finally:
            ended.set()

    options = make_server().options
    with running(options) as server:
        job = server.service.jobs.start("label", endless)
        with httpx.stream("GET", f"{server.url}/api/jobs/{job.id}/events", timeout=_DEADLINE_S) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: progress"
            began = time.monotonic()
            stopping = threading.Thread(target=server.service.stop)
            stopping.start()
            rest = list(lines)
            stopping.join()
    assert time.monotonic() - began < 8
    assert ended.is_set()
    assert rest
    # It ended because the service did, not because all had been said.
    assert not any('"state":"done"' in line for line in rest)


def test_a_follower_that_goes_away_is_forgotten(make_server: MakeServer) -> None:
    server = make_server()
    jobs = server.service.jobs
    release = threading.Event()

    def wait(_task: Task) -> dict[str, Any]:
        release.wait(_DEADLINE_S)
        return {}

    job = jobs.start("label", wait)
    with httpx.stream("GET", f"{server.url}/api/jobs/{job.id}/events") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: progress"
        assert len(jobs._wakers) == 1
    until(lambda: not jobs._wakers)
    release.set()


# -- indexing new photos -------------------------------------------------------------------------------------


@pytest.fixture
def growing(archive: Path, tmp_path: Path, make_server: MakeServer) -> tuple[RunningServer, Path]:
    """A server of a catalog of one photo, and the folder of that photo, to which others can be added."""
    from birdsearch.data.synthetic.truth import read_truth
    from birdsearch.search.catalog import Catalog

    folder = tmp_path / "photos"
    folder.mkdir()
    first = next(row for row in read_truth(archive) if row.kind == "photo")
    shutil.copy2(archive / first.path, folder)
    with Catalog.open(tmp_path / "grown", "create") as catalog:
        catalog.index([folder], "demo")
    return make_server(catalog=tmp_path / "grown"), folder


def test_new_photos_are_found_and_searched_at_once(
    growing: tuple[RunningServer, Path], archive: Path
) -> None:
    server, folder = growing
    shutil.copytree(archive, folder / "more")
    job = finished(server, httpx.post(f"{server.url}/api/jobs", json={"kind": "index"}).json())
    assert job["state"] == "done", job
    assert job["result"]["embedded"] == job["result"]["new"] > 10
    # The one that was there is a copy now; corrupt files are told, not lost.
    assert job["result"]["copies"] >= 1
    assert sum(job["result"]["failures"].values()) == job["result"]["failed"] > 0
    hits = httpx.post(f"{server.url}/api/search", json={"photo_id": 1, "k": 1000}).json()["hits"]
    assert len(hits) == job["result"]["new"]


def test_an_index_run_that_is_cancelled_keeps_what_it_committed_and_the_next_one_goes_on(
    growing: tuple[RunningServer, Path], archive: Path
) -> None:
    server, folder = growing
    shutil.copytree(archive, folder / "more")
    url = f"{server.url}/api/jobs"
    job = httpx.post(url, json={"kind": "index"}).json()
    # The crawl is over, or the run already is.
    until(lambda: httpx.get(f"{url}/{job['id']}").json()["message"] == "reading photos")
    assert httpx.delete(f"{url}/{job['id']}").status_code == 202
    assert finished(server, job)["state"] in ("cancelled", "done")
    kept = server.service.store.counts().photos
    again = finished(server, httpx.post(url, json={"kind": "index"}).json())
    assert again["state"] == "done", again
    assert server.service.store.counts().photos == kept + again["result"]["new"]
    assert again["result"]["failed"] > 0
    CatalogStore.open(server.options.catalog, "write").close()
