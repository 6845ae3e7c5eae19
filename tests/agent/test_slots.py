"""`max_parallel_runs`: never more, fair between services, and nothing lost when one who waits goes away."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from seamless.agent.slots import Slots


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_service_with_fewest_slots_goes_first_then_who_asked_first() -> None:
    async def main() -> None:
        slots = Slots(2)
        for run in ("web-1", "web-2"):
            await slots.acquire(run, "web")
        waiting = [asyncio.create_task(slots.acquire(f"web-{number}", "web")) for number in (3, 4)]
        await _settle()
        waiting.append(asyncio.create_task(slots.acquire("pay-1", "pay")))
        await _settle()
        assert not any(task.done() for task in waiting)
        slots.release("web-1")
        await _settle()
        assert [run for run in ("web-3", "web-4", "pay-1") if slots.holds(run)] == ["pay-1"]
        slots.release("web-2")
        await _settle()
        assert slots.holds("web-3")
        assert not slots.holds("web-4")
        slots.release("pay-1")
        await asyncio.gather(*waiting)

    asyncio.run(main())


def test_who_stops_waiting_leaves_the_queue_and_a_slot_that_came_too_late() -> None:
    async def main() -> None:
        slots = Slots(1)
        await slots.acquire("web-1", "web")
        second = asyncio.create_task(slots.acquire("web-2", "web"))
        third = asyncio.create_task(slots.acquire("web-3", "web"))
        await _settle()
        slots.release("web-1")  # web-2 has the slot now, but has not run yet
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        await asyncio.wait_for(third, 60)
        assert not slots.holds("web-2")

    asyncio.run(main())


def test_who_asks_again_keeps_its_place_in_the_queue_until_it_gives_it_up() -> None:
    async def main() -> None:
        slots = Slots(1)
        await slots.acquire("web-1", "web")
        second = asyncio.create_task(slots.acquire("web-2", "web"))
        third = asyncio.create_task(slots.acquire("web-3", "web"))
        await _settle()
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        second = asyncio.create_task(slots.acquire("web-2", "web"))
        await _settle()
        slots.release("web-1")
        await asyncio.wait_for(second, 60)
        slots.release("web-2")
        await asyncio.wait_for(third, 60)
        fourth = asyncio.create_task(slots.acquire("web-4", "web"))
        fifth = asyncio.create_task(slots.acquire("web-5", "web"))
        await _settle()
        fourth.cancel()
        await asyncio.gather(fourth, return_exceptions=True)
        slots.release("web-4")
        fourth = asyncio.create_task(slots.acquire("web-4", "web"))
        await _settle()
        slots.release("web-3")
        await asyncio.wait_for(fifth, 60)
        assert not fourth.done()
        slots.release("web-5")
        await asyncio.wait_for(fourth, 60)

    asyncio.run(main())


def test_a_larger_limit_lets_waiting_runs_in_and_a_smaller_one_stops_nobody() -> None:
    async def main() -> None:
        slots = Slots(1)
        await slots.acquire("web-1", "web")
        second = asyncio.create_task(slots.acquire("web-2", "web"))
        await _settle()
        slots.resize(2)
        await asyncio.wait_for(second, 60)
        slots.resize(1)
        assert slots.holds("web-1")
        third = asyncio.create_task(slots.acquire("web-3", "web"))
        slots.release("web-1")
        await _settle()
        assert not third.done()
        slots.release("web-2")
        await asyncio.wait_for(third, 60)

    asyncio.run(main())


def test_an_adopted_run_has_its_slot_at_once_even_beyond_the_limit() -> None:
    async def main() -> None:
        slots = Slots(1)
        slots.adopt("web-1", "web")
        slots.adopt("web-2", "web")
        waiting = asyncio.create_task(slots.acquire("web-3", "web"))
        slots.release("web-1")
        await _settle()
        assert not waiting.done()
        slots.release("web-2")
        await asyncio.wait_for(waiting, 60)

    asyncio.run(main())


_STEP = st.tuples(st.sampled_from(["acquire", "release", "cancel"]), st.integers(0, 7))


@given(limit=st.integers(1, 3), steps=st.lists(_STEP, max_size=40))
def test_never_more_than_the_limit_and_nobody_waits_while_a_slot_is_free(
    limit: int, steps: list[tuple[str, int]]
) -> None:
    async def main() -> None:
        slots = Slots(limit)
        asked: dict[str, asyncio.Task[None]] = {}
        for action, number in steps:
            run, service = f"run-{number}", f"service-{number % 3}"
            match action:
                case "acquire" if run not in asked:
                    asked[run] = asyncio.create_task(slots.acquire(run, service))
                case "cancel" if run in asked and not asked[run].done():
                    asked.pop(run).cancel()
                case "release" if run in asked and asked[run].done():
                    del asked[run]
                    slots.release(run)
            await _settle()
            held = [run for run in asked if slots.holds(run)]
            assert len(held) == min(limit, len(asked))
        for task in asked.values():
            task.cancel()
        await asyncio.gather(*asked.values(), return_exceptions=True)

    asyncio.run(main())
