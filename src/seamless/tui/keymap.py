"""The keys that a user gives to actions: those that can be used, and what is wrong with the others."""

from __future__ import annotations

import difflib
import string
from collections.abc import Iterator, Mapping
from typing import Any, Final

from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import Keys

from seamless.tui.bars import key_name

_MODIFIERS: Final = {"ctrl", "alt", "shift", "super", "hyper", "meta"}
_NEAR: Final = 3  # names that are offered for one that does not exist


def checked(written: Mapping[str, object], app: type[App[Any]]) -> tuple[dict[str, str], list[str]]:
    """(the keymap, what of `written` was left out of it and why). Every screen is looked at, for its actions."""
    places = [_bindings(place) for place in _places(app)]
    names = sorted({one.id for place in places for one in place.values() if one.id and one.description})
    keymap: dict[str, str] = {}
    problems = []
    for name, keys in written.items():
        if name not in names:
            problems.append(f"{name}: no such action{_or(difflib.get_close_matches(name, names, _NEAR))}")
        elif not isinstance(keys, str):
            problems.append(f"{name}: its keys are text, not {keys!r}")
        elif wrong := [key for key in keys.split(",") if not _is_key(key.strip())]:
            problems.append(f"{name}: {wrong[0].strip()!r} is no key{_or(_near_keys(wrong[0].strip()))}")
        else:
            keymap[name] = keys
    for name in reversed(list(keymap)):  # of two, the one written first has the key
        if clash := next((found for place in places if (found := _clash(name, keymap, place))), None):
            key, other = clash
            del keymap[name]
            problems.append(f"{name}: {key_name(key)} is the key of {other} already")
    return keymap, problems


def _places(app: type[App[Any]]) -> Iterator[tuple[type[DOMNode], ...]]:
    """What has the keys together, from the focused widget up."""
    from seamless.tui.dialogs import Dialog, Pages
    from seamless.tui.fleet import FleetRoom
    from seamless.tui.history import HistoryRoom
    from seamless.tui.listing import Listing
    from seamless.tui.logview import LogView
    from seamless.tui.rollback import Images, RollbackRoom
    from seamless.tui.run import RunRoom
    from seamless.tui.service import ServiceRoom

    for room in (FleetRoom, ServiceRoom, HistoryRoom):
        yield Listing, room, app
    yield Images, RollbackRoom, app
    yield LogView, RunRoom, app
    yield (Dialog,)
    yield (Pages,)


def _bindings(place: tuple[type[DOMNode], ...]) -> dict[tuple[type[DOMNode], str], Binding]:
    """By the class that has it, and the key."""
    found: dict[tuple[type[DOMNode], str], Binding] = {}
    for node in place:
        for cls in reversed(node.__mro__):
            for binding in Binding.make_bindings(vars(cls).get("BINDINGS", ())):
                found[node, binding.key] = binding
    return found


def _clash(
    name: str, keymap: Mapping[str, str], place: Mapping[tuple[type[DOMNode], str], Binding]
) -> tuple[str, str] | None:
    """A key that `name` is given where another action has it."""
    if all(binding.id != name for binding in place.values()):
        return None
    given = _normal(keymap[name])
    for (_, default), binding in place.items():
        if binding.id == name or not binding.id:
            continue
        keys = _normal(keymap[binding.id]) if binding.id in keymap else {default}
        if both := given & keys:
            return min(both), binding.id
    return None


def _normal(keys: str) -> set[str]:
    return {binding.key for binding in Binding.make_bindings([Binding(keys, "")])}


def _is_key(key: str) -> bool:
    *modifiers, base = key.split("+") if len(key) > 1 else [key]
    return (len(base) == 1 or base in _key_names()) and _MODIFIERS.issuperset(modifiers)


def _key_names() -> list[str]:
    """Of more than one character."""
    characters = {name for char in string.punctuation if char != "," for name in _normal(char)}
    return [*(key.value for key in Keys if "<" not in key.value), *characters]


def _near_keys(key: str) -> list[str]:
    return [key.lower()] if _is_key(key.lower()) else difflib.get_close_matches(key.lower(), _key_names(), 1)


def _or(offered: list[str]) -> str:
    return f"; did you mean {' or '.join(offered)}?" if offered else ""
