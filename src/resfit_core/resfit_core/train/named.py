"""Objects that a person names as `module:attribute`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from resfit_core import tensorfile
from resfit_core.train.errors import TrainError, one_line


def load_named(name: str, what: str) -> Any:
    """Import `module:attribute`; the current directory is on the module search path.

    Args:
        name: as given.
        what: option it was given for, for the error's words.

    Raises:
        TrainError: it is no such name, or cannot be imported, or is not callable.
    """
    module_name, colon, attribute = name.partition(":")
    parts = [*module_name.split("."), attribute]
    if not colon or not all(part.isidentifier() for part in parts):
        raise TrainError(f"{what} is '{name}', expected module:callable, for example mytask:make")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module of the user's may fail in any way
        raise TrainError(
            f"{what} '{name}': importing {module_name} failed "
            f"({type(error).__name__}: {one_line(error)}); it is searched in {here} and in the "
            "installed packages"
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        kind = "has no" if found is None else f"has a {type(found).__name__} as"
        raise TrainError(
            f"{what} '{name}': module {module_name} {kind} '{attribute}'; a callable is needed"
        )
    return found


def named_sha256(name: str, found: Any) -> str:
    """Hash a named callable: its name and the bytes of the module file it comes from."""
    module = sys.modules.get(name.partition(":")[0])
    file = getattr(module, "__file__", None)
    code = Path(file).read_bytes() if file and Path(file).is_file() else repr(found).encode()
    return tensorfile.sha256(name.encode() + b"\0" + code)
