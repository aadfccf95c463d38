"""Finding photos by one that is dropped, picked or in the catalog, and steering by examples."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import Page, expect

if TYPE_CHECKING:
    from tests.browser.conftest import Gallery, OpenPage, Until

# What a drag from outside of the browser ends in.
_DROP = """
([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type: "image/jpeg" }));
  for (const type of ["dragenter", "dragover", "drop"]) {
    document.getElementById("main").dispatchEvent(
      new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }),
    );
  }
}
"""


def _a_jpeg(gallery: Gallery, truth: list[dict[str, str]]) -> tuple[Path, str]:
    """A photo of the archive, and the species of which the archive has the most frames."""
    species = [row["common_name"] for row in truth if row["known"] == "1"]
    most = max(sorted(set(species)), key=species.count)
    row = next(row for row in truth if row["common_name"] == most and row["path"].lower().endswith("jpg"))
    return gallery.archive / row["path"], most


def _similarities(page: Page) -> list[float]:
    badges = page.locator(".hits .badge").all_inner_texts()
    return [float(re.sub(r"[^0-9.]", "", text.replace("Similarity", ""))) for text in badges]


def test_a_dropped_photo_finds_its_like(
    gallery: Gallery, open_page: OpenPage, truth: list[dict[str, str]]
) -> None:
    path, species = _a_jpeg(gallery, truth)
    page = open_page(gallery.at("find"))
    page.get_by_text("Drop a photo here").wait_for()
    page.evaluate(_DROP, [path.name, base64.b64encode(path.read_bytes()).decode()])
    page.locator(".hits .tile").first.wait_for()
    expect(page).to_have_url(re.compile("upload"))
    shown = _similarities(page)
    assert len(shown) > 10
    assert shown == sorted(shown, reverse=True)
    expect(page.locator(".hits .species").first).to_contain_text(species)
    expect(page.get_by_role("complementary")).to_contain_text(species)


def test_a_photo_is_picked_from_a_file(
    gallery: Gallery, open_page: OpenPage, truth: list[dict[str, str]]
) -> None:
    path, species = _a_jpeg(gallery, truth)
    page = open_page(gallery.at("find"))
    page.get_by_label("Choose a photo").set_input_files(path)
    page.locator(".hits .tile").first.wait_for()
    expect(page.locator(".hits .species").first).to_contain_text(species)
    # A photo from outside does not outlive its window, and the page says so.
    page.reload()
    expect(page.get_by_text("The photo is no longer here")).to_be_visible()


def test_a_file_that_is_no_photo_is_told_and_the_next_search_works(
    gallery: Gallery, open_page: OpenPage, truth: list[dict[str, str]], tmp_path: Path
) -> None:
    path, species = _a_jpeg(gallery, truth)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(path.read_bytes()[:500])
    page = open_page(gallery.at("find"), allow="422|ApiError")
    page.get_by_label("Choose a photo").set_input_files(broken)
    expect(page.get_by_role("alert")).to_contain_text("That did not work")
    page.goto(gallery.at("find"))
    page.get_by_label("Choose a photo").set_input_files(path)
    expect(page.locator(".hits .species").first).to_contain_text(species)


def test_a_box_is_drawn_with_the_pointer_and_with_keys(gallery: Gallery, open_page: OpenPage) -> None:
    page = open_page(gallery.at("find?photo=3"))
    page.locator(".hits .tile").first.wait_for()
    whole = _similarities(page)
    picture = page.locator(".region img")
    box = picture.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.8, steps=5)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"box=0\.2\d*(,|%2C)0\.2\d*(,|%2C)0\.[45]\d*(,|%2C)0\.[56]\d*"))
    page.locator(".hits[aria-busy]").wait_for(state="detached")
    page.locator(".hits .tile").first.wait_for()
    assert _similarities(page) != whole
    region = page.get_by_role("application")
    region.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"box=0\.2[12]"))
    page.get_by_role("button", name="Whole photo").click()
    expect(page).not_to_have_url(re.compile("box="))
    page.locator(".hits .tile").first.wait_for()
    assert _similarities(page) == whole


def test_filters_are_chips_that_can_be_taken_away(
    gallery: Gallery, open_page: OpenPage, until: Until
) -> None:
    page = open_page(gallery.at("find?photo=3"))
    page.locator(".hits .tile").first.wait_for()
    everything = len(_similarities(page))
    page.get_by_role("button", name="Filter", exact=True).click()
    dialog = page.get_by_role("dialog", name="Which photos")
    dialog.get_by_label("Labels").select_option(label="Verified")
    dialog.get_by_role("button", name="Show these").click()
    chip = page.get_by_role("list", name="Filters").get_by_text("Verified")
    expect(chip).to_be_visible()
    expect(page.locator(".hits .tile .mark").first).to_be_visible()
    until(page, "(most) => document.querySelectorAll('.hits > li').length < most", everything)
    page.reload()
    expect(chip).to_be_visible()
    page.get_by_role("button", name="Remove filter: Verified").click()
    expect(page.locator(".hits > li")).to_have_count(everything)


def test_plus_and_minus_examples_steer_the_search(gallery: Gallery, open_page: OpenPage) -> None:
    page = open_page(gallery.at("find?photo=3"))
    page.locator(".hits .tile").first.wait_for()
    before = _hrefs(page)
    page.locator(".hits > li").first.get_by_role("button", name=re.compile("^More like")).click()
    expect(page.get_by_role("list", name="More like").locator("li")).to_have_count(1)
    page.locator(".hits .tile").first.wait_for()
    page.locator(".hits > li").last.get_by_role("button", name=re.compile("^Less like")).click()
    expect(page.get_by_role("list", name="Less like").locator("li")).to_have_count(1)
    page.locator(".hits .tile").first.wait_for()
    after = _hrefs(page)
    assert before[0] not in after
    assert before[-1] not in after
    expect(page).to_have_url(re.compile("like=.*unlike="))
    page.go_back()
    expect(page.get_by_role("list", name="Less like")).to_have_count(0)
    page.get_by_role("button", name=re.compile("^Remove example")).click()
    expect(page.get_by_role("list", name="More like")).to_have_count(0)
    page.locator(".hits .tile").first.wait_for()
    assert _hrefs(page) == before


def _hrefs(page: Page) -> list[str | None]:
    return [link.get_attribute("href") for link in page.locator(".hits a.tile").all()]
