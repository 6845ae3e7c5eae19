"""Where Seamless looks for its configuration and its socket, and where it writes when nobody says.

Only the standard library: the CLI's start-up goes through here, and the agent must come to the same answers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CONFIG_VARIABLE: Final = "SEAMLESS_CONFIG"
SOCKET_VARIABLE: Final = "SEAMLESS_SOCKET"
SYSTEM_CONFIG: Final = Path("/etc/seamless/config.toml")
SYSTEM_SOCKET: Final = Path("/run/seamless/agent.sock")


def config_candidates(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Where a configuration is looked for when neither `--config` nor $SEAMLESS_CONFIG names one, first found wins."""
    return [
        Path("seamless.toml").absolute(),
        _base(environ, "XDG_CONFIG_HOME", ".config") / "config.toml",
        SYSTEM_CONFIG,
    ]


def find_config(named: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The configuration file, absolute; None when there is none.

    One that is named, by `--config` or else by $SEAMLESS_CONFIG, is returned whether it exists or not, so that
    reading it fails with its name rather than silently falling back to another file.
    """
    if named is None and environ.get(CONFIG_VARIABLE):
        named = Path(environ[CONFIG_VARIABLE])
    if named is not None:
        return named.expanduser().absolute()
    return next((path for path in config_candidates(environ) if path.is_file()), None)


def resolve(written: str, config_file: Path) -> Path:
    """A path written in a configuration file: `~` is the user's home, relative means beside that file."""
    return config_file.parent / Path(written).expanduser()


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """`agent.data_dir` when the configuration does not set it."""
    return _base(environ, "XDG_DATA_HOME", ".local/share")


def default_socket(environ: Mapping[str, str] = os.environ) -> Path:
    """`agent.socket` when the configuration does not set it; never in a directory that others can write to."""
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime, "seamless", "agent.sock")
    if os.geteuid() == 0:
        return SYSTEM_SOCKET
    return state_dir(environ) / "agent.sock"


def state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a user's own programs leave what is neither configuration nor data, such as the report of a bug."""
    return _base(environ, "XDG_STATE_HOME", ".local/state")


def _base(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    """The XDG base directories' rule: an absolute path in the variable, else the default below the home directory."""
    named = environ.get(variable, "")
    return (Path(named) if os.path.isabs(named) else Path.home() / below_home) / "seamless"
