"""What GitHub sends by itself: taken at a listener of its own, stored before it is answered, then looked into."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from seamless.agent.resources import Resources
from seamless.agent.watchers import Watchers
from seamless.agent.webhooks.intake import Intake
from seamless.agent.webhooks.listener import WebhookApp
from seamless.agent.webhooks.server import serving
from seamless.config import parse_address


@asynccontextmanager
async def taking_webhooks(resources: Resources, watchers: Watchers) -> AsyncIterator[Intake]:
    """Takes webhooks while inside, if the configuration says where. Raises ConfigError."""
    intake = Intake(resources.store, watchers, resources.config, resources.room)
    await intake.tell_all()
    async with AsyncExitStack() as stack:
        settings = resources.config().agent.webhooks
        if settings is not None:
            await stack.enter_async_context(serving(WebhookApp(intake), parse_address(settings.listen)))
        pruning = asyncio.create_task(intake.prune(), name="pruning of deliveries")
        try:
            yield intake
        finally:
            pruning.cancel()
            await intake.settle()
