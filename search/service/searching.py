"""Searches of requests: what they ask about, answered together where that is fast, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, HTTPException, Request
from numpy.typing import NDArray
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.stored_views import StoredView, stored_photos, stored_views
from birdsearch.indexer.vectors.faiss_threads import one_thread
from birdsearch.search.query.engine import QueryRequest
from birdsearch.search.query.hits import LabelEvidence, QueryPhoto, QueryResult
from birdsearch.search.query.inputs import region_of
from birdsearch.search.query.location_privacy.coarsening import with_coarse_places
from birdsearch.search.query.relevance_feedback import feedback
from birdsearch.search.service.batching import Batcher
from birdsearch.search.service.embedding import PhotoSource
from birdsearch.search.service.schemas.search import LabelRequest, SearchRequest
from birdsearch.search.service.state import Service
from birdsearch.search.service.where import where_of

__all__ = ["Searcher", "SearcherDep", "shown_evidence", "thumb_url"]

# Requests in a batch; and hits up to which a search does not hold up those it shares a batch with.
_BATCH, _FEW_HITS = 64, 100
# A batch waits for others so long in all, and so long for the next one; a single request does not wait.
_WINDOW_S, _GAP_S = 0.025, 0.006


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A question, and how its photo is shown."""

    question: QueryRequest
    shown: str | None
    has_hits: bool


class Searcher:
    """Answers requests about what is like a photo and what is on it.

    Args:
        service: Whose catalog is searched.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._batcher: Batcher[_Asked, bytes] = Batcher(
            self._answers,
            most=_BATCH,
            name="birdsearch-search",
            what="the search",
            window_s=_WINDOW_S,
            gap_s=_GAP_S,
        )

    @property
    def stalled_s(self) -> float | None:
        """For how long a search gave no answer, if that is longer than one may take."""
        return self._batcher.stalled_s

    def close(self) -> None:
        """Answer what was asked, and end."""
        self._batcher.close()

    async def answer(self, request: LabelRequest, upload: PhotoSource | None = None) -> bytes:
        """Answer a request.

        Args:
            request: What is asked; with hits if it is a `SearchRequest`.
            upload: The photo that came with it.

        Returns:
            The answer as JSON, a `SearchAnswer` or, without hits, a `QueryResult`.

        Raises:
            HTTPException: A photo or view is unknown (404).
            InvalidInputError: A value is not accepted.
            PhotoError: The photo cannot be read.
            BirdsearchError: The catalog or its network cannot be used.
        """
        _check(request, upload)
        asked = await self._asked(request, upload)
        if _is_quick(asked.question):
            return await self._batcher.ask(asked)
        return (await run_in_threadpool(self._answers, [asked]))[0]

    # -- what is asked -----------------------------------------------------------------------------------

    async def _asked(self, request: LabelRequest, upload: PhotoSource | None) -> _Asked:
        box = region_of(request.box)
        if request.vector is not None and not (request.like or request.unlike):
            # Nothing has to be looked up.
            return self._question(request, QueryPhoto(""), None, np.array(request.vector, np.float32))
        found = await run_in_threadpool(self._looked_up, request)
        photo, shown, embedding = QueryPhoto("", None, box), None, found.embedding
        if upload is not None:
            embedded = await self._service.embedder.embed(upload, box)
            photo, shown = QueryPhoto(upload.shown, embedded.photo_id, box), upload.shown
            embedding = embedded.embedding
        elif found.view is not None:
            photo = QueryPhoto("", found.view.photo_id, box or found.view.box)
            shown = self._service.path_of(found.path)
            if embedding is None or box is not None:
                embedding = (
                    await self._service.embedder.embed(PhotoSource(shown, found.path), box or found.view.box)
                ).embedding
        return self._question(request, photo, shown, embedding, found.like, found.unlike)

    def _question(
        self,
        request: LabelRequest,
        photo: QueryPhoto,
        shown: str | None,
        embedding: NDArray[np.float32] | None,
        like: Sequence[NDArray[np.float32]] = (),
        unlike: Sequence[NDArray[np.float32]] = (),
    ) -> _Asked:
        sought = (
            embedding if embedding is not None and not (like or unlike) else feedback(embedding, like, unlike)
        )
        own = sought if embedding is None else embedding
        judged = frozenset((*request.like, *request.unlike))
        if not isinstance(request, SearchRequest):
            question = QueryRequest(photo, own, 0, confidence=request.confidence)
            return _Asked(question, shown, has_hits=False)
        where = None if request.where is None else where_of(self._service, request.where)
        question = QueryRequest(
            photo,
            own,
            request.k,
            None if where is None or where.is_empty else where,
            request.include_self,
            request.refined,
            request.exact,
            request.labels,
            request.confidence,
            sought=None if sought is own else sought,
            left_out=judged,
        )
        return _Asked(question, shown, has_hits=True)

    def _looked_up(self, request: LabelRequest) -> _Found:
        """Return what the catalog has of the photos that a request names."""
        judged = [*request.like, *request.unlike]
        vector = None if request.vector is None else np.array(request.vector, np.float32)
        if request.photo_id is None and request.view_id is None and not judged:
            return _Found(vector)
        store = self._service.store
        record = store.active_model()
        view, path = None, b""
        if request.photo_id is not None or request.view_id is not None:
            view = _named(store, record, request)
            photo = store.photos([view.photo_id]).get(view.photo_id)
            if photo is None:
                raise HTTPException(404, f"no photo {view.photo_id}")
            path = photo.path
        known = {} if record is None else stored_photos(store, record, judged)
        for photo_id in judged:
            if photo_id not in known:
                raise HTTPException(404, f"no photo {photo_id}")
        vectors = {photo_id: view.embedding for photo_id, view in known.items()}
        return _Found(
            view.embedding if view is not None else vector,
            view,
            path,
            [vector for photo_id in request.like if (vector := vectors[photo_id]) is not None],
            [vector for photo_id in request.unlike if (vector := vectors[photo_id]) is not None],
        )

    # -- the answers, in one thread or another -----------------------------------------------------------

    def _answers(self, asked: Sequence[_Asked]) -> list[bytes]:
        # More threads than one only wait for each other where the network, decoders and other requests are at work.
        with one_thread():
            results = self._service.catalog.answer([one.question for one in asked])
        if not self._service.options.exact_places:
            results = with_coarse_places(self._service.sensitive, results)
        return [to_json(self._shown(one, result)) for one, result in zip(asked, results, strict=True)]

    def _shown(self, asked: _Asked, result: QueryResult) -> dict[str, Any]:
        """Return an answer in JSON types, with paths as clients see them."""
        service, evidence = self._service, result.evidence
        shown = replace(
            result,
            query=replace(result.query, path=asked.shown or ""),
            hits=tuple(
                replace(hit, path=service.path_of(hit.file), thumb=thumb_url(hit.photo_id))
                for hit in result.hits
            ),
            evidence=None if evidence is None else shown_evidence(service, evidence),
            warnings=tuple(service.text_of(warning) for warning in result.warnings),
        )
        vector = {"vector": asked.question.embedding.tolist()} if asked.has_hits else {}
        return shown.to_dict() | vector


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """The catalog's data of what a request names.

    Attributes:
        embedding: Of what is asked about, if there is one.
        view: The photo that is asked about.
        path: Absolute path of its file.
        like: Embeddings of photos that it is like.
        unlike: Embeddings of photos that it is not.
    """

    embedding: NDArray[np.float32] | None
    view: StoredView | None = None
    path: bytes = b""
    like: Sequence[NDArray[np.float32]] = ()
    unlike: Sequence[NDArray[np.float32]] = ()


async def _searcher_of(request: Request) -> Searcher:
    searcher: Searcher = request.app.state.searcher
    return searcher


SearcherDep = Annotated[Searcher, Depends(_searcher_of)]
"""The searcher of the service that answers a request."""


def shown_evidence(service: Service, evidence: LabelEvidence) -> LabelEvidence:
    """Return what labels rest on with paths as clients see them."""
    return replace(
        evidence,
        neighbours=tuple(
            replace(voter, path=service.path_of(voter.file), thumb=thumb_url(voter.photo_id))
            for voter in evidence.neighbours
        ),
    )


def thumb_url(photo_id: int) -> str:
    """Return where the thumbnail of a photo is."""
    return f"/api/photos/{photo_id}/thumb"


def _check(request: LabelRequest, upload: PhotoSource | None) -> None:
    if upload is None and request.names_nothing:
        raise InvalidInputError("name a photo: photo_id, view_id, vector or like; or send one as `photo`")
    given = [value for value in (request.photo_id, request.view_id, request.vector) if value is not None]
    if upload is not None and given:
        raise InvalidInputError("a photo was sent, so photo_id, view_id and vector cannot be given")
    if request.box is not None and upload is None and request.photo_id is None:
        raise InvalidInputError("box is a region of a photo; name one with photo_id, or send one")


def _named(store: CatalogStore, record: ModelRecord | None, request: LabelRequest) -> StoredView:
    """Return the view that a request asks about."""
    if request.view_id is not None:
        known = {} if record is None else stored_views(store, record, [request.view_id])
        if request.view_id not in known:
            raise HTTPException(404, f"no view {request.view_id}")
        return known[request.view_id]
    photo_id = request.photo_id or 0
    known = {} if record is None else stored_photos(store, record, [photo_id])
    if photo_id not in known:
        raise HTTPException(404, f"no photo {photo_id}")
    return known[photo_id]


def _is_quick(question: QueryRequest) -> bool:
    """Return whether a question can share a batch: it is fast, and has the same answer as alone."""
    if question.where is not None or question.refined or question.exact or question.k > _FEW_HITS:
        return False
    # What links a photo of the catalog to verified ones is looked up for each one.
    return question.query.photo_id is None or not question.labels
