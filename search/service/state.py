"""The state of a running service: the catalog, and what is shared between requests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Annotated

from fastapi import Depends, Request

from birdsearch.errors import CatalogError, CatalogReadOnlyError
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.catalog import Catalog
from birdsearch.search.query.location_privacy.coarsening import SensitivePhotos
from birdsearch.search.service.cluster_maps import ClusterMaps
from birdsearch.search.service.cluster_views import ClusterViews
from birdsearch.search.service.copies import FoundCopies
from birdsearch.search.service.embedding import Embedder
from birdsearch.search.service.jobs import Jobs
from birdsearch.search.service.metrics import Metrics
from birdsearch.search.service.options import ServeOptions
from birdsearch.search.service.paths import ShownPaths
from birdsearch.search.service.problems import without_paths
from birdsearch.search.service.review_pool import ReviewPool
from birdsearch.search.service.sighting_views import SightingViews
from birdsearch.search.service.thumbs import ThumbCache, thumbs_folder
from birdsearch.search.service.turns import Turns
from birdsearch.search.service.writing import CatalogWriters
from birdsearch.settings import Settings

__all__ = ["Service", "ServiceDep", "service_of"]

# Seconds that the first look at all photos gets to end when the service does.
_LAST_S = 5.0


# Fewer than there are threads, so that other requests have some.
_THUMBS_AT_ONCE = 6


class Service:
    """A catalog that is being served. Several threads may use it at once.

    Args:
        options: What it was started with.

    Attributes:
        options: What it was started with.
        catalog: The catalog, opened for reading.
        metrics: What is counted.
        sensitive: Photos whose place is not shown exactly.
        paths: How paths are shown.
        thumbs: Photos made small.
        thumb_turns: Held by the requests for them that are being answered; the others wait in order.
        jobs: Long work.
        copies: What the last search for copies found.
        clusters: Clusters as they are shown.
        maps: Maps of clusters.
        sightings: Sightings as they are shown.
        review: What may be verified next.
        embedder: Embeds photos that come with requests.
        stopping: Set when the service is asked to stop; what streams or waits ends then.

    Raises:
        CatalogError: There is no catalog, or it cannot be used.
    """

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self.stopping = threading.Event()
        with contextlib.ExitStack() as closing:
            self.catalog = closing.enter_context(Catalog.open(options.catalog, "read"))
            self._writers = CatalogWriters(self.store)
            self.metrics = Metrics()
            self.sensitive = SensitivePhotos(self.store)
            self.paths = ShownPaths(self.store, absolute=options.show_paths)
            self.thumbs = closing.enter_context(
                contextlib.closing(ThumbCache(thumbs_folder(), options.thumbs_mb * 1_000_000))
            )
            self.thumb_turns = Turns(_THUMBS_AT_ONCE)
            self.jobs = closing.enter_context(contextlib.closing(Jobs(self.paths.known)))
            self.copies = FoundCopies()
            self.clusters = ClusterViews(None if options.exact_places else self.sensitive)
            self.review = closing.enter_context(contextlib.closing(ReviewPool()))
            self.sightings = SightingViews(None if options.exact_places else self.sensitive)
            self.maps = ClusterMaps(Settings.from_environment().cache / "maps")
            largest = options.max_upload_mb * 1_000_000
            self.embedder = closing.enter_context(
                contextlib.closing(
                    Embedder(self.catalog, max_bytes=largest, on_batch=self.metrics.batches.observe)
                )
            )
            self._closing = closing.pop_all()
        self._preparing = threading.Thread(target=self._prepare, name="sensitive photos", daemon=True)
        self._preparing.start()

    def _prepare(self) -> None:
        """Look at all photos once, before the first page asks which of their places are hidden."""
        # The next request answers what is wrong with the catalog.
        with contextlib.suppress(CatalogError):
            if not self.options.exact_places:
                self.sensitive.prepare()

    @property
    def store(self) -> CatalogStore:
        """The catalog's tables, for reading."""
        return self.catalog.store

    @contextlib.contextmanager
    def writing(self, purpose: str) -> Iterator[CatalogStore]:
        """Open the catalog for writing by a request for as long as the block runs, also beside long work.

        Args:
            purpose: What is written, shown to other processes that find the catalog taken.

        Raises:
            CatalogReadOnlyError: The service changes nothing.
            CatalogLockedError: Another request or process edits it, for too long.
        """
        self.check_writable()
        with self._writers.for_request(purpose) as store:
            yield store

    @contextlib.contextmanager
    def writing_beside(self, purpose: str) -> Iterator[CatalogStore]:
        """Open the catalog for writing by the job that runs, while requests write too; see `writing`."""
        self.check_writable()
        with self._writers.for_job(purpose) as store:
            yield store

    def check_writable(self) -> None:
        """Refuse what would change the catalog where nothing is to be changed.

        Raises:
            CatalogReadOnlyError: The service changes nothing.
        """
        if self.options.read_only:
            raise CatalogReadOnlyError("this service is read-only: it was started with --read-only")

    def model_in_use(self) -> ModelRecord:
        """Return the catalog's model.

        Raises:
            CatalogError: It has none yet.
        """
        record = self.store.active_model()
        if record is None:
            raise CatalogError("no photo is indexed yet; run `birdsearch index FOLDER`")
        return record

    def with_hidden_places(self, photo_ids: Sequence[int]) -> frozenset[int]:
        """Return those of the photos whose places are shown coarsened, as they show sensitive species."""
        return frozenset() if self.options.exact_places else self.sensitive.among(photo_ids)

    def path_of(self, path: bytes) -> str:
        """Return a photo's absolute path as clients see it."""
        return self.paths.shown(path)

    def text_of(self, text: str) -> str:
        """Return a message as clients see it: with no path in it but those that are shown."""
        known = self.paths.known()
        return text if known is None else without_paths(text, known)

    def stop(self) -> None:
        """Ask what streams or waits to end."""
        self.stopping.set()
        self.jobs.stop()

    def close(self) -> None:
        """Close everything; the service cannot be used afterwards."""
        self.stop()
        self._preparing.join(_LAST_S)
        self._closing.close()


async def service_of(request: Request) -> Service:
    """Return the service that answers a request."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(service_of)]
