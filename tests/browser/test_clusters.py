"""Clusters: finding, naming and labelling them; the map with its lasso."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from birdsearch import Client

if TYPE_CHECKING:
    from tests.browser.conftest import Gallery, OpenPage

_JOB_MS = 120_000


def _clustered(gallery: Gallery, open_page: OpenPage) -> Page:
    """The page, after clustering if there are no clusters yet."""
    page = open_page(gallery.at("clusters"))
    find = page.get_by_role("button", name="Find clusters")
    sheets = page.locator(".sheets .sheet")
    find.or_(sheets.first).first.wait_for()
    if find.is_visible():
        find.click()
        sheets.first.wait_for(timeout=_JOB_MS)
    return page


def test_clusters_are_found_named_and_the_name_taken_back(gallery: Gallery, open_page: OpenPage) -> None:
    page = _clustered(gallery, open_page)
    sheets = page.locator(".sheets .sheet")
    assert sheets.count() > 1
    # What is in no cluster comes last, however much that is.
    found = sheets.filter(has=page.get_by_role("heading", name=re.compile(r"^Cluster \d+$")))
    sizes = [int(re.sub(r"\D", "", text)) for text in found.locator(".sheet-head .spacer").all_inner_texts()]
    assert sizes == sorted(sizes, reverse=True)
    sheets.first.get_by_role("checkbox").check()
    page.get_by_role("toolbar", name="Selected clusters").get_by_role("button", name="Name").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("by the pond")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("link", name="by the pond")).to_be_visible()
    page.get_by_role("button", name="Undo the last edit").click()
    expect(page.get_by_role("link", name="by the pond")).to_have_count(0)


def test_photos_are_unticked_and_taken_out_of_a_cluster(gallery: Gallery, open_page: OpenPage) -> None:
    page = _clustered(gallery, open_page)
    page.locator(".sheets .sheet h2 a").first.click()
    members = page.locator(".members > li")
    members.first.wait_for()
    before = members.count()
    page.get_by_role("button", name="Tick all").click()
    members.nth(0).get_by_role("checkbox").uncheck()
    page.get_by_role("button", name="Take 1 unticked out").click()
    expect(members).to_have_count(before - 1)
    page.get_by_role("button", name="Undo the last edit").click()
    expect(members).to_have_count(before)


def test_a_lasso_on_the_map_selects_photos(gallery: Gallery, open_page: OpenPage) -> None:
    pytest.importorskip("pacmap", reason="the map needs pacmap: pip install 'birdsearch[plots]'")
    page = _clustered(gallery, open_page)
    page.get_by_role("link", name="Map", exact=True).click()
    make = page.get_by_role("button", name=re.compile("map", re.IGNORECASE))
    canvas = page.locator("canvas").first
    make.or_(canvas).first.wait_for(timeout=_JOB_MS)
    if not canvas.is_visible():
        make.first.click()
    canvas.wait_for(timeout=_JOB_MS)
    page.get_by_role("button", name="Lasso").click()
    area = canvas.bounding_box()
    assert area is not None
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.03)]
    for number, (x, y) in enumerate(corners):
        page.mouse.move(area["x"] + x * area["width"], area["y"] + y * area["height"], steps=6)
        if number == 0:
            page.mouse.down()
    page.mouse.up()
    with Client(gallery.url) as client:
        everything = client.info().photos
    selected = page.get_by_role("heading", name=f"{everything} photos selected")
    expect(selected).to_be_visible()
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(selected).to_have_count(0)
