"""Everything can be reached and read: on a phone, with the keyboard alone, in the dark."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browsing import Tabs, go, log_in
from tests.dashboard.sites import Site

LONG: Final = "a-rather-long-name-without-any-space-" * 3

# Every text against what is behind it: WCAG AA asks for 4.5 to 1, and for 3 to 1 where it is large.
CONTRASTS: Final = r"""() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = rgba(getComputedStyle(node).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const svg = node.ownerSVGElement !== null && node.ownerSVGElement !== undefined;
    const [a, b] = [light(rgba(svg ? style.fill : style.color)), light(behind(node))].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.push(`${walker.currentNode.data.trim().slice(0, 40)} ${ratio.toFixed(2)}`);
  }
  return found;
}"""

NAMELESS: Final = """() => [...document.querySelectorAll("button, input, select, a[href], [tabindex='0']")]
  .filter((node) => node.checkVisibility() && !node.getAttribute("aria-label") && !node.textContent.trim()
    && !(node.labels && node.labels.length) && !node.getAttribute("aria-labelledby"))
  .map((node) => node.outerHTML.slice(0, 200))"""

TARGETS: Final = """() => [...document.querySelectorAll("button, a[href], input, select, summary")]
  .filter((node) => node.checkVisibility() && !node.closest("svg, p, td, dd, dt, .strip") && !node.matches(".skip"))
  .filter((node) => { const box = node.getBoundingClientRect(); return box.width && (box.width < 24 || box.height < 24); })
  .map((node) => `${node.outerHTML.slice(0, 100)} ${node.getBoundingClientRect().height}`)"""


# Notes what gets the focus, and what of that does not show it.
WALKED: Final = """() => {
  [window.reached, window.unseen] = [[], []];
  if (window.walking) return;
  window.walking = true;
  addEventListener("focusin", ({ target: node }) => {
    const style = getComputedStyle(node), mark = node.querySelector("circle");
    const seen = style.outlineStyle !== "none" || (mark && parseFloat(getComputedStyle(mark).strokeWidth) > 2);
    if (node.dataset.walk === undefined) return;
    window.reached.push(node.dataset.walk);
    if (!seen) window.unseen.push(node.outerHTML.slice(0, 120));
  });
}"""

WIDTHS: Final = (360, 700, 768, 900, 1024, 1280)
# How tall the bar is with the longest name of an app in it, and while it connects.
FULL_BAR: Final = """() => {
  document.querySelector(".brand bdi").textContent = "m".repeat(40);
  document.querySelector(".live .word").textContent = "Connecting";
  return document.querySelector(".bar").offsetHeight;
}"""
# Cells that lie outside what is seen of their strip, and names of crons that have no room.
SQUEEZED: Final = """() => {
  const outside = [...document.querySelectorAll("td .cell")].filter((cell) => {
    const [own, box] = [cell.getBoundingClientRect(), cell.closest("td").getBoundingClientRect()];
    return own.left < box.left - 4 || own.right > box.right + 4 || own.right > innerWidth;
  });
  const narrow = [...document.querySelectorAll("main > div > table td.wide")].filter((cell) => cell.clientWidth < 150);
  return [...outside, ...narrow].map((node) => node.outerHTML.slice(0, 90));
}"""


@pytest.fixture
def places(site: Site) -> list[str]:
    """Fill a site with something for every page, and return where to look at it."""
    failed = site.ended("desk:refuse", {"message": LONG})
    site.ended("desk:note", {"text": LONG})
    waits = site.job("desk:note", {"text": LONG}, after=60, key=LONG)
    site.cron(LONG, description=LONG)
    site.run(site.app.crons.run_now(LONG))
    site.run(site.app.crons.pause("tidy", note=LONG))
    for _ in range(3):
        site.job("desk:hold")
    return [
        "#/", "#/jobs", "#/jobs?state=failed", f"#/jobs/{failed}", f"#/jobs/{waits}", "#/crons", f"#/crons?name={LONG}",
        "#/crons?name=tidy", "#/pools", "#/health", "#/jobs/none",
    ]  # fmt: skip


def settled(page: Page, where: str) -> None:
    """Go somewhere, and wait until all that is asked for there has been answered."""
    go(page, where)
    page.wait_for_function("() => document.querySelector('main h1') && !document.querySelector('main [aria-busy]')")
    expect(page.locator("main").get_by_text("…", exact=True)).to_have_count(0)
    expect(page.get_by_text("Examining…")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_has_contrast_and_all_controls_have_names(
    site: Site, places: list[str], tabs: Tabs, theme: Any
) -> None:
    page = tabs.open(color_scheme=theme)
    page.goto(site.page)
    page.wait_for_selector("#key")
    found = {"login": page.evaluate(CONTRASTS)}
    log_in(page, site)
    for where in places:
        settled(page, where)
        found[where] = page.evaluate(CONTRASTS) + page.evaluate(NAMELESS)
    assert {where: wrong for where, wrong in found.items() if wrong} == {}


def test_a_phone_shows_all_of_it_without_scrolling_sideways(site: Site, places: list[str], tabs: Tabs) -> None:
    page = tabs.open(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page.goto(site.page)
    page.wait_for_selector("#key")
    wide = {"login": page.evaluate("document.documentElement.scrollWidth")}
    small = {}
    log_in(page, site)
    for where in places:
        settled(page, where)
        wide[where] = page.evaluate("document.documentElement.scrollWidth")
        small[where] = page.evaluate(TARGETS)
    assert {where: width for where, width in wide.items() if width > 360} == {}
    assert {where: those for where, those in small.items() if those} == {}
    go(page, "#/jobs")
    page.locator("tbody tr").first.get_by_role("link").first.tap()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("desk:"))


def test_no_width_makes_a_page_scroll_sideways(site: Site, places: list[str], tabs: Tabs) -> None:
    """With as many runs in every strip as it shows: 24."""
    site.cron("sweep/of the whole house, and of the garden behind it", hours=0.5, description="Every half hour")
    names = ["tidy", "digest/paris", LONG, "sweep/of the whole house, and of the garden behind it"]
    site.run(site.app.crons.resume("tidy"))
    for name in names:
        for _ in range(24):
            site.run(site.app.crons.run_now(name))
    page = tabs.open()
    log_in(page, site)
    wide, bars, shapes = {}, {}, {}
    for where in places:
        settled(page, where)
        if where == "#/crons":
            expect(page.locator(".strip .cell")).to_have_count(24 * len(names))
        for width in WIDTHS if where in {"#/", "#/crons"} else WIDTHS[1:5:2]:
            page.set_viewport_size({"width": width, "height": 800})
            bars[width] = page.evaluate(FULL_BAR)
            wide[where, width] = page.evaluate("document.documentElement.scrollWidth") - width
            if where == "#/crons":
                shapes[width] = page.evaluate(SQUEEZED)
    assert {at: by for at, by in wide.items() if by > 0} == {}
    assert {width: tall for width, tall in bars.items() if tall > 56 and width > 640} == {}
    assert {width: those for width, those in shapes.items() if those} == {}


def test_the_tabulator_reaches_every_control_and_shows_where_it_is(site: Site, places: list[str], page: Page) -> None:
    log_in(page, site)
    for where in places:
        settled(page, where)
        page.evaluate("() => { document.activeElement?.blur(); getSelection().removeAllRanges(); }")
        wanted = page.evaluate("""() => {
          const all = [...document.querySelectorAll("button, a[href], input, select, summary, [tabindex='0']")]
            .filter((node) => node.checkVisibility() && node.tabIndex >= 0 && !node.disabled);
          all.forEach((node, at) => { node.dataset.walk = at; });
          return all.length;
        }""")
        page.evaluate(WALKED)
        for _ in range(wanted + 3):
            page.keyboard.press("Tab")
        reached, unseen = page.evaluate("[window.reached, window.unseen]")
        missing = page.evaluate(
            "reached => [...document.querySelectorAll('[data-walk]')].filter((node) => !reached.includes(node.dataset.walk)).map((node) => node.outerHTML.slice(0, 150))",
            reached,
        )
        assert (where, missing, unseen) == (where, [], [])


def test_keys_do_what_a_pointer_does(site: Site, page: Page) -> None:
    for at in range(3):
        run = site.run(site.app.crons.run_now("tidy"))
        site.run(site.app.scheduler.wait(run))
        site.job("desk:note", after=600 * (at + 1))
    log_in(page, site)
    page.keyboard.press("/")
    expect(page.get_by_label("Text")).to_be_focused()
    page.keyboard.type("desk/")
    expect(page.get_by_label("Text")).to_have_value("desk/")
    go(page, "#/jobs")
    page.locator("tbody tr").first.get_by_role("link").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("desk:note")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.get_by_role("button", name="Cancel").press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    go(page, "#/crons?name=tidy")
    cells = page.locator(".strip .cell")
    expect(cells).to_have_count(3)
    cells.last.focus()
    page.keyboard.press("ArrowLeft")
    expect(cells.nth(1)).to_be_focused()
    expect(page.get_by_role("tooltip")).to_contain_text("success")
    page.keyboard.press("Home")
    expect(cells.first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("desk:note")
    go(page, "#/")
    marks = page.locator(".mark.job")
    expect(marks).to_have_count(3)
    marks.first.focus()
    page.keyboard.press("ArrowRight")
    expect(marks.nth(1)).to_be_focused()
    expect(page.get_by_role("tooltip")).to_contain_text("desk:note")


def test_the_skip_link_leads_to_the_content(site: Site, page: Page) -> None:
    log_in(page, site)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert page.get_by_role("navigation").count() == page.get_by_role("main").count() == 1
    assert page.get_by_role("banner").count() == 1


def test_the_theme_is_the_systems_until_another_is_chosen_and_that_is_kept(site: Site, tabs: Tabs) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page = tabs.open(color_scheme="dark")
    log_in(page, site)
    dark = page.evaluate(ground)
    page.emulate_media(color_scheme="light")
    light = page.evaluate(ground)
    assert dark != light
    button = page.get_by_role("button", name=re.compile("Theme"))
    button.click()
    assert page.evaluate(ground) == dark
    page.reload()
    assert page.evaluate(ground) == dark
    button.click()
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ground) == light
    button.click()
    assert page.evaluate(ground) == dark


def test_nothing_moves_for_who_wants_no_motion(site: Site, tabs: Tabs) -> None:
    page = tabs.open(reduced_motion="reduce")
    log_in(page, site)
    moving = """() => [...document.querySelectorAll("*")].filter((node) => {
      const style = getComputedStyle(node);
      return style.animationName !== "none" || parseFloat(style.transitionDuration) > 0;
    }).length"""
    assert page.evaluate(moving) == 0
