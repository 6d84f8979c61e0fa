"""The page about testing: its tests of crons are tests that pass."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runtime import ActionCtx, App, MutationCtx, Namespace
from runtime.testing import Harness
from tests.docs.test_readme import ROOT, blocks

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = ROOT / "docs" / "testing.md"
TESTS = ["test_an_outage_is_on_record", "test_the_next_release", "test_an_outside_clock"]


@pytest.fixture
def page() -> dict[str, Any]:
    """The names of the block about crons, with the functions that it runs."""
    carts = Namespace("carts")

    @carts.mutation
    async def sweep(ctx: MutationCtx) -> None:
        """Do nothing."""

    @carts.action
    async def bill(ctx: ActionCtx) -> None:
        """Do nothing."""

    names: dict[str, Any] = {
        "__name__": "page", "App": App, "Harness": Harness, "Path": Path, "timedelta": timedelta,
        "carts": carts, "sweep": sweep, "bill": bill,
    }  # fmt: skip
    (example,) = [block for block in blocks(PAGE) if "crons.interval" in block]
    exec(compile(example, "testing.md", "exec", dont_inherit=True), names)
    return names


@pytest.mark.parametrize("name", TESTS)
async def test_an_example_passes(page: dict[str, Any], name: str, tmp_path: Path) -> None:
    """Each of the page's tests, as it stands there."""
    test: Callable[..., Any] = page[name]
    await (test(tmp_path) if "tmp_path" in test.__annotations__ else test())


def test_no_example_is_left_out(page: dict[str, Any]) -> None:
    """A test that the page gains is run here, too."""
    assert [name for name in page if name.startswith("test_")] == TESTS
