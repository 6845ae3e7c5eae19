"""What the global options say: which agent to speak to, and how to write to this terminal."""

from __future__ import annotations

import json
import os
import pwd
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from seamless.errors import ConfigError, UsageError
from seamless.paths import SYSTEM_CONFIG, SYSTEM_SOCKET, default_data_dir, default_socket, find_config, resolve

if TYPE_CHECKING:
    from rich.console import Console

    from seamless.client import Client


@dataclass(frozen=True)
class Session:
    config: Path | None  # --config
    socket: Path | None  # --socket, $SEAMLESS_SOCKET
    no_color: bool
    host: str | None = None  # --host, $SEAMLESS_HOST: the agent is there, and not here

    @cached_property
    def config_file(self) -> Path:
        """Raises ConfigError when there is none, UsageError when the agent is another host's."""
        if self.host:
            raise UsageError(f"this is done on the agent's own host, and you named {self.host}", hint="Type it there")
        return find_config(self.config)

    @cached_property
    def socket_path(self) -> Path:
        """Where the agent answers. Of the configuration only this is read: the agent is its judge."""
        if self.host:
            if self.socket is not None:
                raise UsageError(
                    "--host and --socket name two agents", hint="The socket of a host: ssh://host/path/agent.sock"
                )
            from seamless.cli.forwarding import forward, remote_of

            return forward(remote_of(self.host))
        return self.socket or self._place("socket", default_socket)

    @cached_property
    def data_dir(self) -> Path:
        return self._place("data_dir", default_data_dir)

    def _place(self, key: str, default: Any) -> Path:
        written = self._agent_table.get(key)
        return resolve(written, self.config_file) if isinstance(written, str) else default()

    @cached_property
    def _agent_table(self) -> dict[str, Any]:
        try:
            file = self.config_file
        except ConfigError:
            if self.config is not None:
                raise
            return {}
        from seamless.tomlfile import read_toml

        try:
            table = read_toml(file).get("agent", {})
        except ConfigError as error:
            if file != SYSTEM_CONFIG or not isinstance(error.__cause__, PermissionError):
                raise
            # The socket is closed to this user as well, and whoever tries it is told the group that opens both.
            return {"socket": str(SYSTEM_SOCKET)}
        return table if isinstance(table, dict) else {}

    def agent(self, *, tells_of_config: bool = False) -> Client:
        """A client for the agent; nothing is sent yet. With the first answer it is said on standard error when the
        configuration file is not in force, unless the command `tells_of_config` itself."""
        # httpx's own command line, which it imports when it can, with parts of Rich and Pygments: 70 ms.
        sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # how an import is halted
        from seamless.client import Client

        return Client(self.socket_path, on_old_config=None if tells_of_config else _tell_of_old_config)

    @cached_property
    def console(self) -> Console:
        """Standard output. Widths of a pipe are unlimited, text is never taken for markup."""
        from rich.console import Console

        return Console(
            color_system=None if self.no_color else "auto",
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=True,
        )

    @property
    def is_live(self) -> bool:
        """Whether standard output is a terminal on which lines can be drawn anew."""
        return sys.stdout.isatty() and not self.console.is_dumb_terminal

    @property
    def has_colors(self) -> bool:
        return self.console.is_terminal and self.console.color_system is not None


def _tell_of_old_config() -> None:
    print(
        "seamless: the configuration file has mistakes; what was in force before still is. See: seamless agent status",
        file=sys.stderr,
    )


def session_of(context: typer.Context) -> Session:
    return cast(Session, context.find_root().obj)


def print_json(value: object) -> None:
    """One document. Escaped to ASCII, so that nothing in it can drive a terminal."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_json_line(value: object) -> None:
    """One line of NDJSON, at once."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def user_name() -> str:
    """Whom the agent takes this user for."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
