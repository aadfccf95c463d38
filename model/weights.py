"""Published weights by name: where they are, how they are recognised, and how they get onto this machine.

A file is recognised by its SHA-256 before anything parses it. A download appears in the cache whole and
verified, or not at all.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.resources
import os
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

from birdsearch.errors import WeightsError
from birdsearch.settings import Settings
from birdsearch.version import __version__

__all__ = [
    "DEFAULT_WEIGHTS",
    "WEIGHTS",
    "Progress",
    "WeightsEntry",
    "cache_folder",
    "canonical_name",
    "file_sha256",
    "find_local",
    "is_weights_name",
    "refuse_superseded",
    "resolve_weights",
]

Progress = Callable[[int, int | None], None]
"""Called while downloading with the bytes so far and, if the server says, the bytes in all."""

_SUFFIXES = (".pt", ".safetensors")
_CHUNK = 1 << 16
_TIMEOUT_S = 30.0
_STALE_S = 24 * 3600.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """Published weights.

    Attributes:
        name: Name of the weights.
        network: Name of the network variant they belong to.
        url: Where the file is; https, or http on this machine itself. Empty for a file that comes with birdsearch.
        size: Approximate size in bytes.
        sha256: SHA-256 of the file, in lower-case hexadecimal.
        superseded: SHA-256 of earlier files at the same URL, which no longer load.
        classes: Number of classes.
        input_size: (height, width) of the input in pixels.
        licence: SPDX identifier.
        description: One line for a person.
        alias: A shorter name, or empty.
    """

    name: str
    network: str
    url: str
    size: int
    sha256: str
    superseded: tuple[str, ...]
    classes: int
    input_size: tuple[int, int]
    licence: str
    description: str
    alias: str = ""

    @property
    def is_packaged(self) -> bool:
        """True if the file comes with birdsearch."""
        return not self.url

    @property
    def file_name(self) -> str:
        """Name of the file: the last part of the URL."""
        if self.is_packaged:
            return f"{self.name}.pt"
        return urllib.parse.urlsplit(self.url).path.rsplit("/", 1)[-1]


DEFAULT_WEIGHTS = "xcit_nano12_p16_il-common"
"""The weights that are used unless others are named."""

WEIGHTS: Mapping[str, WeightsEntry] = MappingProxyType(
    {
        entry.name: entry
        for entry in [
            WeightsEntry(
                name="xcit_nano12_p16_il-common",
                network="xcit_nano12_p16",
                url="https://huggingface.co/birder-project/xcit_nano12_p16_il-common/resolve/main/"
                "xcit_nano12_p16_il-common.pt",
                size=11_500_000,
                sha256="1b55a77f7a769ed720961d00f2e7c5b45b02f7a3165c1a86527e470a4d9319b4",
                # The edition for birder up to 0.6, whose network was another one under the same name.
                superseded=("f0b1d9b6a39f816b235795155a9afd3fa344ba95bb083d7509d5f4e4d93dde3c",),
                classes=371,
                input_size=(256, 256),
                licence="Apache-2.0",
                description="371 bird species common in Israel, from the birder project",
            ),
            WeightsEntry(
                name="xcit_nano12_p16_demo",
                network="xcit_nano12_p16",
                url="",
                size=6_087_770,
                sha256="aaf13a6912c911c2ab070da031159e95327b625ad456ba29cbc9639d8da3858a",
                superseded=(),
                classes=371,
                input_size=(256, 256),
                licence="Apache-2.0",
                description="371 invented species of the demo archive; knows nothing of real birds",
                alias="demo",
            ),
        ]
    }
)
"""Every published set of weights by name."""


def is_weights_name(value: str | os.PathLike[str], table: Mapping[str, WeightsEntry] = WEIGHTS) -> bool:
    """Return whether a value names published weights rather than a file."""
    return canonical_name(value, table) is not None


def canonical_name(value: str | os.PathLike[str], table: Mapping[str, WeightsEntry] = WEIGHTS) -> str | None:
    """Return the name in the table that a name or an alias means; None for a file."""
    if not isinstance(value, str):
        return None
    if value in table:
        return value
    return next((entry.name for entry in table.values() if entry.alias and entry.alias == value), None)


def cache_folder(settings: Settings) -> Path:
    """Return the folder that downloads go to."""
    return settings.cache / "weights"


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, in lower-case hexadecimal.

    Raises:
        WeightsError: If the file cannot be read.
    """
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{os.fspath(path)} could not be read: {error.strerror or error}") from error


def refuse_superseded(
    path: str | os.PathLike[str], sha256: str, table: Mapping[str, WeightsEntry] = WEIGHTS
) -> None:
    """Raise if a file is an earlier edition of published weights, which does not load any more.

    Raises:
        WeightsError: If it is; the message says what to do.
    """
    for entry in table.values():
        if sha256 in entry.superseded:
            raise WeightsError(
                f"{os.fspath(path)} is a superseded edition of {entry.name} (sha256 {sha256}): it belongs to "
                "an older network of that name, which birder dropped in 0.7 and birdsearch does not have. "
                f"Remove it and run `birdsearch model pull {entry.name}`, or get the current file (sha256 "
                f"{entry.sha256}) from {entry.url}"
            )


def find_local(name: str, settings: Settings, table: Mapping[str, WeightsEntry] = WEIGHTS) -> Path | None:
    """Return the local file of published weights, not verified: from the weights folder, then the cache.

    One that comes with birdsearch is looked for there only.
    """
    for folder in [_packaged()] if table[name].is_packaged else _folders(settings):
        path = folder / table[name].file_name
        if path.is_file():
            return path
    return None


def resolve_weights(
    name_or_path: str | os.PathLike[str],
    settings: Settings,
    *,
    download: bool,
    progress: Progress | None = None,
    table: Mapping[str, WeightsEntry] = WEIGHTS,
) -> Path:
    """Find a weights file, and fetch it if it is published, not on this machine, and that is allowed.

    A path is used as it is. A name is looked for in `settings.weights_dir`, then in the cache, and its file
    is verified by SHA-256. Proxies are taken from the environment.

    Args:
        name_or_path: Name of published weights, or a `.pt` or `.safetensors` file.
        settings: Folders to look in.
        download: Whether the file may be fetched.
        progress: Called while downloading.
        table: Published weights.

    Returns:
        The file.

    Raises:
        WeightsError: If there is no such name or file, the file is another than the published one, or it
            cannot be fetched. Nothing is left in the cache then.
    """
    name = canonical_name(name_or_path, table)
    if name is None:
        return _given_file(name_or_path, table)
    entry = table[name]
    cached = cache_folder(settings) / entry.file_name
    path = find_local(entry.name, settings, table)
    if path is not None:
        sha256 = file_sha256(path)
        if sha256 == entry.sha256:
            return path
    if entry.is_packaged:
        raise WeightsError(
            f"{_packaged() / entry.file_name}, which comes with birdsearch, is "
            f"{'not there' if path is None else 'damaged'}; install birdsearch again"
        )
    if path is not None and (path != cached or not download):
        refuse_superseded(path, sha256, {entry.name: entry})
        raise WeightsError(
            f"{path} is not {entry.name}: its sha256 is {sha256}, expected {entry.sha256}. Remove it, or "
            "name it with --weights FILE if it is meant to be used."
        )
    if not download:
        raise WeightsError(f"{entry.file_name} is not on this machine. {_how_to_get(entry, settings)}")
    _download(entry, cached, settings, progress)
    return cached


def _packaged() -> Path:
    """Return the folder of the weights that come with birdsearch; package data, never inside an archive."""
    return Path(str(importlib.resources.files("birdsearch.data"))) / "weights"


def _folders(settings: Settings) -> list[Path]:
    return [*([settings.weights_dir] if settings.weights_dir else []), cache_folder(settings)]


def _given_file(name_or_path: str | os.PathLike[str], table: Mapping[str, WeightsEntry]) -> Path:
    path = Path(name_or_path).expanduser()
    if path.suffix not in _SUFFIXES:
        raise WeightsError(
            f"{os.fspath(name_or_path)!r} is neither the name of published weights ({', '.join(table)}) nor "
            f"a file that ends in {' or '.join(_SUFFIXES)}"
        )
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    return path


def _how_to_get(entry: WeightsEntry, settings: Settings) -> str:
    return (
        f"Get it with `birdsearch model pull {entry.name}`; or, for a machine with no network, fetch "
        f"{entry.url} elsewhere and name the file with --weights FILE, put it into a folder that "
        f"BIRDSEARCH_WEIGHTS_DIR names, or put it at {cache_folder(settings) / entry.file_name}. "
        "`birdsearch demo` needs no other weights than those that come with birdsearch"
    )


def _download(entry: WeightsEntry, target: Path, settings: Settings, progress: Progress | None) -> None:
    _check_scheme(entry.url, entry.url)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise WeightsError(f"{target.parent} cannot be written to: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            sha256 = _fetch(entry, stream, progress)
            stream.flush()
            os.fsync(stream.fileno())
        if sha256 != entry.sha256:
            refuse_superseded(entry.url, sha256, {entry.name: entry})
            raise WeightsError(
                f"what {entry.url} sent is not {entry.name}: its sha256 is {sha256}, expected "
                f"{entry.sha256}. Nothing was kept."
            )
        temporary.replace(target)
        _sync_folder(target.parent)
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(
            f"{entry.file_name} is not on this machine and could not be fetched ({_cause(error)}). "
            f"{_how_to_get(entry, settings)}"
        ) from error
    finally:
        # Also after an interrupt; after the rename there is nothing left under this name.
        temporary.unlink(missing_ok=True)


def _fetch(entry: WeightsEntry, stream: IO[bytes], progress: Progress | None) -> str:
    """Copy the file to a stream and return its SHA-256."""
    request = urllib.request.Request(entry.url, headers={"User-Agent": f"birdsearch/{__version__}"})  # noqa: S310
    opener = urllib.request.build_opener(_SafeRedirects(entry.url))
    limit = 2 * entry.size
    digest = hashlib.sha256()
    received = 0
    with opener.open(request, timeout=_TIMEOUT_S) as response:
        if response.headers.get_content_type() == "text/html":
            raise WeightsError(
                f"{entry.url} answered with a web page instead of the weights; a proxy or a sign-in page may "
                "stand in between. Nothing was kept."
            )
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        if total is not None and total > limit:
            raise WeightsError(f"{entry.url} would send {total} bytes, expected about {entry.size}")
        while chunk := response.read(_CHUNK):
            if not received and chunk.lstrip()[:1] == b"<":
                raise WeightsError(
                    f"{entry.url} answered with a web page instead of the weights; nothing was kept"
                )
            received += len(chunk)
            if received > limit:
                raise WeightsError(f"{entry.url} sends more than {limit} bytes, expected about {entry.size}")
            digest.update(chunk)
            stream.write(chunk)
            if progress is not None:
                progress(received, total)
    if total is not None and received < total:
        raise WeightsError(
            f"the download of {entry.url} ended after {received} of {total} bytes; nothing was kept, so try "
            "again"
        )
    return digest.hexdigest()


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from an encrypted connection to a plain one."""

    def __init__(self, url: str) -> None:
        self._origin = url

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check_scheme(newurl, self._origin)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str, origin: str) -> None:
    parts = urllib.parse.urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if parts.scheme != "https" and not (local and urllib.parse.urlsplit(origin).scheme == "http"):
        raise WeightsError(f"weights are fetched over https only, not from {url}")


def _cause(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def _remove_stale(target: Path) -> None:
    """Remove what a killed download left, once no other process can still be writing it."""
    for part in target.parent.glob(f".{target.name}.*.part"):
        if time.time() - part.stat().st_mtime > _STALE_S:
            part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
