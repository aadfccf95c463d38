"""Verifying one photo after the other by the keyboard."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import Page, expect

from birdsearch import Client
from birdsearch.indexer.catalog.filters import Where

if TYPE_CHECKING:
    from tests.browser.conftest import Gallery, OpenPage, Until


def _photo(page: Page) -> int:
    """The photo that is decided on now."""
    link = page.get_by_role("complementary").get_by_role("link", name=re.compile(r"^Photo #\d+$"))
    return int(link.inner_text().partition("#")[2])


def _decide(page: Page, key: str) -> int:
    """Press a key of a decision; gives the photo that it was about, once another one is on show."""
    before = _photo(page)
    page.keyboard.press(key)
    expect(page.get_by_role("link", name=f"Photo #{before}", exact=True)).to_have_count(0)
    return before


def test_each_decision_is_one_key_and_each_can_be_taken_back(
    gallery: Gallery, open_page: OpenPage, until: Until, truth: list[dict[str, str]]
) -> None:
    page = open_page(gallery.at("label"))
    page.get_by_role("button", name=re.compile("^Accept")).wait_for()
    undo = page.get_by_role("button", name=re.compile("^Undo"))
    expect(undo).to_be_disabled()
    with Client(gallery.url) as client:
        before = client.photo_ids(Where(verified=True))
        first = _photo(page)
        proposed = page.get_by_role("complementary").get_by_role("heading", level=1).inner_text()
        accepted = _decide(page, "Enter")
        assert accepted == first
        rejected = _decide(page, "r")
        uncertain = _decide(page, "u")
        skipped = _decide(page, "s")
        corrected = _photo(page)
        other = truth[0]["common_name"]
        page.keyboard.press("c")
        field = page.get_by_role("combobox", name="It is a")
        expect(field).to_be_focused()
        field.press_sequentially(other)
        expect(page.get_by_role("option", name=other).first).to_have_attribute("aria-selected", "true")
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name=f"Photo #{corrected}", exact=True)).to_have_count(0)
        expect(page.get_by_text(re.compile(r"^4 decided"))).to_be_visible()

        def labels(photo_id: int) -> list[tuple[str, str]]:
            return [(label.taxon, label.verdict) for label in client.photo(photo_id).verified]

        until(
            page,
            "(id) => fetch(`/api/photos/${id}`).then((answer) => answer.json())"
            ".then((photo) => photo.verified.length > 0)",
            corrected,
        )
        assert labels(accepted) == [(proposed.rstrip("?"), "positive")]
        assert [verdict for _, verdict in labels(rejected)] == ["negative"]
        assert [verdict for _, verdict in labels(uncertain)] == ["uncertain"]
        assert labels(skipped) == []
        assert labels(corrected) == [(other, "positive")]
        assert len(client.photo_ids(Where(verified=True))) == len(before) + 2

        for photo_id in (corrected, skipped, uncertain, rejected, accepted):
            page.keyboard.press("z")
            expect(page.get_by_role("link", name=f"Photo #{photo_id}", exact=True)).to_be_visible()
        expect(undo).to_be_disabled()
        until(
            page,
            "(id) => fetch(`/api/photos/${id}`).then((answer) => answer.json())"
            ".then((photo) => photo.verified.length === 0)",
            accepted,
        )
        assert client.photo_ids(Where(verified=True)) == before


def test_the_keys_are_explained_and_a_dialog_takes_them(gallery: Gallery, open_page: OpenPage) -> None:
    page = open_page(gallery.at("label"))
    page.get_by_role("button", name=re.compile("^Accept")).wait_for()
    shown = _photo(page)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="One key a decision")
    expect(dialog).to_be_visible()
    page.keyboard.press("r")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert _photo(page) == shown
    expect(page.get_by_role("button", name=re.compile("^Undo"))).to_be_disabled()
