"""The options that a service was started with."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from birdsearch.errors import InvalidInputError

__all__ = ["ServeOptions", "is_loopback"]

# Where others can try to guess it.
_SHORTEST_TOKEN = 16


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine alone."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Options of a service.

    Attributes:
        catalog: The catalog's folder.
        host: Name or address that is listened on.
        port: Port that is listened on; 0 takes a free one.
        token: What a client has to show, or None where only this machine can connect.
        allowed_hosts: Names, beside those of this machine and `host`, by which the service may be called.
        originals: Serve the photos themselves, not only thumbnails of them.
        apply: Let clients move copies to the quarantine.
        exact_places: Show the places of sensitive species as they are.
        show_paths: Show absolute paths.
        read_only: Change nothing in the catalog.
        max_upload_mb: Largest body of a request, in MB (10^6 bytes).
        max_requests: Requests that are answered at once; more are asked to come again.
        thumbs_mb: Room for thumbnails on disk, in MB.
        who: Author of labels that do not name one.

    Raises:
        InvalidInputError: A value is outside its limits, or others could connect without a token.
    """

    catalog: Path
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    originals: bool = False
    apply: bool = False
    exact_places: bool = False
    show_paths: bool = False
    read_only: bool = False
    max_upload_mb: int = 64
    max_requests: int = 64
    thumbs_mb: int = 2048
    who: str = "gallery"

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InvalidInputError(f"port must be 0 to 65535, got {self.port}")
        for name in ("max_upload_mb", "max_requests"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.thumbs_mb < 0:
            raise InvalidInputError(f"thumbs_mb must be at least 0, got {self.thumbs_mb}")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token):
            raise InvalidInputError("the token must be printable ASCII and not empty")
        if self.token is not None and len(self.token) < _SHORTEST_TOKEN and not is_loopback(self.host):
            raise InvalidInputError(
                f"the token has {len(self.token)} characters and {self.host} can be reached from other machines: "
                f"it has to have at least {_SHORTEST_TOKEN}; `openssl rand -hex 32` makes one"
            )
        if self.token is None and not is_loopback(self.host):
            raise InvalidInputError(
                f"{self.host} can be reached from other machines, so a token is needed: pass --token-file FILE "
                "or set BIRDSEARCH_TOKEN; 127.0.0.1 needs none"
            )
