"""What the files of the page may and may not contain, and how they are served."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runtime.http import dashboard
from tests.dashboard.sites import Site, make_app, serving

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(name for name in dashboard.assets() if name.endswith(".js"))
FILE_LINES_MAX = 450

# Ways to make markup, code or addresses out of text.
NEVER = (
    "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "createContextualFragment", "setHTML",
    "eval(", "new Function", 'setTimeout("', "setTimeout('", "srcdoc", "javascript:", ".cssText", "postMessage", "http://",
    "https://", "import(",
)  # fmt: skip
SVG_NAMESPACE = '"http://www.w3.org/2000/svg"'


def text(name: str) -> str:
    return dashboard.assets()[name].decode()


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_anything_but_text_of_text(name: str) -> None:
    source = text(name).replace(SVG_NAMESPACE, "")
    assert [each for each in NEVER if each in source] == []
    assert len(source.splitlines()) <= FILE_LINES_MAX


def test_attributes_are_set_in_one_place() -> None:
    """Only dom.js, which has the list of attributes, makes nodes with them; what others set is named there."""
    setters = {name for name in SCRIPTS if "createElement" in text(name) or ".setAttributeNS" in text(name)}
    assert setters == {"dom.js", "health.js"}  # and the link of a download, which leads to a blob of the page's own
    set_elsewhere = {
        attribute
        for name in SCRIPTS
        if name != "dom.js"
        for attribute in re.findall(r'setAttribute\("([\w-]+)"', text(name))
    }
    assert set_elsewhere <= {"aria-current", "aria-label", "aria-pressed", "aria-busy", "aria-disabled", "title"}


def test_the_page_itself_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    html = text("index.html")
    assert re.findall(r"\son\w+=|\sstyle=|<style|<iframe|<base|https?://", html) == []
    assert re.findall(r"<script(?![^>]*\ssrc=)", html) == []
    for css in (name for name in dashboard.assets() if name.endswith(".css")):
        assert re.findall(r"url\(|@import|expression", text(css)) == []


def test_whatever_is_named_is_there_and_all_that_is_there_is_named() -> None:
    named = set(re.findall(r'dashboard/([\w.-]+)"', text("index.html")))
    for script in SCRIPTS:
        named |= set(re.findall(r'from "\./([\w.-]+)"', text(script)))
    assert named | {"index.html"} == set(dashboard.assets())


def test_the_files_belong_to_the_package() -> None:
    """They lie inside `runtime`, which the wheel takes whole, and no rule of .gitignore, which the build heeds, fits."""
    folder = ROOT / "runtime" / "http" / "pages"
    assert {path.name for path in folder.iterdir()} == set(dashboard.assets())
    ignored = [line.strip().strip("/") for line in (ROOT / ".gitignore").read_text("utf-8").split("\n") if line.strip()]
    assert [path for path in folder.iterdir() for rule in ignored if path.match(rule)] == []


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(lambda: make_app(tmp_path_factory.mktemp("served") / "desk.db")) as site:
        yield site


@pytest.mark.parametrize("path", ["/dashboard", *(f"/dashboard/{name}" for name in sorted(dashboard.assets()))])
def test_every_file_forbids_what_the_page_does_not_need(path: str, served: Site) -> None:
    answer = httpx.get(served.url + path)
    if path == "/dashboard/index.html":
        assert answer.status_code == 404
        return
    assert answer.status_code == 200
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self'",
        "connect-src": "'self'", "base-uri": "'none'", "object-src": "'none'", "frame-ancestors": "'none'",
        "form-action": "'self'",
    }  # fmt: skip
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    kind = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    assert answer.headers["Content-Type"].startswith(kind[path.rpartition(".")[2] if "." in path else "html"])


def test_what_is_not_a_file_of_the_page_is_not_there(served: Site) -> None:
    for name in (
        "none.js",
        "index.html",
        "..%2fdashboard.py",
        "%2e%2e%2fdashboard.py",
        "style.css%00",
        "STYLE.CSS",
    ):
        assert httpx.get(f"{served.url}/dashboard/{name}").status_code in {404, 405}, name


def test_there_is_no_dashboard_unless_it_is_wanted(tmp_path: Path) -> None:
    with serving(lambda: make_app(tmp_path / "off.db"), dashboard=False) as site:
        for path in ("/dashboard", "/dashboard/main.js"):
            assert httpx.get(site.url + path).status_code == 404
        assert httpx.post(f"{site.url}/dashboard/login", json={"key": "x"}).status_code == 404
