"""Settings that last: `~/.config/seamless/tui.toml`.

    theme = "terminal"         # the terminal's own colours; or one of Textual's themes
    mouse = true
    wrap = false               # of logs

    [keys]                     # a binding's name, as the help shows it, and its keys
    log_wrap = "w,ctrl+w"

What cannot be used is told and left out; the program starts all the same.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from seamless.errors import ConfigError

DEFAULT_THEME: Final = "terminal"


@dataclass(slots=True)
class Settings:
    file: Path | None
    theme: str = DEFAULT_THEME
    mouse: bool = True
    wrap: bool = False
    keys: dict[str, object] = field(default_factory=dict)
    """As they are written: `keymap.checked` tells what of them can be used."""
    problems: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, file: Path | None) -> Settings:
        settings = cls(file)
        if file is None:
            return settings
        try:
            written = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return settings
        except (OSError, ValueError) as error:
            settings.problems.append(f"it cannot be used, and the defaults are in force: {_why(error)}")
            return settings
        for key, value in written.items():
            settings._take(key, value)
        return settings

    def _take(self, key: str, value: object) -> None:
        match key, value:
            case "theme", str():
                self.theme = value
            case "mouse" | "wrap", bool():
                setattr(self, key, value)
            case "keys", dict():
                self.keys = value
            case "theme" | "mouse" | "wrap" | "keys", _:
                self.problems.append(f"{key} cannot be {value!r}")
            case _:
                near = difflib.get_close_matches(key, ["theme", "mouse", "wrap", "keys"], 1)
                self.problems.append(f"{key}: no such setting{f'; did you mean {near[0]}?' if near else ''}")

    def keep(self, **changed: str | bool) -> None:
        """Change settings in the file too; all else in it, comments and all, stays. Raises ConfigError."""
        import tomlkit

        for name, value in changed.items():
            setattr(self, name, value)
        if self.file is None:
            return
        try:
            file = self.file.resolve()  # a link to it stays one
            text = file.read_text(encoding="utf-8") if file.exists() else ""
            document = tomlkit.parse(text)
            document.update(changed)
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = file.with_suffix(".new")
            new.write_text(tomlkit.dumps(document), encoding="utf-8")
            new.rename(file)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.file} cannot be written, so this lasts until you quit: {_why(error)}") from None


def _why(error: OSError | ValueError) -> str:
    return str((isinstance(error, OSError) and error.strerror) or error)
