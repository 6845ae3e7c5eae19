"""The log of a stage on the screen: sideways, filtered, searched, saved; and whose the keys are."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from cli.fake_agent import FakeAgent

from .screens import in_front_of, posted
from .ways import to_failed_run

pytestmark = pytest.mark.fake


def test_a_log_is_gone_through_sideways(shop: FakeAgent) -> None:
    lines = ["short", "日本" * 24 + "|", "\t".join("abcdefghijklm") + "|"]
    shop.logs["payment-43", "unit_test"] = "".join(line + "\n" for line in lines).encode()

    async def main() -> None:
        async with in_front_of(shop) as user:
            await user.press("j", "j", "j", "l")
            await user.sees("short", "日本")
            await user.press("right")
            await user.sees("column 9", "本日本", "b       c", gone="a       b")
            await user.press("right", "right", "right", "right")
            screen = await user.sees("column 25", "m|", "日本|")
            assert "short" not in screen
            await user.press("left", "left")
            await user.sees("column 9")
            await user.press("0")
            await user.sees("short", "a       b", gone="column")
            await user.press("w", "right")
            await user.sees("long lines are wrapped: w cuts them", "m|")

    asyncio.run(main())


def test_a_slow_filter_and_a_slow_search_tell_how_far_they_are_and_are_stopped(shop: FakeAgent) -> None:
    """The agent looks through a tenth of the log when the test lets it."""
    lines = [
        b"needle %03d in a haystack\n" % n if n % 300 == 299 else b"straw  %03d of a haystack\n" % n
        for n in range(1000)
    ]
    shop.logs["payment-43", "unit_test"] = b"".join(lines)
    shop.logs["payment-43", "code_quality"] = b"code is fine\n"
    shop.search_bytes = 100 * len(lines[0])
    shop.searches = moments = threading.Semaphore(0)

    def asked() -> int:
        return sum(path.endswith("/search") for _, path, _, _ in shop.requests)

    async def main() -> None:
        async with in_front_of(shop) as user:
            await user.press("j", "j", "j", "l")
            await user.sees("straw  999")
            await user.press("ampersand")
            await user.type("needle")
            await user.press("enter")
            await user.sees("no line that matches was found so far", gone="straw")
            moments.release(2)
            await user.sees("▌needle 899", "searched back to 80 %; esc stops")
            moments.release(3)
            await user.sees(" needle 599", "▌needle 899", "searched back to 50 %")
            await user.press("k")
            moments.release()
            await user.sees("▌needle 599", " needle 899", "searched back to 40 %")
            await user.press("escape")
            moments.release()
            await user.sees("stopped, searched back to 30 %")
            before = asked()
            await user.press("j", "j")  # down at the end, where nothing is missing
            await user.sees("▌needle 899")
            assert asked() == before
            await user.press("k", "k")  # up beyond what is known: looks on
            moments.release(10)
            await user.sees("needle 299", "needle 599", gone="searched")
            await user.press("escape")
            await user.sees("▌needle 299", "straw  300", gone="&needle")

            while moments.acquire(blocking=False):
                pass
            await user.press("g", "slash")
            await user.type("nowhere")
            await user.press("enter")
            moments.release()
            await user.sees("searched up to 10 %; esc stops")
            await user.press("G")  # whoever goes elsewhere does not wait
            moments.release()
            await user.sees("straw  999", gone="searched")
            await user.press("g", "n")
            moments.release()
            await user.sees("searched up to 10 %; esc stops")
            await user.press("slash")
            await user.type("(")
            await user.press("enter")
            moments.release()
            await user.sees("'(' is not a regular expression", gone="searched")
            await user.press("n")
            moments.release()
            await user.sees("searched up to 10 %; esc stops")
            await user.press("escape")
            moments.release()
            await user.sees("▌straw  000", "stopped, searched up to 20 %")
            await user.press("n")
            moments.release()
            await user.sees("searched up to 10 %; esc stops")
            await user.press("2")  # nor does another log
            moments.release()
            await user.sees("code is fine", gone="searched")
            await user.press("escape")
            await user.sees("5 services", gone="haystack")
            moments.release(100)

    asyncio.run(main())


def test_a_log_is_saved(shop: FakeAgent, tmp_path: Path) -> None:
    async def main() -> None:
        async with in_front_of(shop, (140, 30)) as user:
            await to_failed_run(user)
            for told in ("bytes are in", "already. Save under another name"):
                await user.press("s", "ctrl+u")
                await user.type(f"{tmp_path}")
                await user.press("enter")
                await user.sees(told)
            await user.press("s", "ctrl+u")
            await user.type("~nobody-at-all/x")
            await user.press("enter")
            await user.sees("there is no ~nobody-at-all")

    asyncio.run(main())
    assert (tmp_path / "payment-43-unit_test.log").read_bytes() == shop.logs["payment-43", "unit_test"]


def test_ctrl_c_leaves_what_is_in_front_and_then_the_program(shop: FakeAgent) -> None:
    async def main() -> None:
        async with in_front_of(shop) as user:
            await user.press("H")
            await user.sees("Put gateway on hold?")
            await user.press("x", "ctrl+c")
            await user.sees("5 services", gone="Put gateway on hold?")
            await user.press("slash", "g", "ctrl+c")
            await user.sees("5 services", "inventory", gone="/ g")
            await user.press("question_mark")
            await user.sees("Approve")
            await user.press("ctrl+c")
            await user.sees("5 services", gone="Help")
            assert user.app.return_code is None
            await user.press("ctrl+c")
            assert user.app.return_code == 0

    asyncio.run(main())
    assert posted(shop) == []


def test_what_is_typed_before_a_field_is_there_is_for_the_field(shop: FakeAgent) -> None:
    async def main() -> None:
        async with in_front_of(shop) as user:
            user.type_at_once("slash", *"search/")
            await user.sees("/ search/", 'nothing matches "search/"')
            await user.press("backspace", "enter")
            await user.sees("search-9 unit_test", gone="inventory")
            await user.press("l")
            await user.sees("following", "two")
            user.type_at_once("slash", *"qu/x")
            await user.sees("/ qu/x")
            await user.press("escape")
            user.type_at_once("ampersand", *"aqE")
            await user.sees("& aqE")
            await user.press("escape")
            user.type_at_once("3", "s")  # in their order: what is saved is what is shown
            await user.sees("save to search-9-build.log")

    asyncio.run(main())
    assert posted(shop) == []
