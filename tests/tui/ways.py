"""How one gets from the fleet to each screen."""

from __future__ import annotations

from .screens import Driver


async def to_fleet(user: Driver) -> None:
    await user.sees("search-9 unit_test")


async def to_service(user: Driver) -> None:
    await user.press("j", "enter")
    await user.sees("inventory-18")


async def to_images(user: Driver) -> None:
    await to_service(user)
    await user.press("2")
    await user.sees("88a1e02")


async def to_deployments(user: Driver) -> None:
    await to_service(user)
    await user.press("3")
    await user.sees("production   7d01c9e")


async def to_failed_run(user: Driver) -> None:
    await user.press("j", "j", "j", "l")
    await user.sees("FAIL declines", "% of")


async def to_running_run(user: Driver) -> None:
    await user.press("G", "l")
    await user.sees("following", "two")


async def to_evidence(user: Driver) -> None:
    await to_failed_run(user)
    await user.press("v")
    await user.sees("Failed tests of unit_test")


async def to_approval(user: Driver) -> None:
    await user.press("j", "a")
    await user.sees("Approve inventory-19 for production?")


async def to_rollback(user: Driver) -> None:
    await user.press("j", "b")
    await user.sees("now, since")


async def to_rollback_question(user: Driver) -> None:
    await to_rollback(user)
    await user.press("G", "enter")
    await user.sees('Type "inventory"')


async def to_help(user: Driver) -> None:
    await user.press("question_mark")
    await user.sees("Every action", "Approve") if user.app.size.height > 40 else await user.sees("Approve", "approve")


async def to_events(user: Driver) -> None:
    await user.press("E")
    await user.sees("Everything that happened")
