"""Web pages that stand alone: no file beside them, nothing fetched, and no script but one that the page names."""

from __future__ import annotations

import base64
import hashlib
from html import escape

__all__ = ["data_uri", "whole_page"]

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def whole_page(title: str, style: str, body: str, script: str = "") -> str:
    """A page with a title, which is escaped, a style sheet, and a body, which is HTML.

    A script runs after the body is there. The page's policy allows it by its hash and no other, so that nothing in
    the body can run.
    """
    title = escape(title)
    policy = _POLICY
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        policy += f"; script-src 'sha256-{digest}'"
        body += f"\n<script>{script}</script>"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
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
