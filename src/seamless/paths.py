"""Where Seamless looks for its configuration and its socket, and where it writes when nobody says.

Only the standard library: the CLI's start-up goes through here, and the agent must come to the same answers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from seamless.errors import ConfigError

CONFIG_VARIABLE: Final = "SEAMLESS_CONFIG"
SOCKET_VARIABLE: Final = "SEAMLESS_SOCKET"
HOST_VARIABLE: Final = "SEAMLESS_HOST"
SYSTEM_CONFIG: Final = Path("/etc/seamless/config.toml")
SYSTEM_DATA: Final = Path("/var/lib/seamless")
SYSTEM_SOCKET: Final = Path("/run/seamless/agent.sock")


def find_config(named: Path | None = None) -> Path:
    """The configuration file, absolute: `named`, else $SEAMLESS_CONFIG, else the first of the usual places.

    One that is named is returned whether it exists or not, so that reading it fails with its name rather than
    silently falling back to another file. Raises ConfigError with every place that was searched.
    """
    if (chosen := named_config(named)) is not None:
        return chosen
    places = [Path("seamless.toml").absolute(), *user_config(), SYSTEM_CONFIG]
    for place in places:
        if is_there(place):
            return place
    searched = "".join(f"\n  {place}" for place in places)
    raise ConfigError(
        f"there is no configuration; searched:\n  --config and ${CONFIG_VARIABLE} (not given){searched}",
        hint="Write one: seamless init",
    )


def is_there(path: Path) -> bool:
    """Whether something is there, also what this user may not look at: that is nothing to be overlooked."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def named_config(named: Path | None) -> Path | None:
    """The file that `named`, else $SEAMLESS_CONFIG, says, absolute; None when nobody says."""
    if named is None and os.environ.get(CONFIG_VARIABLE):
        named = Path(os.environ[CONFIG_VARIABLE])
    return None if named is None else named.expanduser().absolute()


def resolve(written: str, config_file: Path) -> Path:
    """A path written in a configuration file: `~` is the user's home, relative means beside that file."""
    return config_file.parent / Path(written).expanduser()


def default_data_dir() -> Path:
    """`agent.data_dir` when the configuration does not set it: $XDG_DATA_HOME/seamless."""
    base = _user_base("XDG_DATA_HOME", ".local/share")
    return base / "seamless" if base else SYSTEM_DATA


def default_socket() -> Path:
    """`agent.socket` when the configuration does not set it; never in a directory that others may write to."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        return Path(runtime, "seamless", "agent.sock")
    return SYSTEM_SOCKET if os.geteuid() == 0 else state_dir() / "agent.sock"


def state_dir() -> Path:
    """Where a user's own programs leave what is neither configuration nor data: $XDG_STATE_HOME/seamless."""
    base = _user_base("XDG_STATE_HOME", ".local/state")
    return base / "seamless" if base else SYSTEM_DATA


def tui_settings() -> Path | None:
    """Where the TUI keeps its settings; None for a user without a home."""
    base = _user_base("XDG_CONFIG_HOME", ".config")
    return base / "seamless" / "tui.toml" if base else None


def user_config() -> list[Path]:
    """Where a user's own configuration is looked for; nowhere for one without a home."""
    base = _user_base("XDG_CONFIG_HOME", ".config")
    return [base / "seamless" / "config.toml"] if base else []


def _user_base(variable: str, below_home: str) -> Path | None:
    """A folder by the XDG rules (a relative value counts as none); None for a user without a home."""
    named = os.environ.get(variable, "")
    if os.path.isabs(named):
        return Path(named)
    try:
        return Path.home() / below_home
    except RuntimeError:
        return None
