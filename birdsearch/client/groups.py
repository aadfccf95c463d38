"""Calls about copies, sightings and clusters, and the jobs that find them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from birdsearch.client.calls import Calls, decode
from birdsearch.client.problems import error_of
from birdsearch.client.requests import Body
from birdsearch.search.clusters.records import Cluster, ClusterMember, ClusterRun
from birdsearch.search.dedup.records import DuplicateGroup, Duplicates
from birdsearch.search.job import Job
from birdsearch.search.sightings.records import Sighting

__all__ = ["GroupCalls"]

_PAGE = 200
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0


class GroupCalls(Calls):
    """Copies, sightings, clusters and jobs of a service's catalog."""

    # -- copies ------------------------------------------------------------------------------------------

    def duplicates(self) -> Duplicates:
        """Return the copies that were found last, all groups of them."""
        first = self._json("GET", "/api/duplicates", query={"limit": _PAGE})
        groups, cursor = list(first["groups"]), first["next"]
        while cursor is not None:
            page = self._json("GET", "/api/duplicates", query={"limit": _PAGE, "cursor": cursor})
            groups += page["groups"]
            cursor = page["next"]
        return decode(Duplicates, {**first, "groups": groups, "next": None})

    def find_duplicates(
        self, *, rotations: bool = False, min_similarity: float = 0.0, keep: str | None = None
    ) -> Job:
        """Start looking for copies, with options as `birdsearch dedup` has them; `wait` for the job."""
        options = {"rotations": rotations, "min_similarity": min_similarity, "keep": keep}
        return self._job("POST", "/api/duplicates", Body.json(options))

    def mark_distinct(self, photo_ids: Iterable[int], *, distinct: bool = True) -> int:
        """Say that no two of some photos are copies of each other, or with `distinct=False` take that back.

        Returns:
            Of how many pairs something else is known now.
        """
        body = Body.json({"photo_ids": list(photo_ids)})
        method = "POST" if distinct else "DELETE"
        return int(self._json(method, "/api/duplicates/distinct", body=body)["pairs"])

    def keep(self, group: int, photo_id: int) -> DuplicateGroup:
        """Choose which photo of a group of copies is kept; nothing is moved."""
        body = Body.json({"group": group, "photo_id": photo_id})
        return decode(DuplicateGroup, self._json("POST", "/api/duplicates/keep", body=body))

    def move_duplicates(self, groups: Iterable[int]) -> Job:
        """Start moving the copies of some groups to quarantine, where the service allows it."""
        return self._job("POST", "/api/duplicates/apply", Body.json({"groups": list(groups)}))

    def undo_duplicates(self) -> Job:
        """Start putting back what was moved to quarantine last."""
        return self._job("POST", "/api/duplicates/undo")

    # -- sightings ---------------------------------------------------------------------------------------

    def sightings(
        self, taxon: str | None = None, since: str | None = None, until: str | None = None
    ) -> Iterator[Sighting]:
        """Yield the sightings that were found last, fetched page by page as they are taken.

        Args:
            taxon: Only those of this species, genus, family or order.
            since: Only those that end at this local time or later.
            until: Only those that begin at this local time or earlier.

        Yields:
            Sightings.
        """
        query = {"taxon": taxon, "since": since, "until": until, "limit": _PAGE}
        return self._pages("/api/sightings", query, "sightings", Sighting)

    def sighting(self, number: int) -> Sighting:
        """Return a sighting with all its photos.

        Raises:
            InvalidInputError: There is none of this number.
        """
        return decode(Sighting, self._json("GET", f"/api/sightings/{int(number)}"))

    def find_sightings(self, **options: Any) -> Job:
        """Start finding sightings, with the gaps of `birdsearch sightings` as `burst_gap_s` and so on."""
        return self._job("POST", "/api/sightings", Body.json(options))

    # -- clusters ----------------------------------------------------------------------------------------

    def clusters(self) -> list[ClusterRun]:
        """Return every clustering of the catalog, newest first."""
        return [decode(ClusterRun, each) for each in self._json("GET", "/api/clusters")["runs"]]

    def find_clusters(self, **options: Any) -> Job:
        """Start clustering, with the options of `birdsearch cluster`; `wait` for the job."""
        return self._job("POST", "/api/clusters", Body.json(options))

    def cluster_run(self, run: int) -> list[Cluster]:
        """Return the clusters of a clustering."""
        answer = self._json("GET", f"/api/clusters/{int(run)}")
        return [decode(Cluster, each) for each in answer["clusters"]]

    def cluster_members(self, run: int, cluster: int) -> Iterator[ClusterMember]:
        """Yield the photos of a cluster, fetched page by page as they are taken."""
        path = f"/api/clusters/{int(run)}/{int(cluster)}"
        return self._pages(path, {"limit": _PAGE}, "photos", ClusterMember)

    def edit_clusters(
        self, run: int, op: Literal["name", "merge", "split", "move", "label", "undo"], **values: Any
    ) -> int:
        """Name, merge, split or label clusters, or take the last edit back.

        Args:
            run: The clustering.
            op: What to do.
            **values: `cluster` and `name`; `clusters` to merge; `cluster` and `into`; `cluster` and `photo_ids` to
                split off; `cluster`, `taxon` and `except`.

        Returns:
            The clustering that is current now.
        """
        body = Body.json({"op": op, **values})
        return int(self._json("POST", f"/api/clusters/{int(run)}/edits", body=body)["run"])

    # -- jobs --------------------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """Return the jobs that run and those that ended lately."""
        return [decode(Job, each) for each in self._json("GET", "/api/jobs")["jobs"]]

    def start(self, kind: Literal["index", "label"], **options: Any) -> Job:
        """Start looking for new photos in the known folders, or labelling all photos; `wait` for the job."""
        return self._job("POST", "/api/jobs", Body.json({"kind": kind, **options}))

    def job(self, job_id: int) -> Job:
        """Return how a job goes."""
        return self._job("GET", f"/api/jobs/{job_id}")

    def cancel(self, job: Job) -> None:
        """Ask a job to stop."""
        self._answer("DELETE", f"/api/jobs/{job.id}")

    def wait(
        self, job: Job, timeout: float | None = None, progress: Callable[[Job], None] | None = None
    ) -> Job:
        """Wait until a job is finished.

        Args:
            job: The job.
            timeout: Seconds to wait at most.
            progress: Called with the job as it is now, again and again.

        Returns:
            The job as it ended: `done` or `cancelled`.

        Raises:
            BirdsearchError: It failed; the error is what it failed with.
            TimeoutError: It took longer than `timeout`; it goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        wait = _FIRST_WAIT_S
        while not job.is_finished:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {job.id} ({job.kind}) took more than {timeout:g} s; it goes on")
            time.sleep(wait)
            wait = min(wait * 1.5, _LONGEST_WAIT_S)
            job = self.job(job.id)
            if progress is not None:
                progress(job)
        if job.state == "failed":
            raise error_of({} if job.error is None else job.error.to_dict(), f"{job.kind} failed")
        return job

    def _job(self, method: str, path: str, body: Body | None = None) -> Job:
        return decode(Job, self._json(method, path, body=body))
