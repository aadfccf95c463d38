"""`Client`: answers what `Catalog` answers, over HTTP."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from birdsearch.client.calls import decode
from birdsearch.client.groups import GroupCalls
from birdsearch.client.photos import PhotoCalls
from birdsearch.client.problems import NotFoundError
from birdsearch.client.requests import Body, box_json, photo_body, where_json
from birdsearch.errors import InvalidInputError, PhotoError
from birdsearch.indexer.catalog.filters import Where
from birdsearch.model.images.box import Box
from birdsearch.search.query.hits import QueryResult
from birdsearch.search.query.inputs import Photo
from birdsearch.settings import DEFAULT_CONFIDENCE

__all__ = ["Client"]

# Photos that are asked about at a time, so that the service can embed them together.
_AT_ONCE = 4


class Client(PhotoCalls, GroupCalls):
    """A service, as `birdsearch serve` runs it.

    Several threads may use one client at once. Reads are asked again when the service is busy; what changes the
    catalog is sent once. Close it, or use it as a context manager.

    Args:
        url: Address of the service, such as `http://127.0.0.1:8000`; `https` verifies the certificate.
        token: The service's token, if it has one.
        timeout: Seconds that the service may take to send something.
        tries: How often a read is asked before its failure counts.

    Raises:
        InvalidInputError: A value is outside its limits.
    """

    def query(
        self,
        photo: Photo,
        k: int = 20,
        where: Where | None = None,
        box: Box | Sequence[float] | None = None,
        include_self: bool = False,
        *,
        confidence: float = DEFAULT_CONFIDENCE,
        refined: bool = False,
        exact: bool = False,
    ) -> QueryResult:
        """Find the photos that look most like a photo, and what is on it; see `Catalog.query`.

        Args:
            photo: A path on this machine, whose file is sent; a Pillow image, which is sent as a PNG file; or the
                id of a photo of the catalog.
            k: How many hits, 0 to 1000.
            where: Conditions on the hits; folders as the service shows them, or absolute as it has them.
            box: Region to ask about: x, y, w, h in parts of the upright frame.
            include_self: Let the photo itself be a hit.
            confidence: How sure a label has to be before it is rolled up.
            refined: Order the hits by refined vectors.
            exact: Look at all vectors, however many.

        Returns:
            The answer; paths are as the service shows them, and `file` is empty.

        Raises:
            PhotoError: The photo cannot be read, or there is none of this id.
            InvalidInputError: A value is outside what is accepted.
            CatalogError: The catalog cannot be used.
            ServiceError: The service cannot be reached, or refuses.
        """
        request = {
            "k": k,
            "where": where_json(where),
            "box": box_json(box),
            "include_self": include_self,
            "confidence": confidence,
            "refined": refined,
            "exact": exact,
        }
        return self._about("/api/search", photo, request)

    def query_many(
        self,
        photos: Sequence[Photo],
        k: int = 20,
        where: Where | None = None,
        box: Box | Sequence[float] | None = None,
        include_self: bool = False,
        *,
        on_error: Callable[[Photo, PhotoError], None] | None = None,
        confidence: float = DEFAULT_CONFIDENCE,
        refined: bool = False,
        exact: bool = False,
    ) -> list[QueryResult]:
        """Ask about several photos, some at a time; see `query`.

        Args:
            photos: The photos.
            k: How many hits for each.
            where: Conditions on the hits.
            box: Region to ask about, the same in every photo.
            include_self: Let a photo itself be a hit.
            on_error: Called with each photo that cannot be read, which is then left out of the answers.
            confidence: How sure a label has to be before it is rolled up.
            refined: Order the hits by refined vectors.
            exact: Look at all vectors, however many.

        Returns:
            One answer a photo, in order.

        Raises:
            PhotoError: A photo cannot be read and there is no `on_error`.
            BirdsearchError: As `query`.
        """
        if isinstance(photos, str | bytes | os.PathLike):
            raise InvalidInputError("photos must be a list; use `query` for a single photo")

        def ask(photo: Photo) -> QueryResult | PhotoError:
            try:
                return self.query(
                    photo,
                    k,
                    where,
                    box,
                    include_self,
                    confidence=confidence,
                    refined=refined,
                    exact=exact,
                )
            except PhotoError as error:
                return error

        results: list[QueryResult] = []
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="birdsearch-client") as pool:
            for photo, answer in zip(photos, pool.map(ask, photos), strict=True):
                if not isinstance(answer, PhotoError):
                    results.append(answer)
                elif on_error is None:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise answer
                else:
                    on_error(photo, answer)
        return results

    def more_like(
        self,
        like: Iterable[int],
        unlike: Iterable[int] = (),
        k: int = 20,
        where: Where | None = None,
        *,
        refined: bool = False,
        exact: bool = False,
    ) -> QueryResult:
        """Find photos that look like some of the catalog's and unlike others (Rocchio's formula, 1971).

        Args:
            like: Ids of photos to look like, at least one.
            unlike: Ids of photos to look unlike.
            k: How many hits.
            where: Conditions on the hits.
            refined: Order the hits by refined vectors.
            exact: Look at all vectors, however many.

        Returns:
            The answer.

        Raises:
            BirdsearchError: As `query`.
        """
        request = {
            "like": list(like),
            "unlike": list(unlike),
            "k": k,
            "where": where_json(where),
            "refined": refined,
            "exact": exact,
        }
        try:
            answer = self._json("POST", "/api/search", body=Body.json(request), is_read=True)
        except NotFoundError as error:
            raise PhotoError("read", "unknown-photo", str(error)) from None
        return decode(QueryResult, answer)

    def label(
        self,
        photo: Photo,
        box: Box | Sequence[float] | None = None,
        *,
        confidence: float = DEFAULT_CONFIDENCE,
    ) -> QueryResult:
        """Say what is on a photo; an answer of `query` without hits.

        Raises:
            BirdsearchError: As `query`.
        """
        return self._about("/api/label", photo, {"box": box_json(box), "confidence": confidence})

    def _about(self, path: str, photo: Photo, request: Mapping[str, object]) -> QueryResult:
        body, named = photo_body(photo, request)
        try:
            result = decode(QueryResult, self._json("POST", path, body=body, is_read=True))
        except NotFoundError as error:
            raise PhotoError("read", "unknown-photo", str(error)) from None
        except PhotoError as error:
            if named is None:
                raise
            # The service knows an upload by another name, and says it first.
            reason = error.reason.partition(": ")[2]
            raise PhotoError(error.stage, error.code, f"{named.path}: {reason}") from None
        if named is None:
            return result
        query = dataclasses.replace(named, photo_id=result.query.photo_id, box=result.query.box)
        return dataclasses.replace(result, query=query)
