"""The composition root: makes every part of the agent, starts them in order, and stops them in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Final, TypeVar

import uvicorn

from seamless import __version__, wire
from seamless.agent import backup, reporting
from seamless.agent.api import Api, create_app
from seamless.agent.approvals import Approvals
from seamless.agent.arrivals import Arrivals
from seamless.agent.cloud_environments import Environments
from seamless.agent.configuration import LiveConfig
from seamless.agent.engine import Engine
from seamless.agent.foresight import Foresight
from seamless.agent.gate import Gatekeeper
from seamless.agent.github_setup import GitHubSetup
from seamless.agent.host import Host
from seamless.agent.housekeeping import Housekeeper
from seamless.agent.logs import LogStore
from seamless.agent.merging import GitHubChannel
from seamless.agent.notifying import Notifications
from seamless.agent.operations import Operations
from seamless.agent.outbox import Courier, Sender
from seamless.agent.peer import PeerHTTPProtocol, PeerWebSocketProtocol
from seamless.agent.presenting import Presenter
from seamless.agent.reactions import react
from seamless.agent.registries import Registries
from seamless.agent.releases import Releases
from seamless.agent.resources import Resources
from seamless.agent.room import Room
from seamless.agent.serving import QuietServer
from seamless.agent.stalls import STALL_LOG, record_stalls
from seamless.agent.store import Store
from seamless.agent.supervision import Supervisor
from seamless.agent.watchers import Watchers
from seamless.agent.webhooks import taking_webhooks
from seamless.agent.workspaces import RunWorkspaces
from seamless.aws.ecr import Ecr
from seamless.aws.examining import examine_aws
from seamless.aws.secrets import AwsSecrets
from seamless.aws.sessions import Clouds
from seamless.aws.topics import Topics
from seamless.errors import ConfigError, RefusedError
from seamless.executors.docker import DockerExecutor
from seamless.forges.git import GitForge
from seamless.forges.github.client import GitHubClient
from seamless.model import Actor
from seamless.notifiers import Notifier
from seamless.notifiers.email import EmailNotifier
from seamless.notifiers.http import SlackNotifier, WebhookNotifier
from seamless.notifiers.sns import SnsNotifier
from seamless.secretrefs import connect
from seamless.targets.docker import DockerTarget
from seamless.targets.ecs import EcsTarget

T = TypeVar("T")
_FOLDERS: Final = ("logs", "spool", "work", "mirrors")
_log = logging.getLogger("seamless.agent")


def serve(config_file: Path) -> int:
    """Runs the agent until SIGTERM or SIGINT; returns its exit code. Raises SeamlessError when it cannot start."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "watchfiles"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    config = LiveConfig(config_file)
    os.umask(0o077)
    with owned(config().agent.data_dir) as data_dir:
        backup.check_whole(data_dir)
        asyncio.run(_serve(config, data_dir))
    return 0


@contextlib.contextmanager
def owned(data_dir: Path) -> Iterator[Path]:
    """The data directory, made when it is not there, and ours alone until the end."""
    try:
        for folder in ("", *_FOLDERS):
            (data_dir / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = open(data_dir / "agent.lock", "a+", encoding="ascii")  # noqa: SIM115 - held open until the end
    except OSError as error:
        raise ConfigError(
            f"the data directory {data_dir} cannot be used: {(error.strerror or str(error)).lower()}",
            hint="agent.data_dir names it; the agent's user must be able to write there",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise RefusedError(
                f"another agent (pid {lock.read().strip() or 'unknown'}) uses the data directory {data_dir}",
                hint="seamless agent stop, or give this one an agent.data_dir of its own",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield data_dir


def _installation(data_dir: Path) -> str:
    """Eight hexadecimal digits that tell this installation's containers from all others on the engine."""
    file = data_dir / "installation"
    if not file.exists():
        new = file.with_suffix(".new")
        new.write_text(secrets.token_hex(4), encoding="ascii")
        new.rename(file)
    return file.read_text(encoding="ascii").strip()


async def _serve(config: LiveConfig, data_dir: Path) -> None:
    ending = asyncio.Event()
    supervisor = Supervisor(os.environ)
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, ending.set)
    async with contextlib.AsyncExitStack() as stack:
        agent = config().agent
        installation = _installation(data_dir)
        store = await Store.open(data_dir / "seamless.db")
        stack.push_async_callback(store.close)
        await backup.settle(store, data_dir)
        logs = LogStore(data_dir / "logs", agent.log_cap)
        stack.callback(logs.close)
        clouds = Clouds()
        stack.callback(clouds.close)
        connect(AwsSecrets(clouds, lambda: config().aws).readers())

        registries = Registries(config, Ecr(clouds))
        connecting = DockerExecutor.connect(installation, data_dir, agent.helper_image, auth=registries.login)
        executor = await _unless(ending, connecting)
        if executor is None:
            return
        stack.push_async_callback(executor.close)
        forge = GitForge(data_dir / "mirrors", ca_bundle=agent.ca_bundle)
        github = GitHubClient(config().github.api_url, ca_bundle=agent.ca_bundle)
        stack.callback(github.close)
        room = Room(
            {"the data directory": data_dir, "the Docker Engine": executor.engine_folder},
            lambda: config().agent.min_free,
        )
        resources = Resources(
            data_dir=data_dir,
            installation=installation,
            config=config,
            store=store,
            logs=logs,
            executor=executor,
            workspaces=RunWorkspaces(data_dir, installation, store, forge, executor),
            forge=forge,
            github=github,
            clouds=clouds,
            room=room,
            registries=registries,
            targets={
                "docker": DockerTarget(installation, registries.login),
                "ecs": EcsTarget(installation, clouds.account, registries.platforms),
            },
        )
        gatekeeper = Gatekeeper(store, forge)
        engine = Engine(resources, gatekeeper)
        operations = Operations(resources, engine)
        watchers = Watchers(resources, Arrivals(resources, engine, operations))
        notifiers: dict[str, Notifier] = {
            "sns": SnsNotifier(Topics(clouds, lambda: config().aws).publish),
            "slack": SlackNotifier(),
            "webhook": WebhookNotifier(),
            "email": EmailNotifier(),
        }
        notifications = Notifications(config, store, logs, notifiers)
        store.events.listeners.append(notifications.note)
        telling = GitHubChannel(config, store, github)
        store.events.listeners.append(telling.listen)
        senders: dict[str, Sender] = {  # by channel
            **dict.fromkeys(notifiers, notifications.send),
            reporting.CHANNEL: telling.deliver,
        }
        background = [
            asyncio.create_task(react(store, engine, logs), name="reactions"),
            asyncio.create_task(Courier(store, senders).deliver(), name="courier"),
        ]
        stack.push_async_callback(_end, background)
        background.append(asyncio.create_task(supervisor.watch(), name="watchdog"))
        if stall_log := os.environ.get(STALL_LOG):
            background.append(asyncio.create_task(record_stalls(Path(stall_log)), name="stall monitor"))
        await engine.start()
        stack.push_async_callback(engine.stop)
        await watchers.configure()
        stack.push_async_callback(watchers.stop)
        webhooks = await stack.enter_async_context(taking_webhooks(resources, watchers))

        async def reconfigured() -> None:
            engine.configure()
            await watchers.configure()
            await webhooks.tell_all()

        housekeeper = Housekeeper(resources)
        background.append(asyncio.create_task(housekeeper.keep_house(), name="housekeeping"))
        background.append(asyncio.create_task(room.watch(store, engine.wake_all), name="room"))
        background.append(asyncio.create_task(config.watch(store, reconfigured), name="configuration"))

        def about() -> wire.VersionJSON:
            return {
                "api": wire.API_VERSION,
                "version": __version__,
                "pid": os.getpid(),
                "ready": True,
                "config_file": str(config().file),
                "config_error": config.error,
                "data_dir": str(data_dir),
                "trouble": [] if (short := room.shortage()) is None else [short],
            }

        async def reload(actor: Actor) -> None:
            await config.reload(store, reconfigured, actor)

        foresight = Foresight(resources, operations)
        setup = GitHubSetup(resources, reload)
        api = Api(
            resources,
            operations,
            Approvals(store, operations, gatekeeper),
            Releases(resources, engine, operations, gatekeeper),
            Presenter(resources, gatekeeper, foresight, engine.waits),
            foresight,
            Host(
                resources,
                operations,
                about,
                reload,
                notifications,
                housekeeper,
                [lambda: examine_aws(config(), clouds), setup.examine],
            ),
            Environments(resources, operations),
            setup,
        )
        with _listening(agent.socket) as listener:
            server = QuietServer(
                uvicorn.Config(
                    create_app(api),
                    http=PeerHTTPProtocol,
                    ws=PeerWebSocketProtocol,
                    lifespan="off",
                    log_config=None,
                    log_level="warning",
                    access_log=False,
                    timeout_graceful_shutdown=1,
                )
            )
            serving = asyncio.create_task(server.serve(sockets=[listener]), name="api")
            _log.info("ready: pid %d, installation %s, socket %s", os.getpid(), installation, agent.socket)
            supervisor.ready(f"answers at {agent.socket}")
            stopping = asyncio.create_task(ending.wait())
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            supervisor.stopping()
            _log.info("stopping; what runs in containers goes on, and the next agent takes it up")
            server.stop()
            await serving


async def _unless(ending: asyncio.Event, work: Coroutine[None, None, T]) -> T | None:
    """What comes of `work`, None when the agent is told to end before that."""
    task = asyncio.create_task(work)
    told = asyncio.create_task(ending.wait())
    try:
        await asyncio.wait({task, told}, return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        told.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """The API's socket: 0660 in a folder 0750, so that the group may use it. Removed at the end.

    A socket that lies there is a dead agent's when it answers nobody; the data directory's lock tells
    that no living one shares our data, and a living one of another installation is not disturbed.
    """
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
        path.parent.chmod(0o750)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise RefusedError(f"another agent listens at {path}", hint="give this one an agent.socket of its own")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            path.chmod(0o660)
        except OSError as error:
            raise ConfigError(f"the socket {path} cannot be made: {error.strerror}") from error
        listener.listen(128)
        listener.setblocking(False)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
