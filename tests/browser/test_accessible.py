"""No page has what axe-core calls a serious or critical barrier, in the light and in the dark."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page

if TYPE_CHECKING:
    from tests.browser.conftest import Gallery, OpenPage, Until

_PAGES = ("photos", "photo/3", "find", "find?photo=3", "label", "copies", "clusters", "sightings")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", _PAGES)
def test_a_page_bars_nobody(
    gallery: Gallery,
    open_page: OpenPage,
    until: Until,
    barriers: Callable[[Page], list[str]],
    address: str,
    scheme: str,
) -> None:
    page = open_page(gallery.at(address), color_scheme=scheme)
    until(page, "() => document.getElementById('main').innerText.length > 20")
    page.wait_for_load_state("networkidle")
    assert page.title().endswith("birdsearch")
    assert page.locator("h1").count() == 1
    assert barriers(page) == []


@pytest.mark.parametrize("opener", ["Filter", "Jump to a date"])
def test_a_dialog_bars_nobody_and_gives_the_focus_back(
    gallery: Gallery, open_page: OpenPage, barriers: Callable[[Page], list[str]], opener: str
) -> None:
    page = open_page(gallery.at("photos"))
    button = page.get_by_role("button", name=opener, exact=True)
    button.click()
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    assert barriers(page) == []
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert button.evaluate("(button) => button === document.activeElement")
