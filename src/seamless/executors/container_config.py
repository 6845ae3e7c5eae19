"""What the engine is asked to create, as plain bodies of its API: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from seamless.executors import LABEL_INSTALLATION, LABEL_ROLE, SPOOL_TARGET, ContainerSpec, Limits, Mount, ShellSpec

# Root without them could not write a workspace that another user owns, nor become that user.
CAPABILITIES: Final = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID")

# Everything the stage writes goes to the spool; its script arrives as an argument, so nothing in it needs quoting.
_TO_SPOOL: Final = f'exec >>{SPOOL_TARGET} 2>&1 </dev/null; exec /bin/sh -eu -c "$1" sh'
_BEST_SHELL: Final = "command -v bash >/dev/null && exec bash; exec sh"

# Where clouds serve a machine's credentials: EC2 and most others, ECS, and EC2 over IPv6.
_METADATA: Final = ("169.254.169.254", "169.254.170.2")
_METADATA_IPV6: Final = "fd00:ec2::254"
NAMESPACE_READY: Final = b"ready"
# The route needs NET_ADMIN; what stays afterwards is a sleeping nobody without any capability.
_HOLD_NAMESPACE: Final = f"""set -e
for address in {" ".join(_METADATA)}; do ip route add blackhole $address; done
if [ "$(cat /proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null)" = 0 ] && [ -s /proc/net/if_inet6 ]; then
    ip -6 route add blackhole {_METADATA_IPV6}
fi
echo {NAMESPACE_READY.decode()}
exec su -s /bin/sh nobody -c 'exec sleep infinity'
"""

Body = dict[str, Any]


def owned(labels: Mapping[str, str], installation: str, role: str) -> dict[str, str]:
    """`labels` with what every object of an installation carries; a role that is set already stays."""
    return {LABEL_ROLE: role, **labels, LABEL_INSTALLATION: installation}


def stage_body(spec: ContainerSpec, *, network_mode: str, labels: Mapping[str, str], cpus: int) -> Body:
    """A stage's container. `cpus` is what the host has: the engine refuses a limit above it."""
    spool = Mount(str(spec.spool), SPOOL_TARGET)
    return {
        **_common(spec.image, spec.env, spec.user, spec.workdir, labels),
        "Entrypoint": ["/bin/sh", "-c", _TO_SPOOL, "sh", spec.script],
        "HostConfig": _confined((*spec.mounts, spool), spec.limits, network_mode, cpus),
    }


def shell_body(spec: ShellSpec, *, network_mode: str, labels: Mapping[str, str], cpus: int) -> Body:
    """An interactive shell's container: with a terminal, and ended when its one client leaves."""
    return {
        **_common(spec.image, {"TERM": "xterm-256color", **spec.env}, spec.user, spec.workdir, labels),
        "Entrypoint": ["/bin/sh", "-c", _BEST_SHELL],
        "Tty": True,
        **dict.fromkeys(("OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr"), True),
        "HostConfig": _confined(spec.mounts, spec.limits, network_mode, cpus),
    }


def namespace_body(image: str, *, labels: Mapping[str, str]) -> Body:
    """The container that holds a network namespace of the pool; it says NAMESPACE_READY when it is.

    It has no init, since process 1 must be the one without capabilities, and therefore is stopped by
    KILL: with TERM, which process 1 ignores, each stop of the engine would wait for its whole grace.
    """
    return {
        "Image": image,
        "Entrypoint": ["/bin/sh", "-c", _HOLD_NAMESPACE],
        "Hostname": "seamless",
        "AttachStdout": True,
        "StopSignal": "SIGKILL",
        "Labels": dict(labels),
        "HostConfig": {
            "CapDrop": ["ALL"],
            "CapAdd": ["NET_ADMIN", "SETUID", "SETGID"],
            "SecurityOpt": ["no-new-privileges:true"],
            "ReadonlyRootfs": True,
            "LogConfig": {"Type": "none"},
            "NetworkMode": "default",
            "PidsLimit": 16,
        },
    }


def chore_body(
    image: str, command: Sequence[str], mounts: Sequence[Mount], *, user: str | None, labels: Mapping[str, str]
) -> Body:
    """A short task on files that the agent's user may not touch: no network, and its output kept for an error."""
    return {
        "Image": image,
        "Entrypoint": list(command),
        "User": user or "0:0",
        "Labels": dict(labels),
        "HostConfig": {
            "CapDrop": ["ALL"],
            "CapAdd": list(CAPABILITIES),
            "SecurityOpt": ["no-new-privileges:true"],
            "ReadonlyRootfs": True,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
            "NetworkMode": "none",
            "Mounts": [mount_body(mount) for mount in mounts],
        },
    }


def mount_body(mount: Mount) -> Body:
    """`NoCopy`: the engine would otherwise fill an empty volume with what the image has at its place."""
    if mount.source.startswith("/"):
        return {"Type": "bind", "Source": mount.source, "Target": mount.target, "ReadOnly": mount.read_only}
    return {
        "Type": "volume",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
        "VolumeOptions": {"NoCopy": True},
    }


def _common(image: str, env: Mapping[str, str], user: str | None, workdir: str, labels: Mapping[str, str]) -> Body:
    return {
        "Image": image,
        "Env": [f"{name}={value}" for name, value in env.items()],
        "User": user or "",
        "WorkingDir": workdir,
        "Labels": dict(labels),
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},  # the image's own is meant for what it serves, not for a stage
    }


def _confined(mounts: Sequence[Mount], limits: Limits, network_mode: str, cpus: int) -> Body:
    return {
        "Init": True,
        "CapDrop": ["ALL"],
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": ["no-new-privileges:true"],
        "NanoCpus": int(min(limits.cpus, cpus) * 1_000_000_000),
        "Memory": limits.memory,
        "MemorySwap": limits.memory,
        "PidsLimit": limits.pids,
        "LogConfig": {"Type": "none"},
        "NetworkMode": network_mode,
        "Mounts": [mount_body(mount) for mount in mounts],
    }
