"""A hundred clients say yes or no to the same run at once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import httpx

from harness.agents import Agent
from seamless.transitions import RUN_ENDED

CLIENTS = 100


def race(agent: Agent, rng: random.Random) -> str:
    """Makes a run of `web` wait for an approval and lets `CLIENTS` clients at it; returns "approve" or "reject",
    whoever won. `web-1` must have come to its approval, and have ended.
    """
    run = agent.wait_run(agent.client.rerun("web-1", from_stage="deploy_production")["id"], {"awaiting_approval"})["id"]
    kinds = rng.choice((("approve",), ("approve", "reject")))  # an approval has more to look at: a reject is faster
    asked = [rng.choice(kinds) for _ in range(CLIENTS)]
    answers = asyncio.run(_all_at_once(str(agent.socket), run, asked))
    assert Counter(answers) == {200: 1, 409: CLIENTS - 1}, Counter(answers)
    winner = asked[answers.index(200)]
    ended = agent.wait_run(run, RUN_ENDED)
    assert ended["state"] == {"approve": "success", "reject": "cancelled"}[winner], (winner, ended["reason"])
    events = [event["name"] for event in agent.client.events(run=run, kind="run", limit=1000)]
    assert events.count("approve") + events.count("reject") == 1, events
    return winner


async def _all_at_once(socket: str, run: str, asked: list[str]) -> list[int]:
    limits = httpx.Limits(max_connections=CLIENTS)
    transport = httpx.AsyncHTTPTransport(uds=socket, limits=limits)
    async with httpx.AsyncClient(transport=transport, base_url="http://agent/v1", timeout=60) as client:

        async def ask(what: str) -> int:
            body = {"why": "no"} if what == "reject" else {}
            return (await client.post(f"/runs/{run}/{what}", json=body)).status_code

        return list(await asyncio.gather(*map(ask, asked)))
