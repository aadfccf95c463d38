"""Pictures while the service is busy: they come later, and those that nobody looks at are given up."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from tests.browser.conftest import Gallery, OpenPage, Until

_THUMBS = "**/api/photos/*/thumb?*"
_WELLS = "document.querySelectorAll('.grid .well')"
_EVERY = f"() => {{ const wells = [...{_WELLS}]; return wells.length > 0 && wells.every((one) => %s) }}"
_ALL_THERE = _EVERY % "one.querySelector('img')?.naturalWidth > 0"
_ALL_BROKEN = _EVERY % "one.matches('.broken')"


def _opened(open_page: OpenPage, allow: str) -> Page:
    """A page that shows nothing yet, so that its requests can be met."""
    return open_page("about:blank", allow=allow)


def test_pictures_that_were_refused_while_the_service_was_busy_come_later(
    gallery: Gallery, open_page: OpenPage, until: Until
) -> None:
    page = _opened(open_page, "503")
    asked: Counter[str] = Counter()

    def busy(route: Route) -> None:
        url = route.request.url
        asked[url] += 1
        if asked[url] <= 2:
            route.fulfill(status=503, headers={"Retry-After": "1"}, body="busy")
        else:
            route.continue_()

    page.route(_THUMBS, busy)
    page.goto(gallery.at("photos"))
    until(page, _ALL_THERE)
    assert page.locator(".grid .broken").count() == 0
    assert set(asked.values()) == {3}


def test_a_picture_that_is_not_there_is_said_to_be_missing_at_once(
    gallery: Gallery, open_page: OpenPage, until: Until
) -> None:
    page = _opened(open_page, "404")
    asked: Counter[str] = Counter()

    def gone(route: Route) -> None:
        asked[route.request.url] += 1
        route.fulfill(status=404, body="gone")

    page.route(_THUMBS, gone)
    page.goto(gallery.at("photos"))
    until(page, _ALL_BROKEN)
    assert set(asked.values()) == {2}


def test_a_picture_that_left_the_page_is_not_asked_for_again(gallery: Gallery, open_page: OpenPage) -> None:
    page = _opened(open_page, "503")
    asked: list[str] = []

    def busy(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=503, headers={"Retry-After": "1"}, body="busy")

    page.route(_THUMBS, busy)
    page.goto(gallery.at("photos"))
    page.locator(".grid img").first.wait_for(state="attached")
    page.wait_for_timeout(500)
    assert asked
    # Of copies that were found before, that page would ask for pictures of its own.
    page.route("**/api/duplicates*", lambda route: route.fulfill(status=503, body="busy"))
    page.goto(gallery.at("copies"))
    page.locator(".grid").wait_for(state="detached")
    # What was under way when the page was left still comes in, on a slow machine for seconds.
    seen = -1
    while seen < (now := len([url for url in asked if "size=160" not in url])):
        seen = now
        page.wait_for_timeout(3000)
    # Longer than there is between two of the first tries.
    page.wait_for_timeout(6000)
    assert len([url for url in asked if "size=160" not in url]) == seen
