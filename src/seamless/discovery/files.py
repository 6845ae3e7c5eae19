"""A commit's files, as far as discovery looks at them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

TEXT_MAX = 256 * 1024  # bytes of a file that are looked at


class Files:
    """The files below one folder of a commit. `read` gives a path's text, "" for what is not text."""

    def __init__(self, paths: Iterable[str], read: Callable[[str], str], folder: str = "") -> None:
        self._read = read
        self._folder = folder
        prefix = f"{folder}/" if folder else ""
        self.paths = frozenset(path.removeprefix(prefix) for path in paths if path.startswith(prefix))

    def below(self, folder: str) -> Files:
        """The same of a folder, "" for all."""
        if not folder:
            return self
        whole = f"{self._folder}/{folder}" if self._folder else folder
        return Files(
            (f"{whole}/{path.removeprefix(folder + '/')}" for path in self.paths if path.startswith(f"{folder}/")),
            self._read,
            whole,
        )

    def __contains__(self, path: str) -> bool:
        return path in self.paths

    def first(self, *paths: str) -> str | None:
        """The first of these that is there."""
        return next((path for path in paths if path in self.paths), None)

    def matching(self, pattern: str) -> list[str]:
        """Paths whose whole is matched by the regular expression, in order: short ones first."""
        return sorted((path for path in self.paths if re.fullmatch(pattern, path)), key=lambda path: (len(path), path))

    def has_folder(self, folder: str) -> bool:
        return any(path.startswith(f"{folder}/") for path in self.paths)

    def text(self, path: str) -> str:
        """Its text; "" when it is not there."""
        if path not in self.paths:
            return ""
        return self._read(f"{self._folder}/{path}" if self._folder else path)

    def json(self, path: str) -> dict[str, Any]:
        return _table(lambda: json.loads(self.text(path)))

    def toml(self, path: str) -> dict[str, Any]:
        return _table(lambda: tomllib.loads(self.text(path)))

    def yaml(self, path: str) -> dict[str, Any]:
        import yaml

        return _table(lambda: yaml.load(self.text(path), Loader=yaml.CSafeLoader))

    def folders(self) -> Iterator[str]:
        """Every folder with a file in it, "" for the top."""
        yield from sorted({str(PurePosixPath(path).parent).removeprefix(".") for path in self.paths})


def _table(parse: Callable[[], Any]) -> dict[str, Any]:
    """What `parse` gives when that is a table; {} for everything else, whatever is wrong with the text."""
    try:
        found = parse()
    except (Exception, RecursionError):  # parsers of three formats; a suggestion is a comfort
        return {}
    return found if isinstance(found, dict) else {}


def at(table: Any, *keys: str) -> Any:
    """The value at a path of nested tables; None when there is none."""
    for key in keys:
        table = table.get(key) if isinstance(table, dict) else None
    return table


def table_at(table: Any, *keys: str) -> dict[str, Any]:
    """As `at`; {} for what is not a table."""
    found = at(table, *keys)
    return found if isinstance(found, dict) else {}
