"""Sightings: finding them, and looking at the photos of one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from birdsearch import Client

if TYPE_CHECKING:
    from tests.browser.conftest import Gallery, OpenPage

_JOB_MS = 90_000


def test_sightings_are_found_and_shown(gallery: Gallery, open_page: OpenPage) -> None:
    page = open_page(gallery.at("sightings"))
    find = page.get_by_role("button", name=re.compile("^Find sightings"))
    shown = page.locator("main img")
    find.or_(shown.first).first.wait_for()
    if find.is_visible():
        find.click()
    shown.first.wait_for(timeout=_JOB_MS)
    with Client(gallery.url) as client:
        sightings = list(client.sightings())
    assert sightings
    named = next(sighting.taxon for sighting in sightings if sighting.taxon)
    expect(page.get_by_role("main")).to_contain_text(named)
