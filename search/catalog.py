"""The catalog as a whole: index photo archives, and ask what looks like a photo."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import CatalogError, CatalogReadOnlyError, InvalidInputError, PhotoError
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.runs import decode_mode
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.stored_views import stored_photos
from birdsearch.indexer.model_source import ModelSource
from birdsearch.indexer.watch import Watch
from birdsearch.model.images.box import Box
from birdsearch.model.images.photo import PhotoLimits
from birdsearch.model.weights import DEFAULT_WEIGHTS, WEIGHTS, file_sha256, resolve_weights
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.labels.fusion import top_labels
from birdsearch.search.query.catalog_model import catalog_model, check_given
from birdsearch.search.query.engine import QueryEngine, QueryRequest, check_embedding
from birdsearch.search.query.hits import QueryPhoto, QueryResult
from birdsearch.search.query.inputs import Photo, ReadPhoto, find_photo, network_input, region_of
from birdsearch.settings import DEFAULT_CONFIDENCE, Settings

if TYPE_CHECKING:
    from birdsearch.indexer.pipeline import IndexProgress, IndexSummary
    from birdsearch.model.inference import Model

__all__ = ["Catalog"]

T = TypeVar("T")

# Query photos through the network at a time: bounds memory, not the answer.
_BATCH = 32


class Catalog:
    """A catalog of photos: index archives into it, and query it.

    Use `Catalog.open`, as a context manager or with `close`. Several threads may query at once.

    Attributes:
        path: The catalog's folder.
    """

    def __init__(
        self,
        path: Path,
        store: CatalogStore | None,
        *,
        read_only: bool,
        settings: Settings | None = None,
        device: str = "auto",
    ) -> None:
        self.path = path
        self._store = store
        self._read_only = read_only
        self._settings = Settings.from_environment() if settings is None else settings
        self._device = device
        self._model: tuple[tuple[str, str], Model] | None = None
        self._model_lock = threading.Lock()
        self._answerer: QueryEngine | None = None
        self._opening = threading.RLock()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        mode: Literal["auto", "read", "write", "create"] = "auto",
        *,
        settings: Settings | None = None,
        device: str = "auto",
    ) -> Catalog:
        """Open a catalog.

        Args:
            path: The catalog's folder.
            mode: `auto` reads, and becomes the writer for as long as `index` runs, which makes the catalog if
                there is none; `read` never writes; `write` holds the writer lock until closed; `create` is
                `write` that makes a catalog where there is none.
            settings: Where weights are looked for; by default what the environment says.
            device: Where models that the catalog loads run: `cpu`, `cuda`, or `auto` for a GPU where there is
                one.

        Returns:
            The catalog.

        Raises:
            CatalogError: There is no catalog (in mode `auto`, only once it is asked for something), it is
                damaged, or of a newer version.
            CatalogLockedError: It is to be written, and another process writes to it.
        """
        folder = Path(path).expanduser().absolute()
        store = None if mode == "auto" else CatalogStore.open(folder, mode)
        return cls(folder, store, read_only=mode == "read", settings=settings, device=device)

    @property
    def store(self) -> CatalogStore:
        """The tables behind the catalog.

        Raises:
            CatalogError: There is no catalog, it is damaged, or of a newer version.
        """
        with self._opening:
            if self._store is None:
                self._store = CatalogStore.open(self.path, "read")
            return self._store

    def close(self) -> None:
        """Close the catalog; closing twice is harmless."""
        if self._store is not None:
            self._store.close()
        self._store = self._model = self._answerer = None

    def __enter__(self) -> Catalog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._store is not None:
                self._store.__exit__(kind, error, trace)
        finally:
            self.close()

    # -- indexing ----------------------------------------------------------------------------------------

    def index(
        self,
        roots: Sequence[str | os.PathLike[str]],
        model: Model | str | os.PathLike[str] | None = None,
        *,
        progress: IndexProgress | None = None,
        on_tick: Callable[[str], None] = lambda _: None,
        **options: Any,
    ) -> IndexSummary:
        """Bring the catalog up to date with the photos under some folders.

        Args:
            roots: Folders.
            model: A loaded model, a weights file, or the name of published weights, which are fetched if they
                are not on this machine. By default the catalog's own model, else the default one. The network is
                loaded only if there is something to read: where nothing has changed, the catalog's own model need
                not even be on this machine any more.
            progress: Told how it goes.
            on_tick: Told several times a second, in the calling thread, which stages are at work.
            **options: Fields of `birdsearch.indexer.IndexOptions`.

        Returns:
            What was found and done.

        Raises:
            CatalogReadOnlyError: The catalog was opened for reading.
            ModelMismatchError: The catalog was made with another model, and `reembed` is not set.
            MissingFilesError: A root is absent, empty, or has lost most of its files.
            StalledError: A stage gave no sign of life for too long; what was committed before is safe.
            InvalidInputError: An option is unknown or outside its limits.
        """
        from birdsearch.indexer.options import IndexOptions
        from birdsearch.indexer.pipeline import index_archive

        if isinstance(roots, str | bytes | os.PathLike):
            raise InvalidInputError("roots must be a list of folders; put a single folder into a list")
        if self._read_only:
            raise CatalogReadOnlyError(
                f"{self.path}: the catalog was opened for reading; open it without mode="
            )
        try:
            chosen = IndexOptions(**{"stall_s": self._settings.stall_s, **options})
        except TypeError as error:
            raise InvalidInputError(f"index: {error}") from error
        if self._store is not None and self._store.writable:
            source = self._to_index_with(self._store, model)
            return index_archive(self._store, source, roots, chosen, progress, on_tick)
        with CatalogStore.open(self.path, "create", purpose="index") as store:
            source = self._to_index_with(store, model)
            return index_archive(store, source, roots, chosen, progress, on_tick)

    def _to_index_with(
        self, store: CatalogStore, given: Model | str | os.PathLike[str] | None
    ) -> Model | ModelSource:
        if given is not None and not isinstance(given, str | os.PathLike):
            return given
        record = store.active_model()
        if given is None and record is not None:
            # Its file is looked for only if it has to be loaded.
            return ModelSource(lambda: self._loaded(record, None), record.sha256)

        source = DEFAULT_WEIGHTS if given is None else given

        def load() -> Model:
            from birdsearch.model.inference import load_model

            return load_model(source, settings=self._settings, device=self._device)

        path = resolve_weights(source, self._settings, download=True)
        sha256 = file_sha256(path)
        published = [entry.input_size for entry in WEIGHTS.values() if entry.sha256 == sha256]
        return ModelSource(load, sha256, path, published[0] if published else None)

    # -- asking ------------------------------------------------------------------------------------------

    def query(
        self,
        photo: Photo,
        k: int = 20,
        where: Where | None = None,
        box: Box | Sequence[float] | None = None,
        include_self: bool = False,
        model: Model | str | os.PathLike[str] | None = None,
        confidence: float = DEFAULT_CONFIDENCE,
        refined: bool = False,
        exact: bool = False,
    ) -> QueryResult:
        """Find the photos that look most like a photo, and what is on it.

        Args:
            photo: A path, a Pillow image, or the id of a photo of this catalog (`12` or `"#12"`). A photo
                whose content is in the catalog is not embedded again unless a box is asked about.
            k: How many hits, at least 0. There are fewer if fewer photos meet the conditions.
            where: Conditions on the hits.
            box: Region to ask about: x, y, w, h in parts of the upright frame.
            include_self: Let the photo itself, and with it its exact copies, be a hit.
            model: The catalog's model, if it is loaded already or its file is not where it was.
            confidence: How sure a label has to be, 0..1, before it is rolled up to genus, family, order or `bird`.
            refined: Order the hits by refined vectors (see `birdsearch.search.query.query_expansion`), which finds
                more photos of the same species; the similarity shown stays the plain one, so it need not fall with
                the rank.
            exact: Look at all vectors. Beyond 200,000 a search otherwise looks at those that are likely to be near,
                and finds about 0.99 of the true nearest; the similarities are exact either way.

        Returns:
            Hits and labels. Verified photos of the catalog have their say in the labels, but for copies of the
            query and frames of its event. Of a photo that is not in the catalog only the content is compared, so an
            edited copy of it does vote.

        Raises:
            PhotoError: The photo cannot be read; the message names it.
            InvalidInputError: `k`, `box` or `photo` is outside what is accepted.
            ModelMismatchError: The model is not the one that the catalog was made with.
            WeightsError: The model is needed and its weights are not to be found.
            StalledError: The network gave no sign of life for too long.
            CatalogError: There is no catalog, or it is damaged.
        """
        return self.query_many(
            [photo], k, where, box, include_self, model, confidence=confidence, refined=refined, exact=exact
        )[0]

    def query_many(
        self,
        photos: Sequence[Photo],
        k: int = 20,
        where: Where | None = None,
        box: Box | Sequence[float] | None = None,
        include_self: bool = False,
        model: Model | str | os.PathLike[str] | None = None,
        on_error: Callable[[Photo, PhotoError], None] | None = None,
        confidence: float = DEFAULT_CONFIDENCE,
        refined: bool = False,
        exact: bool = False,
    ) -> list[QueryResult]:
        """Ask about several photos at once; see `query`.

        A photo that is not in the catalog may get similarities that differ in the last bits (by less than
        1e-5) from those of a query on its own, since the network then runs on another batch size.

        Args:
            photos: The photos.
            k: How many hits for each.
            where: Conditions on the hits.
            box: Region to ask about, the same in every photo.
            include_self: Let a photo itself be a hit.
            model: The catalog's model.
            on_error: Told each photo that cannot be read, which is then left out of the answers.
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
        if k < 0:
            raise InvalidInputError(f"k must be at least 0, got {k}")
        region = region_of(box)
        store = self.store
        record = store.active_model()
        if model is not None:
            check_given(record, model, self._settings)
        with ThreadPoolExecutor(1, thread_name_prefix="birdsearch-labels") as beside:
            # Reading the verified labels and making the network ready take as long as each other.
            ready = None if record is None else beside.submit(self.label_estimator, record)
            queries, embeddings = self._embed(record, photos, region, model, on_error)
            if not queries:
                return []
            if ready is not None:
                ready.result()
        questions = [
            QueryRequest(query, embedding, k, where, include_self, refined, exact, confidence=confidence)
            for query, embedding in zip(queries, embeddings, strict=True)
        ]
        if record is None:
            return _by_network(self._loaded(None, model), questions)
        return self._answers().answer(record, questions)

    def answer(self, questions: Sequence[QueryRequest]) -> list[QueryResult]:
        """Ask about embeddings that are at hand, without a photo; see `query`.

        Args:
            questions: What is asked, by embeddings of the catalog's model.

        Returns:
            One answer a question, in order; without hits if no photo is indexed yet.

        Raises:
            InvalidInputError: An embedding has another size or is not finite, a condition is not understood, or
                the confidence is outside its limits.
            WeightsError: No photo is indexed yet, and there are no weights to say what is on one.
            CatalogError: There is no catalog, or it is damaged.
        """
        record = self.store.active_model()
        return (
            _by_network(self.model(), questions)
            if record is None
            else self._answers().answer(record, questions)
        )

    def model(self) -> Model:
        """Return the network of the catalog, loaded at the first use; the default one for an empty catalog.

        Raises:
            WeightsError: Its weights are not to be found; nothing is downloaded.
        """
        return self._loaded(self.store.active_model(), None)

    def _answers(self) -> QueryEngine:
        with self._opening:
            if self._answerer is None:
                self._answerer = QueryEngine(self.store)
            return self._answerer

    def label_estimator(self, record: ModelRecord | None = None) -> LabelEstimator:
        """Return the estimator of labels, with the verified labels and the calibration that there are now.

        Raises:
            CatalogError: There is no catalog, it has no model yet, or it is damaged.
        """
        record = self.store.active_model() if record is None else record
        if record is None:
            raise CatalogError(f"{self.path}: no photo is indexed yet; run `birdsearch index FOLDER`")
        return self._answers().label_estimator(record)

    def _loaded(self, record: ModelRecord | None, given: Model | str | os.PathLike[str] | None) -> Model:
        if given is not None and not isinstance(given, str | os.PathLike):
            return catalog_model(record, given, self._settings, self._device)
        # Without a record nothing but its name says which model this is.
        wanted = (record.sha256, record.preprocessing) if record is not None else ("given", str(given))

        def load() -> Model:
            # One at a time; who waits for another's is watched as well.
            with self._model_lock:
                if self._model is None or self._model[0] != wanted:
                    self._model = (wanted, catalog_model(record, given, self._settings, self._device))
                return self._model[1]

        known = self._model
        if known is not None and known[0] == wanted:
            return known[1]
        return self._watched("the loading of the network", load)

    def _watched(self, stage: str, work: Callable[[], T]) -> T:
        """Do what may hang in a library, and give it up if it does."""
        watch = Watch(self._settings.stall_s)

        def run() -> T:
            with watch.at_work(stage):
                return work()

        return watch.run(run)

    def _embed(
        self,
        record: ModelRecord | None,
        photos: Sequence[Photo],
        box: Box | None,
        given: Model | str | os.PathLike[str] | None,
        on_error: Callable[[Photo, PhotoError], None] | None,
    ) -> tuple[list[QueryPhoto], NDArray[np.float32]]:
        """Return the photos that can be read, with an embedding of each, (Q, C) float32."""
        queries: list[QueryPhoto] = []
        vectors: list[NDArray[np.float32]] = []
        waiting: list[tuple[int, NDArray[np.uint8]]] = []

        def flush() -> None:
            if waiting:
                pixels = np.stack([pixels for _, pixels in waiting])
                network = self._loaded(record, given)
                computed = self._watched("the network", lambda: network.infer_pixels(pixels)).embeddings
                for (place, _), vector in zip(waiting, computed, strict=True):
                    vectors[place] = vector
                waiting.clear()

        limits = PhotoLimits()
        mode = "scaled" if record is None else decode_mode(self.store, record.id)
        for photo in photos:
            try:
                found = find_photo(self.store, photo, box, limits)
                stored = self._stored(record, found)
                if stored is None:
                    size = self._loaded(record, given).input_size
                    waiting.append((len(vectors), network_input(found, size, limits, mode)))
                    stored = np.zeros(0, np.float32)
            except PhotoError as error:
                if on_error is None:
                    raise
                on_error(photo, error)
                continue
            queries.append(found.query)
            vectors.append(stored)
            if len(waiting) == _BATCH:
                flush()
        flush()
        return queries, np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)

    def _stored(self, record: ModelRecord | None, found: ReadPhoto) -> NDArray[np.float32] | None:
        """Return the catalog's embedding of a whole photo, if it has one of the model in use."""
        if record is None or found.query.photo_id is None or found.query.box is not None:
            return None
        stored = stored_photos(self.store, record, [found.query.photo_id]).get(found.query.photo_id)
        return None if stored is None else stored.embedding


def _by_network(model: Model, questions: Sequence[QueryRequest]) -> list[QueryResult]:
    """Answer for a catalog without photos: by the network alone."""
    for question in questions:
        check_embedding(question.embedding, model.embedding_size)
    return [
        QueryResult(
            question.query,
            (),
            top_labels(question.embedding @ model.head_weight.T + model.head_bias, model.classes)
            if question.labels
            else (),
        )
        for question in questions
    ]
