"""Modules of tasks that stand in files, outside any package."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from fastslow.tasks.beside import importing_beside

_PREFIX = "fastslow_task_"
"""Begins the names of modules that were loaded from a file, by its path."""


def loaded_files() -> tuple[str, ...]:
    """The files that ``load_file`` loaded: another process that does so knows their classes."""
    modules = [module for name, module in sys.modules.items() if name.startswith(_PREFIX)]
    return tuple(str(module.__file__) for module in modules)


def load_file(path: Path) -> ModuleType:
    """The module in a file, executed once per process, so that its classes stay the same. It may
    import modules that stand beside it."""
    path = path.expanduser().resolve()
    name = f"{_PREFIX}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the path ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with importing_beside(path):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
