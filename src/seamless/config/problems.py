"""What is wrong with a configuration, said to the person who wrote it."""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, get_args

from pydantic_core import ErrorDetails

from seamless.config.models import Document
from seamless.config.schema import KeyPath, annotation_at, core, item_of, table_of
from seamless.config.table import Table
from seamless.config.values import quoted

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_WANTED: Final = {
    "string_type": "text in quotes",
    "path_type": "text in quotes",
    "is_instance_of": "text in quotes",
    "enum": "text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list in brackets",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_BOUNDS: Final = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct: where it was written, and what is wrong with it."""

    path: KeyPath
    text: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.text}"


def dotted(path: KeyPath) -> str:
    """As TOML writes a key: `services.payment.triggers[1]`."""
    shown = ""
    for key in path:
        if isinstance(key, int):
            shown += f"[{key}]"
        else:
            shown += ("." if shown else "") + (key if _BARE_KEY.fullmatch(key) else quoted(key))
    return shown


def from_validation(error: ErrorDetails) -> Problem:
    """One of pydantic's errors about a Document in our words. The value is told only where it cannot be a secret."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    is_key = _is_about_key(error)
    path = error["loc"][:-1] if is_key else error["loc"]
    if kind == "extra_forbidden":
        return Problem(path, f"no such parameter{_suggestion(path)}")
    if kind == "missing":
        return Problem(path, "is required, but not set")
    if kind == "value_error":
        return Problem(path, str(context["error"]))
    if is_key:
        return Problem(path, f"no such name{_nearest(str(value), _choices(_key_of(path)))}")
    if kind in {"literal_error", "enum"}:
        return Problem(path, _not_a_choice(path, value))
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return Problem(path, f"must be {words} {context[bound]:.10g}")
    if kind == "finite_number":
        return Problem(path, "must be a finite number")
    if kind in _WANTED:
        return Problem(path, f"must be {_WANTED[kind]}, not {type_in_words(value)}")
    return Problem(path, error["msg"][:1].lower() + error["msg"][1:])


def wrong_type(path: KeyPath, value: Any) -> Problem:
    """For a table that is something else."""
    return Problem(path, f"must be a table, not {type_in_words(value)}")


def type_in_words(value: Any) -> str:
    """What a TOML value is, without saying what it holds."""
    kinds: list[tuple[type | tuple[type, ...], str]] = [
        (bool, "true or false"),
        (str, "text"),
        (int, "a whole number"),
        (float, "a number"),
        (list, "a list"),
        (dict, "a table"),
        ((datetime.date, datetime.time), "a date or time"),
    ]
    return next((words for kind, words in kinds if isinstance(value, kind)), "this")


def nearest(word: str, known: list[str]) -> str:
    """`; did you mean X?`, or nothing when no known word is near."""
    close = difflib.get_close_matches(word[:100], known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _nearest(word: str, known: list[str]) -> str:
    return nearest(word, known) or f"; there are {', '.join(known)}"


def _is_about_key(error: ErrorDetails) -> bool:
    """Whether it is the key of a dict that is wrong, which pydantic marks so, and not a value whose key is `[key]`."""
    return (
        error["loc"][-1:] == ("[key]",)
        and error["type"] != "extra_forbidden"
        and item_of(annotation_at(Document, error["loc"][:-2])) is not None
    )


def _suggestion(path: KeyPath) -> str:
    table = table_of(annotation_at(Document, path[:-1]))
    if table is None:
        return ""
    known, word = list(table.model_fields), str(path[-1])
    if path[:-1] == ():
        known.append("pipeline")
    near = nearest(word, known)
    if near:
        return near
    below = next(_nested(table, word), None)
    if below is not None:
        return f"; did you mean {below}?"
    return f"; there are {', '.join(known)}" if len(known) <= 10 else ""


def _nested(table: type[Table], word: str) -> Iterator[str]:
    """Where a key of that very name belongs, one table further down."""
    for name, field in table.model_fields.items():
        inner = table_of(field.annotation)
        if inner is not None and word in inner.model_fields:
            yield f"{name}.{word}"


def _not_a_choice(path: KeyPath, value: Any) -> str:
    if not isinstance(value, str):
        return f"must be {_WANTED['enum']}, not {type_in_words(value)}"
    choices = _choices(annotation_at(Document, path))
    return f"{quoted(value)} is not one of {', '.join(choices)}{nearest(value, choices)}"


def _key_of(path: KeyPath) -> Any:
    return get_args(core(annotation_at(Document, path[:-1])))[0]


def _choices(annotation: Any) -> list[str]:
    kind = core(annotation)
    members = list(kind) if isinstance(kind, type) and issubclass(kind, Enum) else get_args(kind)
    return [str(member) for member in members]
