"""Notices are stored with their events, for those who want them, and sent past the runs; SNS is moto's."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.storing import new_run, with_store
from harness.aws import CREDENTIALS, Moto, Refusal, serving
from seamless.agent.logs import LogStore
from seamless.agent.notifying import Notifications
from seamless.agent.outbox import Courier, UndeliverableError
from seamless.agent.store import Message, Outcome, Store
from seamless.aws.sessions import Clouds
from seamless.aws.topics import Topics
from seamless.config import Aws, Config, Notify
from seamless.errors import NotFoundError, UnavailableError, UsageError
from seamless.model import Actor, NoticeKind, Run, StageName, utc_now
from seamless.notifiers import Notice
from seamless.notifiers.sns import SnsNotifier
from seamless.transitions import RunEvent, StageEvent

TOPIC = "arn:aws:sns:eu-central-1:123456789012:releases"
EVERYTHING = [*NoticeKind]


class Collecting:
    """A notifier that keeps what it is given; raises the next of `errors` first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.taken: list[tuple[Notify, Notice]] = []
        self.took = asyncio.Event()

    async def send(self, place: Notify, notice: Notice) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.taken.append((place, notice))
        self.took.set()

    @property
    def titles(self) -> list[str]:
        return [notice.title for _, notice in self.taken]


class World:
    """A store whose events are noted for `places`."""

    def __init__(self, store: Store, folder: Path, notifier: Any) -> None:
        self.store = store
        self.places: dict[str, Notify] = {}
        self.logs = LogStore(folder / "logs", 2**20)
        config = cast(Config, SimpleNamespace(notify=self.places, file=folder / "seamless.toml"))
        self.notifications = Notifications(lambda: config, store, self.logs, {"sns": notifier})
        store.events.listeners.append(self.notifications.note)

    async def fail(self, run: Run, stage: StageName = StageName.PREPARE) -> Run:
        """Runs it to its failure in that stage."""
        run = await self.store.runs.transition(run, RunEvent.START)
        found = run.stage(stage)
        assert found is not None
        started = await self.store.runs.transition_stage(run, found, StageEvent.START)
        await self.store.runs.transition_stage(run, started, StageEvent.FAIL, reason="exit code 1", exit_code=1)
        return await self.store.runs.transition(run, RunEvent.FAIL, reason="prepare failed")

    async def succeed(self, run: Run) -> Run:
        run = await self.store.runs.transition(run, RunEvent.START)
        return await self.store.runs.transition(run, RunEvent.SUCCEED)

    async def waiting(self) -> list[str]:
        """What the outbox still has for SNS, by place and event."""
        return [message.key for message in await self.store.outbox.first_of_topics(["sns"])]

    @contextlib.asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        task = asyncio.create_task(Courier(self.store, {"sns": self.notifications.send}).deliver())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def delivered(self) -> None:
        """Returns when the outbox is empty."""
        async with self.delivering(), asyncio.timeout(60):
            while await self.waiting():  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0.01)


def play(folder: Path, notifier: Any, body: Callable[[World], Awaitable[None]]) -> None:
    async def with_world(store: Store) -> None:
        world = World(store, folder, notifier)
        try:
            await body(world)
        finally:
            world.logs.close()

    with_store(folder / "seamless.db", with_world)


def test_red_is_told_each_time_and_recovery_once(tmp_path: Path) -> None:
    notifier = Collecting()

    async def body(world: World) -> None:
        world.places["team"] = Notify(sns=TOPIC)
        for verdict in (world.succeed, world.fail, world.fail, world.succeed, world.succeed):
            await verdict(await world.store.runs.create(new_run()))
        await world.delivered()
        assert notifier.titles == [
            "web-2 failed in prepare: exit code 1",
            "web-3 failed in prepare: exit code 1",
            "web is well again: web-4 succeeded",
        ]

    play(tmp_path, notifier, body)


def test_each_place_gets_what_it_wants_and_no_more(tmp_path: Path) -> None:
    notifier = Collecting()

    async def body(world: World) -> None:
        world.places["everything"] = Notify(sns=TOPIC, events=EVERYTHING)
        world.places["others"] = Notify(sns=f"{TOPIC}-others", services=["gateway"])
        world.places["failures"] = Notify(sns=f"{TOPIC}-failures", events=[NoticeKind.FAILURE])
        await world.fail(await world.store.runs.create(new_run()))
        await world.delivered()
        by_topic: dict[str, list[str]] = {topic: [] for topic in (TOPIC, f"{TOPIC}-others", f"{TOPIC}-failures")}
        for place, notice in notifier.taken:
            by_topic[str(place.sns)].append(notice.title)
        assert by_topic == {
            TOPIC: ["web-1 started", "web-1: prepare failed: exit code 1", "web-1 failed in prepare: exit code 1"],
            f"{TOPIC}-others": [],
            f"{TOPIC}-failures": ["web-1 failed in prepare: exit code 1"],
        }

    play(tmp_path, notifier, body)


def test_a_notice_is_stored_with_its_event_or_not_at_all(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        world.places["team"] = Notify(sns=TOPIC, events=EVERYTHING)
        run = await world.store.runs.create(new_run())
        with contextlib.suppress(RuntimeError):
            async with world.store.transaction():
                await world.store.runs.transition(run, RunEvent.START)
                raise RuntimeError
        assert await world.waiting() == []
        await world.store.runs.transition(run, RunEvent.START)
        assert len(await world.waiting()) == 1

    play(tmp_path, Collecting(), body)


def test_an_error_of_ours_does_not_undo_the_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("environment")

    monkeypatch.setattr("seamless.agent.notifying.notice_of", broken)

    async def body(world: World) -> None:
        world.places["team"] = Notify(sns=TOPIC, events=EVERYTHING)
        run = await world.store.runs.create(new_run())
        assert (await world.store.runs.transition(run, RunEvent.START)).state == "in_progress"
        assert await world.waiting() == []

    play(tmp_path, Collecting(), body)


def test_the_last_lines_of_the_log_go_along_without_colours(tmp_path: Path) -> None:
    notifier = Collecting()

    async def body(world: World) -> None:
        from seamless.agent.logs import LogId

        world.places["team"] = Notify(sns=TOPIC)
        run = await world.store.runs.create(new_run())
        spool = tmp_path / "spool" / "out"
        spool.parent.mkdir()
        async with world.logs.record(LogId(run.id, StageName.PREPARE), 1, spool):
            lines = "".join(f"\x1b[31mline {number}\x1b[0m\n\n" for number in range(30))
            spool.write_text(lines, encoding="utf-8")
        await world.fail(run)
        await world.delivered()
        ((_, notice),) = notifier.taken
        assert notice.lines[-13:] == ("last lines of prepare:", *(f"    line {number}" for number in range(18, 30)))

    play(tmp_path, notifier, body)


def test_a_place_that_does_not_answer_holds_up_neither_runs_nor_others(tmp_path: Path) -> None:
    class Hanging(Collecting):
        async def send(self, place: Notify, notice: Notice) -> None:
            if place.sns == TOPIC:
                await asyncio.Event().wait()
            await super().send(place, notice)

    notifier = Hanging()

    async def body(world: World) -> None:
        world.places["hanging"] = Notify(sns=TOPIC)
        world.places["well"] = Notify(sns=f"{TOPIC}-well")
        async with world.delivering(), asyncio.timeout(60):
            await world.fail(await world.store.runs.create(new_run()))
            await notifier.took.wait()
        assert any(key.startswith("hanging/") for key in await world.waiting())

    play(tmp_path, notifier, body)


def _message(body: dict[str, Any], created_at: datetime | None = None) -> Message:
    now = utc_now()
    return Message(1, "sns", "k", "t", "web", body, created_at or now, 0, now, None, None)


NOTICE = Notice("7", "2026-12-03T14:02:11+00:00", (NoticeKind.RUN,), "a title")


@pytest.mark.parametrize(
    ("error", "age", "why"),
    [
        (UsageError("SNS takes no such message"), timedelta(0), "notify.team: SNS takes no such message"),
        (
            UnavailableError("no answer"),
            timedelta(days=1, minutes=1),
            "notify.team has not taken it for a day: no answer",
        ),
        (None, timedelta(0), "notify.other is not configured any more"),
    ],
)
def test_when_a_notice_is_given_up(tmp_path: Path, error: Exception | None, age: timedelta, why: str) -> None:
    async def body(world: World) -> None:
        world.places["team"] = Notify(sns=TOPIC)
        body = {"place": "team" if error else "other", "notice": NOTICE.to_json()}
        message = _message(body, created_at=utc_now() - age)
        with pytest.raises(UndeliverableError) as given_up:
            await world.notifications.send(message)
        assert given_up.value.message == why

    play(tmp_path, Collecting(*[error] if error else []), body)


def test_a_place_that_is_only_away_is_tried_again(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        world.places["team"] = Notify(sns=TOPIC)
        with pytest.raises(UnavailableError) as caught:
            await world.notifications.send(_message({"place": "team", "notice": NOTICE.to_json()}))
        assert caught.value.message == "notify.team: no answer", "of several, this one"

    play(tmp_path, Collecting(UnavailableError("no answer")), body)


# -- SNS, which is moto's


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    with serving() as one:
        yield one


@pytest.fixture
def sns(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Iterator[SnsNotifier]:
    moto.reset()
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    clouds = Clouds()
    yield SnsNotifier(Topics(clouds, lambda: Aws(region="us-east-1", endpoint_url=moto.url)).publish)
    clouds.close()
    assert moto.troubles == []


def subscribed(moto: Moto, wanted: str) -> str:
    """A queue behind the topic, which takes only one kind of event; returns its address."""
    topic = moto.client("sns").create_topic(Name="releases")["TopicArn"]
    assert topic == TOPIC
    sqs = moto.client("sqs")
    queue = sqs.create_queue(QueueName=f"of-{wanted}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = {"FilterPolicy": json.dumps({"event": [wanted]})}
    moto.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=policy)
    return str(queue)


@pytest.mark.fake
def test_a_subscription_filters_by_the_attributes(tmp_path: Path, moto: Moto, sns: SnsNotifier) -> None:
    failures, recoveries = subscribed(moto, "failure"), subscribed(moto, "recovery")

    async def body(world: World) -> None:
        world.places["team"] = Notify(sns=TOPIC)
        await world.fail(await world.store.runs.create(new_run()))
        await world.delivered()

    play(tmp_path, sns, body)
    (message,) = moto.client("sqs").receive_message(QueueUrl=failures)["Messages"]
    told = json.loads(message["Body"])
    assert told["Subject"] == "web-1 failed in prepare: exit code 1"
    assert told["Message"].endswith("    seamless show web-1\n    seamless logs web-1 prepare\n")
    assert {name: one["Value"] for name, one in told["MessageAttributes"].items()} == {
        "event": "failure",
        "service": "web",
        "run": "web-1",
        "state": "failure",
        "stage": "prepare",
        "trigger": "main",
        "ref": "refs/heads/main",
        "commit": "a" * 40,
    }
    assert "Messages" not in moto.client("sqs").receive_message(QueueUrl=recoveries)


@pytest.mark.fake
def test_a_test_says_what_came_of_each_place(tmp_path: Path, moto: Moto, sns: SnsNotifier) -> None:
    moto.client("sns").create_topic(Name="releases")
    ann = Actor("ann", 1000)

    async def body(world: World) -> None:
        (nobody,) = await world.notifications.try_out(ann, None)
        assert (nobody.level, nobody.subject) == ("not_checked", "notify")
        world.places["gone"] = Notify(sns=f"{TOPIC}-gone")
        world.places["team"] = Notify(sns=TOPIC)
        gone, well = await world.notifications.try_out(ann, None)
        assert (gone.subject, gone.level) == ("notify.gone", "error")
        assert "AWS has no topic" in gone.what
        assert gone.mend == "aws sns create-topic --name releases-gone --region eu-central-1"
        assert (well.subject, well.level) == ("notify.team", "ok")
        moto.refuse("Publish", Refusal("AuthorizationError", "no", 403))
        (denied,) = await world.notifications.try_out(ann, "team")
        assert (denied.level, denied.mend) == ("error", "allow sns:Publish; docs/aws.md has the whole policy")
        with pytest.raises(NotFoundError, match=r"there is no notify\.nobody"):
            await world.notifications.try_out(ann, "nobody")
        assert await world.waiting() == []

    play(tmp_path, sns, body)


@pytest.mark.fake
def test_a_message_that_sns_never_takes_is_given_up_and_told(tmp_path: Path, moto: Moto, sns: SnsNotifier) -> None:
    moto.client("sns").create_topic(Name="releases")
    moto.refuse("Publish", Refusal("InvalidParameter", "Invalid parameter: Message too long"))

    async def body(world: World) -> None:
        world.places["team"] = Notify(sns=TOPIC, events=[NoticeKind.FAILURE])
        await world.fail(await world.store.runs.create(new_run()))
        async with world.delivering():
            await asyncio.wait_for(_told(world.store), 60)
        (event,) = await world.store.events.page(kind="message")
        assert (event.name, event.service) == ("give_up", "web")
        key = event.data["key"]
        message = await world.store.outbox.find("sns", key)
        assert message is not None
        assert message.outcome is Outcome.GIVEN_UP

    play(tmp_path, sns, body)


async def _told(store: Store) -> None:
    while not await store.events.page(kind="message"):
        await store.events.newest.beyond(store.events.newest.value)
