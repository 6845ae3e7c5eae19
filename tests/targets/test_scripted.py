"""The scripted target keeps the promises of `Target` that tests rely on."""

from __future__ import annotations

import asyncio

import pytest

from seamless.model import Environment
from seamless.targets import DeployOutcome, Target
from seamless.transitions import DeploymentEvent

from .deploying import Lines, MemoryJournal, commit, request
from .scripted import ScriptedTarget

pytestmark = pytest.mark.fake

IMAGE = "sha256:" + "1" * 64


def test_it_succeeds_unless_told_otherwise_and_repeats_a_verdict_without_an_effect() -> None:
    async def main() -> None:
        scripted = ScriptedTarget()
        target: Target = scripted
        first, journal = request(1, IMAGE), MemoryJournal()
        outcome = await target.deploy(first, journal, Lines())
        assert outcome.event is DeploymentEvent.COMPLETE
        assert await target.deploy(first, journal, Lines()) == outcome
        assert scripted.effects == [1]
        failure = DeployOutcome(DeploymentEvent.ROLL_BACK, "exit code 1; rolled back to 0000001", {"gap_s": 1.0})
        scripted.outcomes["web", Environment.STAGING].append(failure)
        assert await target.deploy(request(2, IMAGE), MemoryJournal(), Lines()) == failure
        current = await target.current("web", Environment.STAGING, {})
        assert current is not None
        assert current.commit == commit(1)

    asyncio.run(main())


def test_a_held_deployment_can_be_cancelled_or_gone_on_with() -> None:
    async def main() -> None:
        target = ScriptedTarget(gate=asyncio.Event())
        going, journal = request(1, IMAGE), MemoryJournal()
        task = asyncio.create_task(target.deploy(going, journal, Lines()))
        await asyncio.sleep(0)
        task.cancel()  # the agent stops
        await asyncio.gather(task, return_exceptions=True)
        again = asyncio.create_task(target.deploy(going, journal, Lines()))
        await asyncio.sleep(0)
        going.cancel.set()
        assert (await again).event is DeploymentEvent.FAIL
        assert target.effects == [1]

    asyncio.run(main())
