"""Embedding of the photos of requests: decoded in supervised processes, embedded in batches.

A process decodes one photo at a time. What crashes, hangs or eats memory there is that photo's failure: the process
is replaced, and the next photo is decoded as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from birdsearch.cores import cores
from birdsearch.errors import CatalogError, PhotoError, StalledError
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.runs import decode_mode
from birdsearch.indexer.catalog.stored_views import stored_by_digest
from birdsearch.model.images.box import Box
from birdsearch.model.images.decode import FileDigests
from birdsearch.model.images.photo import PhotoLimits
from birdsearch.model.images.rereading import READING_VERSION
from birdsearch.model.images.worker.pool import Decoded, DecodePool, DecodeTask, Failed, Verdict
from birdsearch.search.catalog import Catalog
from birdsearch.search.service.batching import ANSWER_S, Batcher

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

__all__ = ["Embedded", "Embedder", "PhotoSource"]

# Photos in a batch of the network, and how long one that is alone waits for those that are being decoded.
_BATCH, _WINDOW_S = 32, 0.01
# More processes than this would only wait for the network.
_MOST_PROCESSES = 4
# Somebody waits for the answer: less than indexing allows.
_DEADLINE_S = 10.0
_ADVICE = "try again later; the first time that it is loaded on a machine takes longest"
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}", re.ASCII)

_Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PhotoSource:
    """A photo that came with a request, or a file of the catalog.

    Attributes:
        shown: How it is called in messages.
        content: What came, or the absolute path of the file.
        suffix: Suffix of its name; it distinguishes camera RAW files from other TIFFs.
    """

    shown: str
    content: IO[bytes] | bytes
    suffix: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A photo with its embedding.

    Attributes:
        photo_id: Its id, if its content is in the catalog.
        embedding: (C,) float32, un-normalised.
    """

    photo_id: int | None
    embedding: NDArray[np.float32]


@dataclass(slots=True)
class _Asked:
    """A photo that is being decoded: the region that is wanted, and what the catalog knows of its content."""

    record: ModelRecord | None
    box: Box | None
    photo_id: int | None = None
    stored: Embedded | None = None


class _Mine(threading.local):
    """The state of one decoding thread."""

    pool: DecodePool | None = None
    settings: tuple[object, ...] = ()
    asked: _Asked | None = None


class Embedder:
    """Embeds the photos of requests with the catalog's model, which is loaded for the first one.

    Args:
        catalog: The catalog.
        max_bytes: Largest photo.
        processes: How many decode; as many as there are cores, up to 4, if None.
        on_batch: Called with the number of photos that the network looks at together.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        max_bytes: int,
        processes: int | None = None,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._catalog = catalog
        self._limits = PhotoLimits(max_bytes=max_bytes, deadline_s=_DEADLINE_S)
        self._mine = _Mine()
        self._lock = threading.Lock()
        self._pools: list[DecodePool] = []
        # Photos that were taken and have not come to the network yet.
        self._decoding = 0
        with contextlib.ExitStack() as closing:
            # On the disk, not in memory, and readable by this user alone.
            self._folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="birdsearch-")))
            self._network: Batcher[tuple[Model, _Pixels], NDArray[np.float32]] = closing.enter_context(
                contextlib.closing(
                    Batcher(
                        functools.partial(_embeddings, on_batch),
                        most=_BATCH,
                        name="birdsearch-embed",
                        what="the network",
                        window_s=_WINDOW_S,
                        expected=lambda: self._decoding,
                    )
                )
            )
            closing.callback(self._end_processes)
            count = min(_MOST_PROCESSES, cores()) if processes is None else processes
            self._threads = ThreadPoolExecutor(count, thread_name_prefix="birdsearch-decode")
            closing.callback(self._end_threads)
            self._closing = closing.pop_all()

    async def embed(self, photo: PhotoSource, box: Box | None = None) -> Embedded:
        """Embed a photo, or a region of it.

        A whole photo whose content is in the catalog is not decoded: its stored embedding is taken.

        Raises:
            PhotoError: It cannot be read or decoded; the reason names it.
            WeightsError: The weights of the catalog's model are not to be found.
            CatalogError: The service is stopping, or the catalog is damaged.
            StalledError: The network hangs, or is still being loaded.
        """
        self._decoding += 1
        try:
            async with asyncio.timeout(ANSWER_S) as limit:
                decoded = await asyncio.wrap_future(self._threads.submit(self._decode, photo, box))
        except TimeoutError:
            if not limit.expired():
                raise
            raise StalledError.of("the loading of the network", ANSWER_S, _ADVICE) from None
        except PhotoError as error:
            raise error.named(photo.shown) from error
        finally:
            self._decoding -= 1
        if isinstance(decoded, Embedded):
            return decoded
        photo_id, model, pixels = decoded
        return Embedded(photo_id, await self._network.ask((model, pixels)))

    @property
    def stalled_s(self) -> float | None:
        """For how long the network gave no answer, if that is longer than it may take."""
        return self._network.stalled_s

    def close(self) -> None:
        """End the processes and threads; photos that wait are not embedded any more."""
        self._closing.close()

    # -- decoding, in one of the threads -----------------------------------------------------------------

    def _decode(self, photo: PhotoSource, box: Box | None) -> Embedded | tuple[int | None, Model, _Pixels]:
        record = self._catalog.store.active_model()
        model = self._catalog.model()
        mode = "scaled" if record is None else decode_mode(self._catalog.store, record.id)
        pool = self._pool(model.input_size, mode)
        self._mine.asked = asked = _Asked(record, box)
        with self._on_disk(photo) as path:
            status = os.stat(path)  # noqa: PTH116 bytes
            task = DecodeTask(None, path, status.st_size, status.st_mtime_ns, box, sha256=True)
            (result,) = pool.run([task])
        if isinstance(result, Failed):
            raise result.error
        if isinstance(result, Decoded):
            # Stored and decoded all the same: the photo is turned or coloured otherwise in this file.
            photo_id = asked.photo_id if asked.stored is None else None
            return photo_id, model, result.photo.pixels
        if asked.stored is None:
            raise CatalogError(f"{photo.shown}: neither decoded nor stored")
        return asked.stored

    def _judge(self, _: DecodeTask, digests: FileDigests) -> Verdict:
        """Look a picture up; it need not be decoded if its embedding is stored and it is shown as it was then."""
        asked = self._mine.asked
        if asked is None or asked.record is None:
            return Verdict()
        wanted = [digest for digest in (digests.picture, digests.sha256) if digest is not None]
        found = stored_by_digest(self._catalog.store, asked.record, wanted)
        if found is None:
            return Verdict()
        asked.photo_id = found.photo_id
        if asked.box is not None or found.embedding is None:
            return Verdict()
        asked.stored = Embedded(found.photo_id, found.embedding)
        return Verdict.see(READING_VERSION, self._catalog.store.rendering(found.photo_id))

    def _pool(self, input_size: tuple[int, int], mode: str) -> DecodePool:
        """Return this thread's process, made anew if the catalog's model was changed."""
        settings = (input_size, mode)
        if self._mine.pool is None or self._mine.settings != settings:
            pool = DecodePool(1, input_size, self._limits, judge=self._judge, decode=mode)
            with self._lock:
                if self._mine.pool is not None:
                    self._pools.remove(self._mine.pool)
                    self._mine.pool.close()
                self._pools.append(pool)
            self._mine.pool, self._mine.settings = pool, settings
        return self._mine.pool

    def _end_threads(self) -> None:
        # What a photo may take, and no more: one may hang in the loading of the network.
        end = functools.partial(self._threads.shutdown, cancel_futures=True)
        ending = threading.Thread(target=end, name="birdsearch-decode-end", daemon=True)
        ending.start()
        ending.join(_DEADLINE_S)

    def _end_processes(self) -> None:
        for pool in self._pools:
            pool.close()

    @contextlib.contextmanager
    def _on_disk(self, photo: PhotoSource) -> Iterator[bytes]:
        """Yield the path of a photo, for as long as the block runs."""
        if isinstance(photo.content, bytes):
            yield photo.content
            return
        suffix = photo.suffix if _SUFFIX.fullmatch(photo.suffix) else ""
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=suffix) as file:
            photo.content.seek(0)
            shutil.copyfileobj(photo.content, file, 1 << 20)
            file.flush()
            yield os.fsencode(file.name)


def _embeddings(
    on_batch: Callable[[int], None], asked: Sequence[tuple[Model, _Pixels]]
) -> list[NDArray[np.float32]]:
    """Return embeddings of pixels, in order; nearly always all by one model."""
    found: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(asked)
    for model in {id(model): model for model, _ in asked}.values():
        rows = [row for row, (mine, _) in enumerate(asked) if mine is model]
        on_batch(len(rows))
        computed = model.infer_pixels(np.stack([asked[row][1] for row in rows])).embeddings
        for row, embedding in zip(rows, computed, strict=True):
            found[row] = embedding
    return found
