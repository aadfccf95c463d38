"""Copies: looking for them, deciding on them, moving them away and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import Page, expect

from birdsearch import Client

if TYPE_CHECKING:
    from tests.browser.conftest import Gallery, OpenPage

# Looking at all photos, on a machine that does other things.
_SEARCH_MS = 90_000


def _searched(gallery: Gallery, open_page: OpenPage) -> Page:
    """The page, after a search if there was none before."""
    page = open_page(gallery.at("copies"))
    find = page.get_by_role("button", name="Find copies")
    count = page.locator("#copies-count")
    find.or_(count).first.wait_for()
    if find.is_visible():
        find.click()
        count.wait_for(timeout=_SEARCH_MS)
    return page


def test_copies_are_found_compared_and_decided_on_by_keys(gallery: Gallery, open_page: OpenPage) -> None:
    page = _searched(gallery, open_page)
    count = page.locator("#copies-count")
    expect(count).to_have_text(re.compile(r"^1 of \d+$"))
    with Client(gallery.url) as client:
        groups = client.duplicates().groups
        expect(count).to_have_text(f"1 of {len(groups)}")
        at = next(place for place, group in enumerate(groups) if not group.exact and len(group.files) == 2)
        for _ in range(at):
            page.keyboard.press("ArrowRight")
        expect(count).to_have_text(f"{at + 1} of {len(groups)}")
        kept, other = groups[at].files
        expect(page.locator(".copies > .copy")).to_have_count(2)

        page.keyboard.press("2")
        page.keyboard.press("k")
        undo = page.get_by_role("button", name=re.compile("^Undo"))
        expect(undo).to_be_enabled()
        assert _kept(client, groups[at].id) == other.photo_id
        page.keyboard.press("u")
        expect(undo).to_be_disabled()
        assert _kept(client, groups[at].id) == kept.photo_id

        expect(count).to_have_text(f"{at + 1} of {len(groups)}")
        page.keyboard.press("d")
        expect(undo).to_be_enabled()
        page.keyboard.press("u")
        expect(undo).to_be_disabled()

        zoom = page.get_by_role("status").filter(has_text="%")
        before = zoom.inner_text()
        page.keyboard.press("+")
        expect(zoom).not_to_have_text(before)


def _kept(client: Client, group_id: int) -> int:
    group = next(group for group in client.duplicates().groups if group.id == group_id)
    return next(file.photo_id for file in group.files if file.role == "keep")


def test_copies_are_moved_to_quarantine_and_back(gallery: Gallery, open_page: OpenPage) -> None:
    page = _searched(gallery, open_page)
    before = sorted(path for path in gallery.archive.rglob("*") if path.is_file())
    page.get_by_role("button", name="Move copies to quarantine").click()
    dialog = page.get_by_role("dialog", name="Move copies to quarantine?")
    expect(dialog).to_contain_text("Nothing is deleted")
    dialog.get_by_role("button", name="Move them").click()
    expect(page.locator("#toasts")).to_contain_text("moved to quarantine", timeout=_SEARCH_MS)
    moved = set(before) - set(gallery.archive.rglob("*"))
    assert moved
    page.get_by_role("button", name="Take back the last move").or_(
        page.get_by_role("button", name="Take it back")
    ).first.click()
    expect(page.locator("#toasts")).to_contain_text("where they were", timeout=_SEARCH_MS)
    assert all(path.is_file() for path in before)
