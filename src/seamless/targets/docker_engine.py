"""The few things that the Docker target asks of an engine, each safe to repeat.

docker-py blocks, so every call runs in a thread. A call that the engine did not answer is repeated until
`patience_s` is over, then UnavailableError is raised: whether it had an effect does not matter, for each
looks at what there is first. What the engine refuses is an EngineRefusalError with the engine's message.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any, Final, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from docker.types import IPAMConfig, IPAMPool, LogConfig

from seamless.crashpoints import crash_point
from seamless.errors import SeamlessError, UnavailableError
from seamless.model import DigestKind, ImageRef
from seamless.targets.docker_plan import (
    LABEL_ADDRESS,
    LABEL_INSTALLATION,
    LABEL_SUBNET,
    Container,
    ContainerPlan,
    halves,
    same_image,
)

# What an entry point needs to change its user, the init to end an application that did, and a server to listen on 80.
_CAPABILITIES: Final = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"]
_LOG: Final = {"max-size": "10m", "max-file": "3"}
_CALL_TIMEOUT_S: Final = 60
_CALLS_AT_ONCE: Final = 8

T = TypeVar("T")


class EngineRefusalError(SeamlessError):
    """The engine answered, and did not do it; the message is the engine's own, `status` its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Engine:
    """One engine, for one installation. All methods raise UnavailableError and EngineRefusalError."""

    def __init__(self, installation: str, *, patience_s: float) -> None:
        self.installation = installation
        self.patience_s = patience_s
        self._client: docker.APIClient | None = None
        self._threads = ThreadPoolExecutor(_CALLS_AT_ONCE, thread_name_prefix="docker-target")
        self._network_locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def inspect(self, name: str) -> Container | None:
        """The container of that name or id, or None."""
        return await self._call(self._inspect, name)

    async def find(self, labels: Mapping[str, str]) -> list[Container]:
        """Every container, running or not, that has all these labels."""
        return await self._call(self._find, labels)

    async def create(
        self, network: str, labels: Mapping[str, str], describe: Callable[[str, list[str]], ContainerPlan]
    ) -> None:
        """Creates a container in a network unless one of its name exists; its restart policy is "no".

        `describe` gets the network's subnet and the addresses in it of the containers that have the network's
        `labels`, running or not. Nobody takes an address or removes the network meanwhile.
        """
        async with self._network_locks[network]:
            subnet = await self._call(self._ensure_network, network, labels)
            plan = describe(subnet, await self._call(self._addresses, labels))
            await self._call(self._create, plan)

    async def start(self, name: str, *, again: bool = False) -> None:
        """Starts a container that has never run, with `again` one that has ended as well."""

        def start() -> None:
            seen = self._inspect(name)
            if seen is None or seen.status == "created" or (again and not seen.running):
                self._api.start(name)

        await self._call(start)

    async def keep(self, name: str) -> None:
        """From now on the engine starts it again by itself, after a reboot too."""

        def keep() -> None:
            seen = self._inspect(name)
            if seen is None or not seen.kept:
                self._api.update_container(name, restart_policy={"Name": "unless-stopped"})

        await self._call(keep)

    async def stop(self, name: str, *, grace_s: int) -> None:
        """Ends it by its stop signal, after `grace_s` by SIGKILL. One that is gone or has ended is left alone."""

        def stop() -> None:
            with contextlib.suppress(NotFound):
                self._api.stop(name, timeout=grace_s)

        await self._call(stop)

    async def remove(self, name: str, *, grace_s: int) -> None:
        """Stops it and removes it with its anonymous volumes."""
        await self.stop(name, grace_s=grace_s)

        def remove() -> None:
            with _status_allowed(404, 409):  # 409: another removal is at it
                self._api.remove_container(name, v=True, force=True)

        await self._call(remove)

    async def alias(self, container: Container, network: str, aliases: list[str]) -> None:
        """Gives it these names in the network instead of those it has. It is away for about 0.1 s and comes
        back with its address, so connections live on (an engine has no way to change a name in place).
        """

        def alias() -> None:
            seen = self._inspect(container.id)
            if seen is None or (seen.attached and set(aliases) == set(seen.aliases)):
                return
            if seen.attached:
                self._api.disconnect_container_from_network(container.id, network)
                crash_point(f"deploy.docker.{'name' if aliases else 'retire_old'}:away")
            self._api.connect_container_to_network(
                container.id, network, aliases=aliases, ipv4_address=container.address or None
            )

        await self._call(alias)

    async def output(self, name: str, lines: int) -> bytes:
        """The end of what the container wrote."""
        return await self._call(lambda: self._api.logs(name, tail=lines))

    async def restarted_since(self, moment: datetime) -> bool:
        """Whether the engine itself began after `moment`. It makes its default network anew each time."""

        def restarted() -> bool:
            with contextlib.suppress(NotFound):
                return _time(self._api.inspect_network("bridge")["Created"]) > moment
            return False

        return await self._call(restarted)

    async def publishers(self, port: int) -> list[str]:
        """Names of the running containers that publish this port of the host."""

        def publishers() -> list[str]:
            found = self._api.containers(filters={"publish": str(port)})
            return sorted(container["Names"][0].removeprefix("/") for container in found)

        return await self._call(publishers)

    async def has_image(self, image: ImageRef) -> bool:
        """Whether the engine itself has it."""

        def has_image() -> bool:
            with contextlib.suppress(NotFound):
                self._api.inspect_image(image.pullable)
                return True
            return False

        return await self._call(has_image)

    async def registry_has(self, image: ImageRef, auth: Mapping[str, str] | None) -> bool:
        """Whether the image's registry has it. False too when the registry does not answer."""

        def registry_has() -> bool:
            with contextlib.suppress(APIError):
                self._api.inspect_distribution(image.pullable, auth_config=dict(auth) if auth else None)
                return True
            return False

        return await self._call(registry_has)

    async def pull(self, image: ImageRef, auth: Mapping[str, str] | None) -> None:
        """Pulls an image from its registry."""

        def pull() -> None:
            if image.kind is not DigestKind.MANIFEST or image.repository is None:
                raise EngineRefusalError("No such image", 404)
            progress = self._api.pull(
                image.repository, tag=image.digest, stream=True, decode=True, auth_config=dict(auth) if auth else None
            )
            for line in progress:
                if "error" in line:
                    raise EngineRefusalError(str(line["error"]), 404)

        await self._call(pull)

    async def ensure_network(self, name: str, labels: Mapping[str, str]) -> None:
        """Makes the bridge network unless it exists."""
        async with self._network_locks[name]:
            await self._call(self._ensure_network, name, labels)

    async def remove_network(self, name: str, labels: Mapping[str, str]) -> None:
        """Removes the network unless a container with these labels, running or not, belongs to it."""

        def remove() -> None:
            if self._api.containers(all=True, filters={"label": _filters(labels)}):
                return
            for network in self._networks(name):
                with _status_allowed(403, 404):  # another program's container is in it, or it has gone
                    self._api.remove_network(network["Id"])

        async with self._network_locks[name]:
            await self._call(remove)

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        give_up_at = time.monotonic() + self.patience_s
        pause_s = 0.1
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
            except APIError as error:
                raise EngineRefusalError(error.explanation or str(error), error.status_code or 0) from error
            except (requests.RequestException, DockerException) as error:
                self._disconnect()
                if time.monotonic() + pause_s > give_up_at:
                    raise UnavailableError(
                        "the Docker Engine does not answer", hint="see that it runs: docker info"
                    ) from error
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 2.0)

    @property
    def _api(self) -> Any:  # the stubs of docker-py refuse restart policies and networks that the engine takes
        client = self._client
        if client is None:
            self._client = client = docker.DockerClient.from_env(timeout=_CALL_TIMEOUT_S).api
        return client

    @cached_property
    def _cpus(self) -> int:
        return int(self._api.info()["NCPU"])

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _inspect(self, name: str) -> Container | None:
        try:
            return _container(self._api.inspect_container(name))
        except NotFound:
            return None

    def _find(self, labels: Mapping[str, str]) -> list[Container]:
        listed = self._api.containers(all=True, filters={"label": _filters(labels)})
        seen = (self._inspect(container["Id"]) for container in listed)
        return [container for container in seen if container is not None]

    def _addresses(self, labels: Mapping[str, str]) -> list[str]:
        """Of all at once: an environment may have many containers."""
        listed = self._api.containers(all=True, filters={"label": _filters(labels)})
        return [container["Labels"].get(LABEL_ADDRESS, "") for container in listed]

    def _create(self, plan: ContainerPlan) -> None:
        if self._inspect(plan.name) is not None:
            return
        api = self._api
        cpus = min(plan.cpus, self._cpus) if plan.cpus else None
        host = api.create_host_config(
            init=True,
            restart_policy={"Name": "no"},
            security_opt=["no-new-privileges"],
            cap_drop=["ALL"],
            cap_add=_CAPABILITIES,
            log_config=LogConfig(type="local", config=_LOG),
            network_mode=plan.network,
            port_bindings={plan.port: plan.publish} if plan.publish else None,
            nano_cpus=int(cpus * 1e9) if cpus else None,
            mem_limit=plan.memory,
            memswap_limit=plan.memory,
            pids_limit=plan.pids,
        )
        endpoint = api.create_endpoint_config(aliases=list(plan.aliases), ipv4_address=plan.address)
        with _status_allowed(409):  # made meanwhile by the call that was not answered
            api.create_container(
                plan.image,
                name=plan.name,
                environment=dict(plan.env),
                labels=dict(plan.labels),
                ports=[plan.port] if plan.publish else None,
                host_config=host,
                networking_config=api.create_networking_config({plan.network: endpoint}),
            )

    def _networks(self, name: str) -> list[dict[str, Any]]:
        found = [network for network in self._api.networks(names=[name]) if network["Name"] == name]
        return sorted(found, key=lambda network: str(network["Created"]))

    def _ensure_network(self, name: str, labels: Mapping[str, str]) -> str:
        """Containers can have fixed addresses only in a network that was made with a subnet. The engine alone
        knows which are free, so it chooses one, and the network is made again with that.
        """
        for network in self._networks(name):
            made = network["Labels"] or {}
            if made.get(LABEL_INSTALLATION) != self.installation:
                raise EngineRefusalError(f"a network {name} exists that is not of this installation", 409)
            if LABEL_SUBNET in made:
                return str(made[LABEL_SUBNET])
            self._api.remove_network(network["Id"])
        chosen = self._api.create_network(name, driver="bridge", check_duplicate=True, labels=dict(labels))
        pool = self._api.inspect_network(chosen["Id"])["IPAM"]["Config"][0]
        self._api.remove_network(chosen["Id"])
        subnet = str(pool["Subnet"])
        self._api.create_network(
            name,
            driver="bridge",
            check_duplicate=True,
            labels={**labels, LABEL_SUBNET: subnet},
            ipam=IPAMConfig(pool_configs=[IPAMPool(subnet, iprange=halves(subnet)[1], gateway=pool["Gateway"])]),
        )
        return subnet


@contextmanager
def _status_allowed(*statuses: int) -> Iterator[None]:
    try:
        yield
    except APIError as error:
        if error.status_code not in statuses:
            raise


def _filters(labels: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in labels.items()]


def _container(data: Mapping[str, Any]) -> Container:
    state, config, host = data["State"], data["Config"], data["HostConfig"]
    endpoint = (data["NetworkSettings"]["Networks"] or {}).get(host["NetworkMode"])
    labels = config["Labels"] or {}
    own_id = data["Id"][:12]  # the engine adds it to the aliases
    return Container(
        id=data["Id"],
        name=data["Name"].removeprefix("/"),
        status=state["Status"],
        image=same_image(data["Image"], config["Image"]),
        labels=labels,
        started_at=None if state["StartedAt"].startswith("0001-") else _time(state["StartedAt"]),
        exit_code=state["ExitCode"],
        out_of_memory=state["OOMKilled"],
        error=state["Error"],
        health=state["Health"]["Status"] if "Health" in state else None,
        kept=host["RestartPolicy"]["Name"] == "unless-stopped",
        attached=endpoint is not None,
        address=labels.get(LABEL_ADDRESS, ""),
        aliases=tuple(alias for alias in endpoint["Aliases"] or () if alias != own_id) if endpoint else (),
        memory=host["Memory"],
    )


def _time(text: str) -> datetime:
    """The engine writes nanoseconds, of which six digits are kept."""
    return datetime.fromisoformat(text)
