"""Have msgspec and uvicorn imported without what a gateway has no use for: 3 MB of every one of them.

uvicorn brings its command line (click), its reloaders (multiprocessing) and the readers of logging
configurations; msgspec brings the newer typing of older Pythons where it is installed, whose place `typing`
takes by itself (uvicorn 0.54, msgspec 0.20, CPython 3.11). Stand-ins are there for the moment of the import
alone: whoever needs the real ones later gets them.

To be imported before anything that imports either; where they are loaded already nothing is changed.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def _standing_in(**modules: dict[str, Any] | None) -> Iterator[None]:
    """Modules of these attributes (None: not installed) while it is open; `__` in a name is a dot."""
    named = {name.replace("__", "."): attributes for name, attributes in modules.items()}
    missing = {name: attributes for name, attributes in named.items() if name not in sys.modules}
    for name, attributes in missing.items():
        stand_in: Any = None
        if attributes is not None:
            stand_in = ModuleType(name)
            stand_in.__dict__.update(attributes)
        sys.modules[name] = stand_in
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


if "msgspec" not in sys.modules:
    with _standing_in(typing_extensions=None):
        importlib.import_module("msgspec")
if "uvicorn" not in sys.modules:
    command_line = {"main": None, "run": None, "Server": None}
    readers: dict[str, Any] = {"RawConfigParser": None}
    with _standing_in(uvicorn__main=command_line, logging__config={}, configparser=readers):
        uvicorn: Any = importlib.import_module("uvicorn")
        uvicorn.Server = importlib.import_module("uvicorn.server").Server
    del uvicorn.main, uvicorn.run
