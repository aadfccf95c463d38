"""Web pages that stand alone: no script, no file beside them, nothing fetched."""

from __future__ import annotations

import base64
from html import escape

__all__ = ["data_uri", "whole_page"]

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def whole_page(title: str, style: str, body: str) -> str:
    """A page with a title, which is escaped, a style sheet, and a body, which is HTML."""
    title = escape(title)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<main>
{body}
</main>
</body>
</html>
"""


def data_uri(content: bytes, kind: str) -> str:
    """A picture as a link that holds it; `kind` is `png` or `jpeg`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
