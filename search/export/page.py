"""Web pages that stand alone: no file beside them, nothing fetched, and no script but one that the page names."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL import Image

__all__ = ["data_uri", "jpeg_uri", "read_asset", "render"]

_TEMPLATES = Path(__file__).parent / "templates"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render(template: str, *, title: str, script: str = "", **values: Any) -> bytes:
    """Return a page as UTF-8.

    Every text among the values is escaped. The page's policy allows the script by its hash and no other, so that
    nothing else on the page can run.

    Args:
        template: Name of a template that extends `page.html`.
        title: Title and first heading of the page.
        script: Source of the script that runs once the page is there; empty for none.
        **values: What the template shows.
    """
    policy = _POLICY
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        policy += f"; script-src 'sha256-{digest}'"
    page = _environment().get_template(template)
    # A path that is not UTF-8 has lone surrogates.
    return page.render(title=title, policy=policy, script=script, **values).encode(
        "utf-8", "backslashreplace"
    )


def read_asset(name: str) -> str:
    """Return the text of a style sheet or script among the templates."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def data_uri(content: bytes, kind: str) -> str:
    """Return a picture as a link that holds it; `kind` is `png` or `jpeg`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def jpeg_uri(image: Image.Image, quality: int = 84) -> str:
    """Return an image as a JPEG in a link that holds it."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return data_uri(buffer.getvalue(), "jpeg")


@functools.cache
def _environment() -> Environment:
    # Jinja takes 40 ms to load, and most commands write no page.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.globals["style"] = lambda name: Markup(read_asset(name))  # noqa: S704 our own file
    return environment
