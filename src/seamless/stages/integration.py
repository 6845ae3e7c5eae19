"""The plan of the integration_test stage: whose image each Compose service gets, and the project that is run.

The file that is run holds only what `compose_policy` lets through, written anew: nothing in it is read from
anywhere else, no path in it leads out of the checkout, and no name in it is shared with another run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from seamless.config import Limits
from seamless.errors import StageError
from seamless.executors import LABEL_INSTALLATION, LABEL_ROLE, LABEL_RUN, LABEL_STAGE
from seamless.model import ImageRef, StageName, Trust
from seamless.stages.build import CACHE_NAMESPACE, cache_namespace
from seamless.stages.compose_file import ComposeFile, raise_problems
from seamless.stages.compose_policy import CAPABILITIES, KEPT, Policy, check_model
from seamless.stages.compose_values import as_table, escape, listed, parse_bytes, parse_number, parse_volume, unescape

_FILE: Final = "file"
_LOG_OPTIONS: Final = {"max-size": "64m", "max-file": "2"}
_BUILD_KEPT: Final = ("args", "extra_hosts", "platforms", "shm_size", "target", "ulimits")


@dataclass(frozen=True, slots=True)
class PeerImage:
    """What a Seamless service is tested as. `source`: "candidate", "production", "staging" or "build"."""

    ref: ImageRef
    commit: str
    source: str


@dataclass(frozen=True, slots=True)
class Peer:
    """Evidence: what one Compose service was. `source` is "file" for an image or build of the Compose file's own."""

    compose_service: str
    service: str | None  # the Seamless service
    commit: str | None
    digest: str | None
    source: str


@dataclass(frozen=True, slots=True)
class IntegrationPlan:
    """A Compose project that is ready to be run, and what is known about it."""

    project: str
    model: Mapping[str, Any]  # JSON
    test_service: str
    others: tuple[str, ...]  # started before the tests
    built: tuple[str, ...]  # services whose image Compose builds
    waits_for: Mapping[str, str]  # the test service's dependencies: service -> condition
    peers: tuple[Peer, ...]
    notes: tuple[str, ...]  # what was changed, for the log

    @property
    def evidence(self) -> dict[str, Any]:
        """What is kept with the run, as JSON."""
        return {"peers": [asdict(peer) for peer in self.peers]}


def project_name(installation: str, run: str, attempt: int) -> str:
    """Unique per attempt. The run's dashes stay: without them `a-1` + `1` and `a` + `11` would be one."""
    return f"seamless-{installation}-{run}-{attempt}"


def find_peers(
    compose_services: Collection[str], mapping: Mapping[str, str], services: Collection[str]
) -> dict[str, str]:
    """Compose service -> Seamless service, by `integration_test.map` or by the same name.

    Raises StageError when the map names a Compose service that the file does not have.
    """
    if unknown := sorted(set(mapping) - set(compose_services)):
        raise StageError(
            f"integration_test.map names {', '.join(unknown)}, which the Compose file does not have",
            hint=f"it has {', '.join(sorted(compose_services))}",
        )
    same = {name: name for name in compose_services if name in services}
    return {**same, **mapping}


def plan_integration(
    resolved: Mapping[str, Any],
    *,
    file: ComposeFile,
    checkout: Path,
    test_service: str,
    named: Mapping[str, str],
    images: Mapping[str, PeerImage],
    service: str,
    installation: str,
    run: str,
    attempt: int,
    trust: Trust,
    limits: Limits,
) -> IntegrationPlan:
    """Makes the project that is run out of what Compose's `config` said about the file.

    `named` is what `find_peers` returned; `images` are by Seamless service. `limits` are for each container.
    Reads the checkout, writes nothing. Raises StageError with everything that the policy refuses.
    """
    services = _services(resolved)
    if test_service not in services:
        raise StageError(
            f"{file.shown} has no service {test_service}, which integration_test.test_service names",
            hint=f"it has {', '.join(sorted(services))}",
        )
    replaced = frozenset(name for name, seamless in named.items() if seamless in images)
    policy = Policy(checkout, trust, replaced)
    raise_problems(file.shown, check_model(resolved, policy))
    wanted, left_out = _wanted(services, test_service)
    _check_images(services, wanted, named, replaced)
    labels = {
        LABEL_INSTALLATION: installation,
        LABEL_RUN: run,
        LABEL_STAGE: StageName.INTEGRATION_TEST.value,
        LABEL_ROLE: "compose",
    }
    writer = _Writer(policy, labels, limits, cache_namespace(installation, service, trust))
    model = writer.model(resolved, {name: services[name] for name in wanted}, named, images)
    return IntegrationPlan(
        project=project_name(installation, run, attempt),
        model=model,
        test_service=test_service,
        others=tuple(name for name in wanted if name != test_service),
        built=tuple(name for name in wanted if "build" in model["services"][name]),
        waits_for={
            name: entry["condition"] for name, entry in model["services"][test_service].get("depends_on", {}).items()
        },
        peers=tuple(_peer(name, named.get(name), images, services[name]) for name in wanted),
        notes=(*writer.notes, *(f"{name} waits for {test_service}: left out" for name in left_out)),
    )


def _services(resolved: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    services = resolved.get("services") or {}
    return {name: service or {} for name, service in services.items()}


def _check_images(
    services: Mapping[str, Mapping[str, Any]], wanted: list[str], named: Mapping[str, str], replaced: frozenset[str]
) -> None:
    for name in wanted:
        if name in replaced or services[name].get("image") or services[name].get("build"):
            continue
        if name in named:
            raise StageError(
                f"{named[name]} has no image to test against: it was never deployed nor built",
                hint=f"run it once, or give {name} an image or a build in the Compose file",
            )
        raise StageError(f"the Compose service {name} has neither an image nor a build")


def _peer(name: str, seamless: str | None, images: Mapping[str, PeerImage], service: Mapping[str, Any]) -> Peer:
    image = images.get(seamless) if seamless is not None else None
    if image is None:
        digest = str(service.get("image") or "").partition("@")[2] or None
        return Peer(name, seamless, None, digest, _FILE)
    return Peer(name, seamless, image.commit, image.ref.digest, image.source)


def _wanted(services: Mapping[str, Mapping[str, Any]], test_service: str) -> tuple[list[str], list[str]]:
    """(services of the project, services left out since they wait for the tests), in the file's order.

    As `up` does it: what has no profile, and what these and the tests need.
    """
    needed = {name for name, service in services.items() if not service.get("profiles")}
    todo = [*needed, test_service]
    needed.add(test_service)
    while todo:
        for name in _needs(services[todo.pop()]):
            if name in services and name not in needed:
                needed.add(name)
                todo.append(name)
    after = {test_service}
    grown = True
    while grown:
        more = {name for name in needed - after if after & set(_needs(services[name]))}
        after |= more
        grown = bool(more)
    kept = needed - after | {test_service}
    return [name for name in services if name in kept], [name for name in services if name in needed - kept]


def _needs(service: Mapping[str, Any]) -> Iterator[str]:
    yield from (name for name, _ in _dependencies(service))
    yield from (str(link).partition(":")[0] for link in listed(service.get("links")))
    for key in ("network_mode", "ipc", "pid"):
        kind, colon, name = str(service.get(key) or "").partition(":")
        if kind == "service" and colon:
            yield name


def _dependencies(service: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    depends_on = service.get("depends_on")
    if isinstance(depends_on, Mapping):
        yield from ((str(name), entry or {}) for name, entry in depends_on.items())
    else:
        yield from ((str(name), {}) for name in listed(depends_on))


@dataclass(slots=True)
class _Writer:
    """Writes the services of the project that is run, key by key from what is allowed."""

    policy: Policy
    labels: Mapping[str, str]
    limits: Limits
    cache_namespace: str
    notes: list[str]

    def __init__(self, policy: Policy, labels: Mapping[str, str], limits: Limits, cache_namespace: str) -> None:
        self.policy, self.labels, self.limits, self.cache_namespace = policy, labels, limits, cache_namespace
        self.notes = []

    def model(
        self,
        resolved: Mapping[str, Any],
        services: Mapping[str, Mapping[str, Any]],
        named: Mapping[str, str],
        images: Mapping[str, PeerImage],
    ) -> dict[str, Any]:
        """Without `version`, which makes 1.29 take it for the specification of today."""
        written = {}
        for name, service in services.items():
            image = images.get(named.get(name, ""))
            written[name] = self.service(name, service, set(services), None if image is None else image.ref.pullable)
        model: dict[str, Any] = {"services": written}
        networks = {"default": None, **(resolved.get("networks") or {})}
        used = {network for service in written.values() for network in service.get("networks", {})}
        model["networks"] = {name: self.network(entry or {}) for name, entry in networks.items() if name in used}
        model["volumes"] = {name: self.labelled(entry or {}) for name, entry in (resolved.get("volumes") or {}).items()}
        for section in ("secrets", "configs"):
            entries = (resolved.get(section) or {}).items()
            model[section] = {name: self.granted(entry) for name, entry in entries}
        return {section: entries for section, entries in model.items() if entries}

    def service(self, name: str, service: Mapping[str, Any], present: set[str], image: str | None) -> dict[str, Any]:
        written = {key: service[key] for key in KEPT - {"profiles"} if service.get(key) is not None}
        for key in ("ipc", "network_mode", "pid", "secrets", "configs", "post_start", "pre_stop"):
            if service.get(key):
                written[key] = service[key]
        if image is not None:
            written["image"] = escape(image)
            written.pop("pull_policy", None)
        elif service.get("build"):
            # Without a name of its own: one from the file could take over any tag of this engine.
            written["build"] = self.build(service["build"])
            written.pop("pull_policy", None)
        else:
            written["image"] = service["image"]
        variables = as_table(service.get("environment"))
        written["environment"] = {key: value for key, value in variables.items() if value is not None}
        if service.get("extra_hosts"):
            written["extra_hosts"] = _hosts(service["extra_hosts"])
        if "network_mode" not in written:
            written["networks"] = _attachments(service.get("networks"))
        if depends_on := dict(self.dependencies(service, present)):
            written["depends_on"] = depends_on
        if volumes := [self.volume(name, entry) for entry in listed(service.get("volumes"))]:
            written["volumes"] = volumes
        scale = service.get("scale") or (service.get("deploy") or {}).get("replicas")
        if scale is not None:
            written["scale"] = int(scale)
        return {**written, **self.confinement(service)}

    def confinement(self, service: Mapping[str, Any]) -> dict[str, Any]:
        """What holds for every container, whatever the file says."""
        asked = ((service.get("deploy") or {}).get("resources") or {}).get("limits") or {}
        memory = [parse_bytes(value) for value in (service.get("mem_limit"), asked.get("memory")) if value]
        cpus = [parse_number(value) for value in (service.get("cpus"), asked.get("cpus")) if value]
        pids = [int(parse_number(value)) for value in (service.get("pids_limit"), asked.get("pids")) if value]
        most_memory = min([self.limits.memory, *memory])
        dropped = {str(each).upper().removeprefix("CAP_") for each in listed(service.get("cap_drop"))}
        given = CAPABILITIES if "ALL" not in dropped else _capabilities(service.get("cap_add"))
        return {
            "init": service.get("init") is not False,  # an image with an init of its own says false
            "cap_drop": ["ALL"],
            "cap_add": sorted(given - dropped | _capabilities(service.get("cap_add"))),
            "security_opt": ["no-new-privileges:true"],
            "mem_limit": most_memory,
            "memswap_limit": most_memory,
            "cpus": min([self.limits.cpus, *cpus]),
            "pids_limit": min([self.limits.pids, *(each for each in pids if each > 0)]),
            "logging": {"driver": "json-file", "options": _LOG_OPTIONS},
            "labels": {**as_table(service.get("labels")), **self.labels},
        }

    def build(self, build: Any) -> dict[str, Any]:
        table = build if isinstance(build, Mapping) else {"context": build}
        context = self.policy.inside(unescape(str(table["context"])))
        written = {key: table[key] for key in _BUILD_KEPT if table.get(key)}
        written["context"] = escape(str(context))
        if table.get("dockerfile_inline") is not None:
            written["dockerfile_inline"] = table["dockerfile_inline"]
        else:
            dockerfile = self.policy.inside(str(context / unescape(str(table.get("dockerfile") or "Dockerfile"))))
            written["dockerfile"] = escape(str(dockerfile))
        arguments = {name: value for name, value in as_table(table.get("args")).items() if value is not None}
        written["args"] = {**arguments, CACHE_NAMESPACE: self.cache_namespace}
        if table.get("network") == "none":
            written["network"] = "none"
        return written

    def dependencies(self, service: Mapping[str, Any], present: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, entry in _dependencies(service):
            if name in present:
                yield name, {"condition": entry.get("condition", "service_started")}

    def volume(self, service: str, entry: object) -> dict[str, Any]:
        volume = parse_volume(entry)
        written: dict[str, Any] = {"type": volume.kind, "target": escape(volume.target)}
        if volume.kind == "bind":
            real = self.policy.inside(volume.source)
            if not volume.read_only:
                shown = real.relative_to(self.policy.checkout.resolve())
                self.notes.append(f"{service}: {shown} of the checkout is mounted read-only at {volume.target}")
            return {**written, "source": escape(str(real)), "read_only": True}
        if volume.source:
            written["source"] = volume.source
        if volume.read_only:
            written["read_only"] = True
        if volume.size is not None:
            written["tmpfs"] = {"size": volume.size}
        return written

    def network(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        return {**self.labelled(entry), **({"internal": True} if entry.get("internal") else {})}

    def granted(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """A secret or a config of the file."""
        if entry.get("file") is None:
            return {"content": entry.get("content", "")}
        return {"file": escape(str(self.policy.inside(unescape(str(entry["file"])))))}

    def labelled(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        return {"labels": {**as_table(entry.get("labels")), **self.labels}}


def _capabilities(names: object) -> set[str]:
    return {str(name).upper().removeprefix("CAP_") for name in listed(names)}


def _attachments(networks: object) -> dict[str, Any]:
    """Of a service to networks, without what the policy took for empty."""
    if not networks:
        return {"default": {}}
    table = networks if isinstance(networks, Mapping) else dict.fromkeys(listed(networks))
    kept = ("aliases", "priority")
    return {name: {key: (entry or {})[key] for key in kept if (entry or {}).get(key)} for name, entry in table.items()}


def _hosts(hosts: object) -> list[str]:
    """1.29 takes `name:address` only; 2 writes `name=address`."""
    if isinstance(hosts, Mapping):
        return [f"{name}:{address}" for name, each in hosts.items() for address in listed(each)]
    return [str(entry).replace("=", ":", 1) for entry in listed(hosts)]
