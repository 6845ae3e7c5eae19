"""Paths that a repository names: they must lead to something inside its own checkout.

A checkout is hostile: `../`, absolute paths and symbolic links may all lead to a file of the host.
"""

from __future__ import annotations

import os
from pathlib import Path


class OutsideCheckoutError(Exception):
    """The path leads out of the checkout; the message is a fragment, as in "leads out of the checkout"."""


def resolve_inside(root: Path, path: str, *, base: Path | None = None) -> Path:
    """The real, absolute path that `path` leads to, seen from `base` (default: `root`), all symbolic links followed.

    What it leads to need not exist. Raises OutsideCheckoutError when it does not lie in `root`, is no path at
    all, or goes up again from a symbolic link: programs differ in where that leads.
    """
    if not path or "\0" in path:
        raise OutsideCheckoutError("is no path")
    top = root.resolve()
    written = Path(base or root, path)
    try:
        real, shortened = written.resolve(), Path(os.path.normpath(written)).resolve()
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
        raise OutsideCheckoutError(f"cannot be followed ({error})") from error
    if not real.is_relative_to(top):
        by_link = Path(top, path).is_relative_to(top) and ".." not in Path(path).parts
        raise OutsideCheckoutError("leads out of the checkout" + (", by a symbolic link" if by_link else ""))
    if real != shortened:
        raise OutsideCheckoutError('goes up ("..") from a symbolic link')
    return real
