"""The systemd unit of the agent, as text. Pure: what writes and installs it is `cli/installing.py`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from seamless.paths import SYSTEM_CONFIG

UNIT_NAME: Final = "seamless.service"
UNIT_FILE: Final = Path("/etc/systemd/system", UNIT_NAME)
CONFIG_FILE: Final = SYSTEM_CONFIG
CREDENTIALS_DIR: Final = Path("/etc/seamless/credentials")
_HEAD: Final = "# Written by `seamless agent install`. Changes belong in a drop-in: systemctl edit seamless\n# sha256 "
_PERCENT: Final = re.compile("%")

_TEMPLATE: Final = """\
[Unit]
Description=Seamless: from git push to production
After=network-online.target docker.service
Wants=network-online.target docker.service
StartLimitIntervalSec=5min
StartLimitBurst=20

[Service]
Type=notify
NotifyAccess=main
User={user}
Group={user}
SupplementaryGroups=docker
ExecStart={program} --config {config} agent run
ExecReload={program} --config {config} agent reload
Environment=HOME={home} XDG_STATE_HOME=/var/log PYTHONFAULTHANDLER=1
UMask=0077

# The watchdog is pinged from the event loop. An agent that hangs is ended (its stacks go to the journal), and the next
# one adopts the containers and goes on. A configuration that cannot be used (exit code 2) is no reason to try again.
WatchdogSec=30s
Restart=always
RestartSec=2s
RestartPreventExitStatus=2
TimeoutStartSec=5min
TimeoutStopSec=60s
# A program that uses too much memory is killed alone; the agent tells it as that stage's failure.
OOMPolicy=continue
# Only the agent is told to end; its programs end with it, and containers are the engine's.
KillMode=mixed
LimitNOFILE=65536

# Secrets: each file of that folder, root's alone, is {credentials}/secret_<name> for the agent.
LoadCredential=secret:{credentials_dir}
{directories}
RuntimeDirectory={runtime}
RuntimeDirectoryMode=0750
LogsDirectory=seamless
LogsDirectoryMode=0750

# Overlays are mounted by the engine, so the agent needs no rights of its own beside the group docker. That group is
# root's equal: what follows protects from accidents and from a fault in a library, not from whoever holds the socket.
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
LockPersonality=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=read-only
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=strict
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# Not PrivateUsers: the socket tells who asks, by user id. Not ProtectProc: and from where, by process.
# Not ProcSubset=pid: the boot's id and the memory are read.

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """What differs between hosts. `data_dir` outside of /var/lib must exist when the unit starts."""

    program: str  # absolute path of `seamless`
    config: Path
    user: str
    data_dir: Path
    runtime: str  # folder below /run of the socket


def render(unit: Unit) -> str:
    """The unit file's text, with the checksum by which a change by hand is recognised."""
    below = Path("/var/lib")
    if unit.data_dir.is_relative_to(below):
        directories = f"StateDirectory={_quoted(unit.data_dir.relative_to(below))}\nStateDirectoryMode=0700"
    else:
        directories = f"ReadWritePaths={_quoted(unit.data_dir)}"
    body = _TEMPLATE.format(
        program=_quoted(unit.program),
        config=_quoted(unit.config),
        user=unit.user,
        home=_quoted(unit.data_dir),
        credentials=f"/run/credentials/{UNIT_NAME}",
        credentials_dir=CREDENTIALS_DIR,
        directories=directories,
        runtime=unit.runtime,
    )
    return f"{_HEAD}{hashlib.sha256(body.encode()).hexdigest()}\n\n{body}"


def is_untouched(text: str) -> bool:
    """Whether `render` wrote the text, this version or another, and nobody changed it."""
    if not text.startswith(_HEAD):
        return False
    checksum, _, body = text.removeprefix(_HEAD).partition("\n\n")
    return hashlib.sha256(body.encode()).hexdigest() == checksum


def _quoted(value: object) -> str:
    """systemd.syntax(7): percent signs double; words with spaces in quotes."""
    text = _PERCENT.sub("%%", str(value)).replace("\\", "\\\\")
    return f'"{text}"' if re.search(r"[\s\"';]", text) else text
