"""What a Compose project may ask of this host: almost nothing.

The check is of the resolved model, the output of Compose's own `config`, against a list of what is allowed. A
key that is not on the list is refused by name, so that what a later Compose brings is refused too until
somebody has thought about it. All problems are told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from seamless.errors import StageError
from seamless.model import Trust
from seamless.stages.build import check_syntax
from seamless.stages.checkout import OutsideCheckoutError, resolve_inside
from seamless.stages.compose_values import listed, parse_volume, truthy, unescape

CAPABILITIES: Final = frozenset({"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"})
MAX_SCALE: Final = 10

DROPPED: Final = frozenset(
    [
        "annotations",
        "attach",
        "blkio_config",
        "container_name",
        "cpu_count",
        "cpu_percent",
        "cpu_period",
        "cpu_quota",
        "cpu_shares",
        "develop",
        "logging",
        "mem_reservation",
        "mem_swappiness",
        "memswap_limit",
        "ports",
        "restart",
    ]
)
"""Keys of a service that are let through and left out: the run decides, or they mean nothing to a test."""

KEPT: Final = frozenset(
    [
        "command",
        "dns",
        "dns_opt",
        "dns_search",
        "domainname",
        "entrypoint",
        "environment",
        "expose",
        "group_add",
        "healthcheck",
        "hostname",
        "init",
        "links",
        "platform",
        "profiles",
        "pull_policy",
        "read_only",
        "shm_size",
        "stdin_open",
        "stop_grace_period",
        "stop_signal",
        "tmpfs",
        "tty",
        "ulimits",
        "user",
        "working_dir",
    ]
)
"""Keys of a service that reach no further than its container, whatever they hold."""

_HOST: Final = "would reach into this host"
_WHY: Final[Mapping[str, str]] = {
    "cgroup": _HOST,
    "cgroup_parent": _HOST,
    "credential_spec": _HOST,
    "device_cgroup_rules": _HOST,
    "devices": _HOST,
    "external_links": "would reach containers outside the project",
    "gpus": _HOST,
    "provider": "would run a program on this host",
    "runtime": _HOST,
    "sysctls": "would change the kernel's settings",
    "use_api_socket": "would hand over the engine's socket, which is root on this host",
    "userns_mode": _HOST,
    "uts": _HOST,
    "volumes_from": "would reach other containers' volumes",
}
_RESERVED_LABELS: Final = ("io.seamless.", "com.docker.compose.")
_BUILD_KEPT: Final = frozenset(["args", "extra_hosts", "labels", "platforms", "shm_size", "target", "ulimits"])
_BUILD_DROPPED: Final = frozenset(["cache_from", "cache_to", "no_cache", "pull", "tags"])
_DEPLOY_IGNORED: Final = frozenset(
    ["endpoint_mode", "labels", "mode", "placement", "replicas", "restart_policy", "rollback_config", "update_config"]
)
_SOCKETS: Final = ("docker.sock", "containerd.sock", "podman.sock")


@dataclass(frozen=True, slots=True)
class Policy:
    """What the rules need to know. `replaced` are the services whose image Seamless decides: their build is moot."""

    checkout: Path
    trust: Trust
    replaced: frozenset[str] = frozenset()

    def inside(self, path: str) -> Path:
        """The real path, in the checkout and there. Raises StageError with a fragment that says why not."""
        try:
            real = resolve_inside(self.checkout, path)
        except OutsideCheckoutError as error:
            socket = ", and is a socket that is root on this host" if path.endswith(_SOCKETS) else ""
            raise StageError(f"{path} {error}{socket}") from error
        if not real.exists():
            raise StageError(f"{real.relative_to(self.checkout.resolve())} is not in the checkout")
        return real


_Rule = Callable[[Any, Policy], Iterator[str]]


def check_model(model: Mapping[str, Any], policy: Policy) -> list[str]:
    """Everything that the resolved model may not hold, as "services.db.privileged: why"; empty when all is well."""
    problems: list[str] = []
    for name, service in _table(model.get("services")).items():
        problems += [f"services.{name}.{problem}" for problem in _check_service(name, _table(service), policy)]
    for section, rules in _SECTIONS.items():
        for name, entry in _table(model.get(section)).items():
            problems += [f"{section}.{name}.{problem}" for problem in _check_entry(_table(entry), rules, policy)]
    known = {"version", "name", "services", *_SECTIONS}
    problems += [f"{key}: {_unknown()}" for key in model if key not in known and not key.startswith("x-")]
    return problems


def _check_service(name: str, service: Mapping[str, Any], policy: Policy) -> Iterator[str]:
    for key, value in service.items():
        moot = name in policy.replaced and key == "build"
        if key in KEPT or key in DROPPED or key.startswith("x-") or moot or _is_empty(value):
            continue
        rule = _SERVICE.get(key)
        if rule is None:
            yield f"{key}: {_WHY.get(key) or _unknown()}"
        else:
            yield from (f"{key}{problem}" for problem in rule(value, policy))


def _check_entry(entry: Mapping[str, Any], rules: Mapping[str, _Rule], policy: Policy) -> Iterator[str]:
    for key, value in entry.items():
        if key.startswith("x-") or _is_empty(value):
            continue
        rule = rules.get(key)
        if rule is None:
            yield f"{key}: {_unknown()}"
        else:
            yield from (f"{key}{problem}" for problem in rule(value, policy))


def _unknown() -> str:
    return "is not among the keys that Seamless lets through"


def _is_empty(value: object) -> bool:
    """Compose writes out keys that the file does not have: `ipam: {}`, `command: null`."""
    return value is None or value == {} or value == [] or value is False


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _allowed(_value: Any, _policy: Policy) -> Iterator[str]:
    return iter(())


def _refuse(why: str) -> _Rule:
    def rule(_value: Any, _policy: Policy) -> Iterator[str]:
        yield f": {why}"

    return rule


def _only(*allowed: str, why: str) -> _Rule:
    """`service:` stands for any service of the project."""

    def rule(value: Any, _policy: Policy) -> Iterator[str]:
        text = str(value)
        if text not in allowed and not ("service:" in allowed and text.startswith("service:")):
            yield f" {text}: {why}"

    return rule


def _capabilities(value: Any, _policy: Policy) -> Iterator[str]:
    for capability in map(str, listed(value)):
        if capability.upper().removeprefix("CAP_") not in CAPABILITIES:
            yield f" {capability}: only {', '.join(sorted(CAPABILITIES))} are given"


def _security(value: Any, _policy: Policy) -> Iterator[str]:
    for option in map(str, listed(value)):
        if option.replace("=", ":") not in ("no-new-privileges", "no-new-privileges:true"):
            yield f" {option}: would weaken the container's confinement"


def _hosts(value: Any, _policy: Policy) -> Iterator[str]:
    entries = [f"{name}:{address}" for name, address in value.items()] if isinstance(value, Mapping) else listed(value)
    for entry in map(str, entries):
        if "host-gateway" in entry:
            yield f" {entry}: {_HOST}"


def _labels(value: Any, _policy: Policy) -> Iterator[str]:
    for entry in value if isinstance(value, Mapping) else listed(value):
        if str(entry).startswith(_RESERVED_LABELS):
            yield f" {entry}: is a name that Seamless or Compose keeps its own books with"


def _scale(value: Any, _policy: Policy) -> Iterator[str]:
    if not str(value).isdigit() or int(value) > MAX_SCALE:
        yield f" {value}: at most {MAX_SCALE} containers of one service"


def _deploy(value: Any, policy: Policy) -> Iterator[str]:
    for key, entry in _table(value).items():
        if key == "replicas":
            yield from (f".replicas{problem}" for problem in _scale(entry, policy))
        elif key == "resources":
            for kind, resources in _table(entry).items():
                for name in _table(resources):
                    if name not in ("cpus", "memory", "pids"):
                        yield f".resources.{kind}.{name}: {_HOST}"
        elif key not in _DEPLOY_IGNORED and not _is_empty(entry):
            yield f".{key}: {_unknown()}"


def _volumes(value: Any, policy: Policy) -> Iterator[str]:
    for entry in listed(value):
        try:
            volume = parse_volume(entry)
            if volume.kind == "bind":
                policy.inside(volume.source)
        except StageError as error:
            yield f": {error.message}"


def _networks(value: Any, _policy: Policy) -> Iterator[str]:
    for name, attachment in _table(value).items():
        for key, entry in _table(attachment).items():
            if key in ("ipv4_address", "ipv6_address", "link_local_ips") and entry:
                yield f".{name}.{key}: a fixed address would collide with another run"
            elif key not in ("aliases", "priority") and not _is_empty(entry):
                yield f".{name}.{key}: {_unknown()}"


def _hooks(value: Any, _policy: Policy) -> Iterator[str]:
    for hook in listed(value):
        for key, entry in _table(hook).items():
            if key == "privileged" and truthy(entry):
                yield f".privileged: {_HOST}"
            elif key not in ("command", "environment", "per_replica", "privileged", "user", "working_dir"):
                yield f".{key}: {_unknown()}"


def _build(value: Any, policy: Policy) -> Iterator[str]:
    build = value if isinstance(value, Mapping) else {"context": value}
    yield from _build_files(build, policy)
    for key, entry in build.items():
        if key in ("context", "dockerfile", "dockerfile_inline") or key in _BUILD_KEPT | _BUILD_DROPPED:
            continue
        if key == "network" and entry in ("default", "none"):
            continue
        if not _is_empty(entry):
            yield f".{key}: {_HOST if key in ('network', 'privileged', 'entitlements', 'isolation') else _unknown()}"
    yield from (f".extra_hosts{problem}" for problem in _hosts(build.get("extra_hosts"), policy))


def _build_files(build: Mapping[str, Any], policy: Policy) -> Iterator[str]:
    try:
        context = policy.inside(unescape(str(build.get("context", "."))))
        inline = build.get("dockerfile_inline")
        if inline is None:
            dockerfile = policy.inside(str(context / unescape(str(build.get("dockerfile") or "Dockerfile"))))
            text, shown = dockerfile.read_text(errors="replace"), str(dockerfile.relative_to(policy.checkout.resolve()))
        else:
            text, shown = unescape(str(inline)), "dockerfile_inline"
        if policy.trust is not Trust.TRUSTED:
            check_syntax(text, shown)
    except (StageError, OSError) as error:
        yield f": {error}"


def _file(value: Any, policy: Policy) -> Iterator[str]:
    try:
        policy.inside(unescape(str(value)))
    except StageError as error:
        yield f": {error.message}"


def _ipam(value: Any, _policy: Policy) -> Iterator[str]:
    for key, entry in _table(value).items():
        if not _is_empty(entry) and not (key == "driver" and entry == "default"):
            yield f".{key}: a fixed subnet would collide with another run"


_EXTERNAL: Final = _refuse("would reach what is not this project's")
_DRIVER_OPTIONS: Final = _refuse("can mount folders of this host")

_SERVICE: Final[Mapping[str, _Rule]] = {
    "build": _build,
    "cap_add": _capabilities,
    "cap_drop": _allowed,
    "configs": _allowed,
    "cpus": _allowed,
    "depends_on": _allowed,
    "deploy": _deploy,
    "extra_hosts": _hosts,
    "image": _allowed,
    "ipc": _only("private", "shareable", "none", "service:", why="only the project's own services may share it"),
    "labels": _labels,
    "mem_limit": _allowed,
    "network_mode": _only("none", "service:", why="only none and the project's own services are allowed"),
    "networks": _networks,
    "pid": _only("service:", why="only the project's own services may share it"),
    "pids_limit": _allowed,
    "post_start": _hooks,
    "pre_stop": _hooks,
    "privileged": _refuse("is root on this host"),
    "scale": _scale,
    "secrets": _allowed,
    "security_opt": _security,
    "volumes": _volumes,
}
_SECTIONS: Final[Mapping[str, Mapping[str, _Rule]]] = {
    "networks": {
        "attachable": _allowed,
        "driver": _only("bridge", why="only bridge networks are allowed"),
        "driver_opts": _refuse("can reach into this host's network"),
        "external": _EXTERNAL,
        "internal": _allowed,
        "ipam": _ipam,
        "labels": _labels,
        "name": _allowed,
    },
    "volumes": {
        "driver": _only("local", why="only local volumes are allowed"),
        "driver_opts": _DRIVER_OPTIONS,
        "external": _EXTERNAL,
        "labels": _labels,
        "name": _allowed,
    },
    "secrets": {"external": _EXTERNAL, "file": _file, "labels": _labels, "name": _allowed},
    "configs": {"content": _allowed, "external": _EXTERNAL, "file": _file, "labels": _labels, "name": _allowed},
}
