"""What a deployment to the Docker target does, decided without touching an engine.

`plan` looks at the request and at what there is, and gives the steps to go forward and to go back:

- ALONE: nothing serves. The new container has the service's name from the start.
- BESIDE: the new container is proved healthy beside the old one, which has the name until then; then
  the name moves over.
- REPLACE: both publish the same port of the host, which only one can hold. A trial, not published, proves
  the image and its settings first; then the old one stops, and the new one starts in its place: the gap.

What was replaced is removed after the verdict (`docker_rollout.remove_old`): nobody need wait for it.

A container's restart policy says what it is: "no" until it is proved, "unless-stopped" once it counts. So
nothing that was never healthy is taken for a release later, even if this deployment is never resumed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from seamless.model import DigestKind, Environment, ImageRef, short
from seamless.targets import DeployRequest

LABEL: Final = "io.seamless."
LABEL_INSTALLATION: Final = LABEL + "installation"
LABEL_ROLE: Final = LABEL + "role"
LABEL_SERVICE: Final = LABEL + "service"
LABEL_ENVIRONMENT: Final = LABEL + "environment"
LABEL_DEPLOYMENT: Final = LABEL + "deployment"
LABEL_COMMIT: Final = LABEL + "commit"
LABEL_DIGEST: Final = LABEL + "digest"
LABEL_PORT: Final = LABEL + "port"
LABEL_PUBLISH: Final = LABEL + "publish"
LABEL_HEALTH: Final = LABEL + "health"
LABEL_TRIAL: Final = LABEL + "trial"
LABEL_ADDRESS: Final = LABEL + "address"
LABEL_SUBNET: Final = LABEL + "subnet"
_SIGKILLED: Final = 128 + 9
_MASKED_FROM: Final = 6  # characters; the configuration refuses shorter secrets
ROLE: Final = "deployment"  # of containers and networks: only this target removes them


class Step(StrEnum):
    """One recorded step; each leaves what it finds done alone. The values are part of crash points and journals."""

    IMAGE = "image"
    NETWORK = "network"
    CLEAN = "clean"  # what deployments that were never resumed left behind
    CREATE_TRIAL = "create_trial"
    START_TRIAL = "start_trial"
    VERIFY_TRIAL = "verify_trial"
    REMOVE_TRIAL = "remove_trial"
    CREATE = "create"
    STOP_OLD = "stop_old"  # kept, to go back to
    START = "start"
    VERIFY = "verify"
    NAME = "name"  # the new container gets the service's name
    CONFIRM = "confirm"  # and is still healthy
    KEEP = "keep"  # from here on it is the release
    RETIRE_OLD = "retire_old"  # the old one loses the name

    DISCARD = "discard"  # back: the new container and the trial go
    RESTORE_OLD = "restore_old"
    VERIFY_OLD = "verify_old"
    LEAVE = "leave"  # the network goes when nothing uses it


COMMITTED: Final = frozenset({Step.KEEP, Step.RETIRE_OLD})  # too late to cancel

_PREPARE: Final = (Step.IMAGE, Step.NETWORK, Step.CLEAN)
_ALONE: Final = (Step.CREATE, Step.START, Step.VERIFY, Step.KEEP)
_BESIDE: Final = (Step.CREATE, Step.START, Step.VERIFY, Step.NAME, Step.CONFIRM, Step.KEEP, Step.RETIRE_OLD)
_REPLACE: Final = (
    *(Step.CREATE_TRIAL, Step.START_TRIAL, Step.VERIFY_TRIAL, Step.REMOVE_TRIAL),
    *(Step.CREATE, Step.STOP_OLD, Step.START, Step.VERIFY, Step.KEEP),
)
BACK: Final = (Step.DISCARD, Step.RESTORE_OLD, Step.VERIFY_OLD, Step.LEAVE)
TOLERANT: Final = frozenset({Step.RETIRE_OLD, *BACK})  # what the engine refuses is told, and they go on


@dataclass(frozen=True, slots=True)
class Container:
    """What the engine says about one container."""

    id: str
    name: str
    status: str  # "created", "running", "restarting", "paused", "exited", "dead", "removing"
    image: ImageRef
    labels: Mapping[str, str]
    started_at: datetime | None = None  # None: never
    exit_code: int = 0
    out_of_memory: bool = False
    error: str = ""
    health: str | None = None  # "starting", "healthy", "unhealthy" by the image's HEALTHCHECK; None without one
    kept: bool = False  # was proved healthy (see the module's text)
    attached: bool = False  # to the environment's network
    address: str = ""  # in that network, attached or not
    aliases: tuple[str, ...] = ()
    memory: int = 0  # limit in bytes, 0: none

    @property
    def running(self) -> bool:
        return self.status in ("running", "restarting", "paused")

    @property
    def ended(self) -> bool:
        return self.status in ("exited", "dead")

    @property
    def deployment(self) -> int | None:
        return _number(self.labels.get(LABEL_DEPLOYMENT))

    @property
    def release(self) -> str:
        """What people call what it runs: the short commit, else the digest."""
        commit = self.labels.get(LABEL_COMMIT)
        return short(commit) if commit else self.image.digest[:19]


@dataclass(frozen=True, slots=True)
class Check:
    """How health is asked for: see `seamless.targets.health`."""

    path: str
    port: int | None
    publish: int | None

    @classmethod
    def of(cls, container: Container) -> Check:
        """The check that the container was deployed with."""
        labels = container.labels
        return cls(labels.get(LABEL_HEALTH, ""), _number(labels.get(LABEL_PORT)), _number(labels.get(LABEL_PUBLISH)))


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """A container to create, wholly described; command, user and the rest are the image's own."""

    name: str
    image: str
    network: str
    address: str
    aliases: tuple[str, ...]
    labels: Mapping[str, str]
    env: Mapping[str, str] = field(repr=False)  # holds secrets
    port: int | None
    publish: int | None
    cpus: float | None
    memory: int | None
    pids: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Kept in the journal: what was decided is not decided again after a restart."""

    forward: tuple[Step, ...]
    old: str | None  # id of the container that served before, and comes back when the new one fails
    old_release: str | None

    @property
    def alone(self) -> bool:
        """No other container has the name while the new one starts."""
        return Step.NAME not in self.forward

    @property
    def has_gap(self) -> bool:
        return Step.STOP_OLD in self.forward

    def to_json(self) -> dict[str, Any]:
        return {"forward": list(self.forward), "old": self.old, "old_release": self.old_release}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        return cls(tuple(Step(step) for step in data["forward"]), data["old"], data["old_release"])


def plan(request: DeployRequest, found: Iterable[Container]) -> Plan:
    """The steps of this deployment, given every container that there is of its service and environment."""
    old = release(container for container in found if container.deployment != request.deployment)
    if old is None:
        return Plan((*_PREPARE, *_ALONE), None, None)
    steps: tuple[Step, ...]
    if not old.running:
        steps = _ALONE
    elif published(request) is not None and Check.of(old).publish == published(request):
        steps = _REPLACE
    else:
        steps = _BESIDE
    return Plan((*_PREPARE, *steps), old.id, old.release)


def release(found: Iterable[Container]) -> Container | None:
    """The container that counts: proved healthy, running rather than stopped, the newest of those."""
    return max(
        (container for container in found if container.kept),
        key=lambda container: (container.running, container.deployment or 0),
        default=None,
    )


def published(request: DeployRequest) -> int | None:
    """The host's port of the new release: there is none without a port of the container."""
    return request.publish if request.port is not None else None


def network_name(installation: str, environment: Environment) -> str:
    return f"seamless-{installation}-{environment}"


def container_name(installation: str, request: DeployRequest, *, trial: bool = False) -> str:
    name = f"{network_name(installation, request.environment)}-{request.service}-{request.deployment}"
    return f"{name}-trial" if trial else name


def network_labels(installation: str, environment: Environment) -> dict[str, str]:
    return {LABEL_INSTALLATION: installation, LABEL_ROLE: ROLE, LABEL_ENVIRONMENT: str(environment)}


def service_labels(installation: str, service: str, environment: Environment) -> dict[str, str]:
    """Those by which the containers of one service in one environment are found."""
    return {**network_labels(installation, environment), LABEL_SERVICE: service}


def container_plan(
    installation: str, request: DeployRequest, subnet: str, taken: Iterable[str], *, trial: bool, named: bool
) -> ContainerPlan:
    """The new container. `taken`: addresses of `subnet` that other containers have, running or not."""
    publish = None if trial else published(request)
    address = free_address(subnet, request.deployment * 2 + trial, taken)
    labels = {
        **service_labels(installation, request.service, request.environment),
        LABEL_DEPLOYMENT: str(request.deployment),
        LABEL_COMMIT: request.commit,
        LABEL_DIGEST: request.image.digest,
        LABEL_ADDRESS: address,
    }
    optional = {LABEL_PORT: request.port, LABEL_PUBLISH: publish, LABEL_HEALTH: request.health or None}
    labels |= {label: str(value) for label, value in optional.items() if value is not None}
    if trial:
        labels[LABEL_TRIAL] = "1"
    env = {**request.env, **request.secret_env}
    if request.port is not None:
        env.setdefault("PORT", str(request.port))
    limits = request.limits
    return ContainerPlan(
        name=container_name(installation, request, trial=trial),
        image=request.image.pullable,
        network=network_name(installation, request.environment),
        address=address,
        aliases=(request.service,) if named else (),
        labels=labels,
        env=env,
        port=request.port,
        publish=publish,
        cpus=limits.get("cpus"),
        memory=limits.get("memory"),
        pids=limits.get("pids"),
    )


def halves(subnet: str) -> tuple[str, str]:
    """The lower half of a subnet, whose addresses the plan gives out, and the upper one, left to the engine."""
    lower, upper = ipaddress.IPv4Network(subnet).subnets()
    return str(lower), str(upper)


def free_address(subnet: str, wish: int, taken: Iterable[str]) -> str:
    """A fixed address for a container: it keeps it when it is taken off the network and put back under a
    name, so its open connections live on. They are given out in turn, so that a name looked up before a
    deployment does not soon lead to another service.
    """
    lower = ipaddress.IPv4Network(halves(subnet)[0])
    reserved = 2  # the network's own and the gateway's
    size = lower.num_addresses - reserved
    avoid = set(taken)
    for step in range(size):
        address = str(lower[reserved + (wish + step) % size])
        if address not in avoid:
            return address
    raise ValueError(f"no address is free in {lower}")


def same_image(image_id: str, created_from: str) -> ImageRef:
    """What a container runs, from its image's id and from the reference that it was created by."""
    repository, separator, digest = created_from.partition("@")
    if separator:
        return ImageRef(digest, DigestKind.MANIFEST, repository)
    return ImageRef(image_id, DigestKind.IMAGE_ID)


def describe_exit(container: Container) -> str:
    """E.g. "exit code 137, out of memory (limit 512 MiB)".

    The engine misses one out-of-memory kill in ten (20.10, cgroup v1), so a SIGKILL that it does not explain,
    in a container with a limit, is said to be perhaps one.
    """
    text = f"exit code {container.exit_code}"
    limit = f" (limit {_size(container.memory)})" if container.memory else ""
    if container.out_of_memory:
        return f"{text}, out of memory{limit}"
    if container.exit_code == _SIGKILLED and limit:
        return f"{text}, killed, perhaps out of memory{limit}"
    return text


def last_lines(output: bytes, secrets: Iterable[str], *, limit: int = 20, width: int = 400) -> list[str]:
    """The end of a container's output, bounded, without the values in `secrets`, nor any of their lines (the
    output may begin in the middle of one).
    """
    text = output.decode(errors="replace")
    masked = {part for secret in secrets for part in (secret, *secret.splitlines()) if len(part) >= _MASKED_FROM}
    for part in sorted(masked, key=len, reverse=True):
        text = text.replace(part, "***")
    return [line[:width] for line in text.splitlines()[-limit:]]


def registry_of(repository: str) -> str:
    """The registry's host of a repository's name, as the engine understands it."""
    host, separator, _ = repository.partition("/")
    if separator and ("." in host or ":" in host or host == "localhost"):
        return host
    return "docker.io"


def explain_start(message: str, publish: int | None, holders: Sequence[str]) -> str:
    """Why the engine did not start a container, in one line. `holders`: containers that publish the port."""
    if publish is not None and ("port is already allocated" in message or "address already in use" in message):
        by = f"the container {holders[0]}" if holders else "another program"
        return f"port {publish} of the host is taken by {by}"
    return f"the engine cannot start it: {message.strip().splitlines()[0] if message.strip() else 'no reason given'}"


def _size(size: int) -> str:
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size} B"


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
