"""A gallery with a token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from tests.browser.conftest import OpenPage, Until

_PICTURE = "() => [...document.querySelectorAll('.grid img')].some((img) => img.naturalWidth > 0)"


@pytest.fixture
def locked(catalog: Path) -> Iterator[str]:
    """The address of a gallery with a token; before `open_page`, so that it outlives the pages."""
    from tests.browser.conftest import serving

    with serving(catalog, "--read-only", token="sesame") as url:
        yield url


def test_the_token_is_asked_for_once_and_kept_as_a_session(
    locked: str, open_page: OpenPage, until: Until
) -> None:
    page = open_page(f"{locked}/#/photos", allow="401")
    dialog = page.get_by_role("dialog", name="This gallery is locked")
    dialog.get_by_label("Token").fill("another")
    dialog.get_by_role("button", name="Open the gallery").click()
    expect(dialog.get_by_role("alert")).to_contain_text("not the one")
    dialog.get_by_label("Token").fill("sesame")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    until(page, _PICTURE)
    page.reload()
    page.locator(".grid img").first.wait_for()
    expect(dialog).to_have_count(0)
    cookies = page.context.cookies()
    assert [(cookie["name"], cookie["httpOnly"], cookie["sameSite"]) for cookie in cookies] == [
        ("birdsearch_session", True, "Strict")
    ]
    assert "sesame" not in cookies[0]["value"]
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert "sesame" not in stored
    stranger = open_page(f"{locked}/#/photos", allow="401")
    expect(stranger.get_by_role("dialog", name="This gallery is locked")).to_be_visible()
