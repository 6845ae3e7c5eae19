"""Questions about the tables' shape, for layering, for error messages and for the documentation."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from seamless.config.models import lay_over
from seamless.config.secret import SecretRef
from seamless.config.table import Table

KeyPath = tuple[str | int, ...]


def core(annotation: Any) -> Any:
    """The annotation without Annotated and without None."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, types.UnionType):
            annotation = next(arg for arg in get_args(annotation) if arg is not type(None))
        else:
            return annotation


def table_of(annotation: Any) -> type[Table] | None:
    """The table that the annotation stands for, if it is one."""
    kind = core(annotation)
    return kind if isinstance(kind, type) and issubclass(kind, Table) else None


def item_of(annotation: Any) -> Any:
    """The annotation of a dict's values or a list's items, None for anything else."""
    kind = core(annotation)
    return get_args(kind)[-1] if get_origin(kind) in (dict, list) else None


def annotation_at(table: type[Table], path: Sequence[str | int]) -> Any:
    """What may stand at `path` below `table`; None where the tables know nothing."""
    annotation: Any = table
    for key in path:
        inner = table_of(annotation)
        if inner is None:
            annotation = item_of(annotation)
        else:
            field = inner.model_fields.get(str(key))
            annotation = field.annotation if field else None
    return annotation


def overlay(table: type[Table], base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two unvalidated tables, `over` lying on `base`: nested tables key by key, everything else replaced.

    A secret reference is one value: `{ file = … }` over `{ env = … }` is the file.
    """
    merged = {**base, **over}
    for key in base.keys() & over.keys():
        merged[key] = _join(annotation_at(table, [key]), base[key], over[key])
    layers = [layer.get(key, {}) for layer in (base, over) for key in ("env", "secrets")]
    if "env" in table.model_fields and all(isinstance(layer, dict) for layer in layers):
        env, secrets = lay_over(*layers)
        merged |= {key: variables for key, variables in (("env", env), ("secrets", secrets)) if key in merged}
    return merged


def _join(annotation: Any, base: Any, over: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    inner = table_of(annotation)
    if inner is not None:
        return over if issubclass(inner, SecretRef) else overlay(inner, base, over)
    if annotation is None:
        return over
    shared = base.keys() & over.keys()
    return {**base, **over, **{key: _join(item_of(annotation), base[key], over[key]) for key in shared}}


def is_written(tree: Any, path: Sequence[str | int]) -> bool:
    """Whether unvalidated data has a value at `path`."""
    for key in path:
        if isinstance(key, str):
            found = isinstance(tree, dict) and key in tree
        else:
            found = isinstance(tree, list) and key < len(tree)
        if not found:
            return False
        tree = tree[key]
    return True


def leaves(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The paths of a validated table's values; a secret reference, a list and an empty table are values."""
    if isinstance(value, Table) and not isinstance(value, SecretRef):
        for name in type(value).model_fields:
            yield from leaves(getattr(value, name), (*path, name))
    elif isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, str(key)))
    else:
        yield path
