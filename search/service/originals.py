"""Original photo files as responses: only pictures, recognised by their content, and ranges of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from birdsearch.indexer.catalog.photo_content import PhotoContent
from birdsearch.model.images.formats import sniff
from birdsearch.search.service.photo_files import open_inside
from birdsearch.search.service.photo_rows import IMAGE_TYPES
from birdsearch.search.service.problems import ProblemResponse

__all__ = ["original_response", "parse_range"]

_HEAD_BYTES = 1 << 16
_BLOCK = 1 << 18
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_SUFFIXES = {"JPEG": "jpg", "TIFF": "tif", "HEIF": "heic"}


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the part of a file that a Range header asks for.

    Args:
        header: The header. One that asks for several parts, or is not understood, asks for everything.
        size: Bytes of the file.

    Returns:
        The first byte and the one after the last, or None for everything.

    Raises:
        ValueError: No byte of the file is in the range.
    """
    match = None if header is None else _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), size if not last else min(int(last) + 1, size)
        if last and int(last) < int(first):
            return None
    if start >= stop:
        raise ValueError(f"no byte of {size} is in {header}")
    return start, stop


def original_response(found: PhotoContent, headers: Headers) -> Response | None:
    """Return a photo's file as a response.

    Args:
        found: The photo.
        headers: Those of the request: Range, If-Range and If-None-Match count.

    Returns:
        The response (200, 206, 304 or 416); None if no file of it is there, has the size that it had, and is a
        picture by its content.
    """
    for index, path in enumerate(found.paths):
        descriptor = open_inside(path, found.roots)
        if descriptor is None:
            continue
        try:
            status = os.fstat(descriptor)
            size = status.st_size
            head = os.pread(descriptor, _HEAD_BYTES, 0)
            # The name tells camera RAW files from TIFFs.
            suffix = os.path.splitext(os.fsdecode(path))[1].lower()  # noqa: PTH122
            media_type = IMAGE_TYPES.get(sniff(head, suffix))
            if media_type is None or size != (found.sizes[index] if found.sizes else found.size):
                continue
            # Files of one picture differ in their metadata, and an edit of it may leave the size.
            etag = f'"{found.digest.hex()[:32]}-{size:x}-{status.st_mtime_ns:x}"'
            response = _response(found, headers, descriptor, size, media_type, etag)
            descriptor = -1 if isinstance(response, _FilePart) else descriptor
            return response
        finally:
            if descriptor >= 0:
                os.close(descriptor)
    return None


def _response(
    found: PhotoContent, headers: Headers, descriptor: int, size: int, media_type: str, etag: str
) -> Response:
    sent = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=86400",
        # A name of our own: the file's could be anything.
        "Content-Disposition": f'inline; filename="photo-{found.photo_id}.'
        f'{_SUFFIXES.get(found.format, found.format.lower())}"',
    }
    known = headers.get("if-none-match", "")
    if etag in [tag.strip().removeprefix("W/") for tag in known.split(",")] or known.strip() == "*":
        return Response(status_code=304, headers=sent)
    asked = headers.get("range") if headers.get("if-range", etag) == etag else None
    try:
        part = parse_range(asked, size)
    except ValueError as error:
        return ProblemResponse(416, str(error), headers={"Content-Range": f"bytes */{size}"})
    start, stop = (0, size) if part is None else part
    sent["Content-Length"] = str(stop - start)
    if part is not None:
        sent["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return _FilePart(descriptor, start, stop, 200 if part is None else 206, sent, media_type)


class _FilePart(StreamingResponse):
    """A part of an open file, which is closed at the end, whatever that is."""

    def __init__(
        self, descriptor: int, start: int, stop: int, status: int, headers: dict[str, str], media_type: str
    ) -> None:
        super().__init__(_blocks(descriptor, start, stop), status, headers, media_type)
        self._descriptor = descriptor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self._descriptor)


def _blocks(descriptor: int, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes from `start` to before `stop`."""
    while start < stop:
        block = os.pread(descriptor, min(_BLOCK, stop - start), start)
        if not block:
            # It was cut meanwhile: the client sees that bytes are missing.
            return
        yield block
        start += len(block)
