"""The gallery's files: those that are there, of types that are known."""

from __future__ import annotations

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

__all__ = ["gallery"]

_FOLDER = Path(__file__).parent / "gallery"

# Said here and not guessed: what a system knows of types differs, and scripts of another type are not run.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if isinstance(response, RedirectResponse):
            # To a folder with a slash at its end; but there is nothing to see in folders.
            raise HTTPException(404)
        if isinstance(response, FileResponse):
            media_type = _TYPES.get(Path(response.path).suffix)
            if media_type is None:
                raise HTTPException(404)
            response.headers["Content-Type"] = media_type
        # Cached, but asked for anew each time: after an update no page is left with half of the old files.
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Below(Mount):
    """Everything but the API, whose unknown paths and methods the API itself has to answer."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = scope.get("path", "")
        if path.startswith("/api/") or path in ("/healthz", "/readyz", "/metrics"):
            return Match.NONE, {}
        return super().matches(scope)


def gallery(folder: Path = _FOLDER) -> Mount:
    """Return the route of the gallery.

    Args:
        folder: Where its files are. Links that lead out of it are not followed.
    """
    return _Below("/", _Files(directory=folder, html=True), name="gallery")
