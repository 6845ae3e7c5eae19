"""Changes a configuration file as a careful person would: only what is meant, comments and order as they were.

Every change is checked before it is written: parsed again, the file says exactly what it said and the change, and is a
valid configuration. Two that change it at the same time wait for each other; one who saves it from an editor meanwhile
is noticed, and the change is made again on what they saved.
"""

from __future__ import annotations

import copy
import errno
import fcntl
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, cast

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable, Item, String, StringType, Trivia

from seamless.config.loading import config_from, load_config
from seamless.config.models import Parameters
from seamless.config.schema import KeyPath, is_written, overlay
from seamless.errors import ConfigError, NotFoundError, RefusedError, UnavailableError

Edit = Callable[[str], str]
_ATTEMPTS: Final = 10
_BOM: Final = "\ufeff"


# -- changes of the text


def add_service(name: str, values: Mapping[KeyPath, Any]) -> Edit:
    """Adds [services.<name>] at the end. Raises RefusedError when there is one of that name."""

    def edit(text: str) -> str:
        check_new(text, name)
        table = tomlkit.table()
        for path, value in values.items():
            _set(table, path, value)
        block = tomlkit.dumps({"services": tomlkit.table(is_super_table=True).append(name, table)})
        new = f"{text}\n" if text and not text.endswith("\n") else text
        return f"{new}\n{block}" if new else block

    return _checked(edit, lambda data: _merged(data, name, values))


def change_service(name: str, values: Mapping[KeyPath, Any], unset: list[KeyPath]) -> Edit:
    """Sets and removes parameters of a service. Raises NotFoundError for what is not there."""

    def edit(text: str) -> str:
        document = tomlkit.parse(text)
        service = _service(document, name)
        for path in unset:
            _unset(service, path, name)
        for path, value in values.items():
            _set(service, path, value)
        return tomlkit.dumps(document)

    def expected(data: dict[str, Any]) -> dict[str, Any]:
        for path in unset:
            _unset(data["services"][name], path, name)
        return _merged(data, name, values)

    return _checked(edit, expected)


def remove_service(name: str) -> Edit:
    """Removes a service with all of its tables."""

    def edit(text: str) -> str:
        document = tomlkit.parse(text)
        _service(document, name)
        del cast(MutableMapping[str, Any], document["services"])[name]
        return tomlkit.dumps(document)

    def expected(data: dict[str, Any]) -> dict[str, Any]:
        del data["services"][name]
        return data

    return _checked(edit, expected)


def pipeline_sets(text: str, key: KeyPath) -> bool:
    """Whether [pipeline] gives that parameter a value."""
    return is_written(_parsed(text).get("pipeline", {}), key)


def check_new(text: str, name: str) -> None:
    """Raises RefusedError when there is a service of that name."""
    if is_written(_parsed(text), ("services", name)):
        raise RefusedError(f"there is a service {name} already", hint=f"seamless service edit {name}")


def differing(text: str, path: Path, name: str, values: Mapping[KeyPath, Any]) -> dict[KeyPath, Any]:
    """Of these, the parameters that the pipeline's defaults do not give anyway; raises ConfigError for a wrong one."""
    data = _parsed(text)
    pipeline = data.get("pipeline", {})
    plain = _resolved(data, path, name, overlay(Parameters, pipeline, _nested({("repo",): values[("repo",)]})))
    wanted = _resolved(data, path, name, overlay(Parameters, pipeline, _nested(values)))
    return {key: value for key, value in values.items() if key == ("repo",) or _at(plain, key) != _at(wanted, key)}


def _resolved(data: dict[str, Any], path: Path, name: str, table: dict[str, Any]) -> Parameters:
    services = {key: value for key, value in data.get("services", {}).items() if key != name}
    return config_from({**data, "services": {**services, name: table}}, path).services[name]


def _at(parameters: Any, path: KeyPath) -> Any:
    for key in path:
        parameters = parameters.get(key) if isinstance(parameters, dict) else getattr(parameters, str(key), None)
    return parameters


def _checked(edit: Edit, expected: Callable[[dict[str, Any]], dict[str, Any]]) -> Edit:
    """`edit`, refused when its text does not say what was said before and the change."""

    def change(text: str) -> str:
        try:
            new = edit(text)
            said = tomllib.loads(new)
        except (TOMLKitError, TypeError, ValueError, AttributeError, KeyError):
            said = None
        if said is None or _pruned(said) != _pruned(expected(copy.deepcopy(_parsed(text)))):
            raise RefusedError(
                "the configuration is written in a way that cannot be changed by machine", hint="change it by hand"
            )
        return new

    return change


def _pruned(data: Any) -> Any:
    """Without tables that hold nothing: whether one is written makes no difference."""
    if not isinstance(data, dict):
        return data
    kept = {key: _pruned(value) for key, value in data.items()}
    return {key: value for key, value in kept.items() if value != {}}


def _service(document: Any, name: str) -> Any:
    services = document.get("services", {})
    if name not in services:
        known = ", ".join(services) or "none yet"
        raise NotFoundError(f"there is no service {name}", hint=f"configured: {known}")
    return services[name]


def _set(table: Any, path: KeyPath, value: Any) -> None:
    *folders, key = [str(part) for part in path]
    for folder in folders:
        if folder not in table:
            table[folder] = tomlkit.table() if not isinstance(table, InlineTable) else tomlkit.inline_table()
        table = table[folder]
    table[key] = _item(value)


def _item(value: Any) -> Item:
    if isinstance(value, str) and "\n" in value and "'''" not in value and _is_printable(value):
        return String(StringType.MLL, value, f"\n{value}", Trivia())  # on lines of its own
    if isinstance(value, dict):
        inline = tomlkit.inline_table()
        inline.update({key: _item(one) for key, one in value.items()})
        return inline
    return cast(Item, tomlkit.item(value))


def _is_printable(text: str) -> bool:
    return all(character.isprintable() or character in "\n\t" for character in text)


def _unset(table: Any, path: KeyPath, name: str) -> None:
    *folders, key = [str(part) for part in path]
    for folder in folders:
        table = table.get(folder, {})
    if key not in table:
        raise NotFoundError(
            f"services.{name} does not set {'.'.join(map(str, path))}", hint=f"seamless service show {name}"
        )
    del table[key]


def _merged(data: dict[str, Any], name: str, values: Mapping[KeyPath, Any]) -> dict[str, Any]:
    table = data.setdefault("services", {}).setdefault(name, {})
    for path, value in values.items():
        place = table
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = tomllib.loads(f"x = {_item(value).as_string()}")["x"]
    return data


def _nested(values: Mapping[KeyPath, Any]) -> dict[str, Any]:
    return cast(dict[str, Any], _merged({}, "x", values)["services"]["x"])


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the configuration is not TOML: {error}", hint="mend it first: seamless check") from None


# -- changes of the file


def rewrite(path: Path, edit: Edit) -> str:
    """Applies `edit` to the file and returns its new text; nobody ever reads half of it.

    Raises what `edit` raises, ConfigError for a file that is not a valid configuration before or after, and
    UnavailableError when it cannot be written. In each case the file is as it was.
    """
    path = Path(os.path.realpath(path))
    for _ in range(_ATTEMPTS):
        load_config(path)
        with _locked(path) as before:
            try:
                text = before.decode("utf-8-sig")
            except UnicodeDecodeError:  # saved so since it was loaded
                continue
            new = edit(text)
            config_from(tomllib.loads(new), path)
            if _replace(path, before, (_BOM + new if before.startswith(_BOM.encode()) else new).encode()):
                return new
    raise UnavailableError(f"{path} keeps changing while it is being changed", hint="try again when nobody edits it")


def check_changeable(path: Path) -> None:
    """Raises UnavailableError when this user may not put another file in its place."""
    if not os.access(path.parent, os.W_OK | os.X_OK):
        denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        raise UnavailableError(f"{path} cannot be changed: {denied.strerror}", hint=_hint(denied))


@contextmanager
def _locked(path: Path) -> Iterator[bytes]:
    """The file's content, while no other `rewrite` of it goes on."""
    try:
        while True:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):  # else it was replaced while we waited
                    yield file.read()
                    return
    except OSError as error:
        raise UnavailableError(f"{path} cannot be changed: {error.strerror}", hint=_hint(error)) from None


def _replace(path: Path, before: bytes, after: bytes) -> bool:
    """Puts `after` in the place of `before`, with its owner and mode; False when the file is not `before` any more."""
    status = path.stat()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(after)
            os.fchmod(file.fileno(), status.st_mode & 0o7777)
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                with suppress(PermissionError):  # somebody else's file in a folder of ours becomes ours
                    os.fchown(file.fileno(), status.st_uid, status.st_gid)
            file.flush()
            os.fsync(file.fileno())
        if path.read_bytes() != before:
            return False
        new.rename(path)
    finally:
        new.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def _hint(error: OSError) -> str:
    return "as its owner, or root: sudo seamless …" if isinstance(error, PermissionError) else "then try again"
