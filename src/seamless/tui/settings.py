"""Settings that last: `~/.config/seamless/tui.toml`.

    theme = "terminal"         # the terminal's own colours; or one of Textual's themes
    mouse = true
    wrap = false               # of logs

    [keys]                     # a binding's name, as the help shows it, and its keys
    log_wrap = "w,ctrl+w"

What cannot be used is told and left out; the program starts all the same.
"""

from __future__ import annotations

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
    keys: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, file: Path | None) -> Settings:
        settings = cls(file)
        if file is None or not file.exists():
            return settings
        try:
            written = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            settings.problems.append(f"{file} cannot be used: {error}")
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
            case "keys", dict() if all(isinstance(one, str) for one in value.values()):
                self.keys = value
            case "theme" | "mouse" | "wrap" | "keys", _:
                self.problems.append(f"{self.file}: {key} cannot be {value!r}")
            case _:
                self.problems.append(f"{self.file}: {key}: no such setting")

    def keep(self, **changed: str | bool) -> None:
        """Change settings in the file too; all else in it, comments and all, stays. Raises ConfigError."""
        import tomlkit

        for name, value in changed.items():
            setattr(self, name, value)
        if self.file is None:
            return
        try:
            text = self.file.read_text(encoding="utf-8") if self.file.exists() else ""
            document = tomlkit.parse(text)
            document.update(changed)
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self.file.with_suffix(".new")
            new.write_text(tomlkit.dumps(document), encoding="utf-8")
            new.rename(self.file)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.file} cannot be written: {error}") from None
