"""Modules beside a task's file: importable from it, and part of what the task is.

A task's file imports them as ``python file.py`` would: its folder is where modules are looked for
first while the file is loaded. Afterwards, for imports within functions, it is looked in last, so
that a file called ``datasets.py`` takes no library's place.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from fastslow.errors import InputError

_loaded: dict[str, ModuleType] = {}
"""Modules that were imported from beside a task's file, by name."""


@contextmanager
def importing_beside(path: Path) -> Iterator[None]:
    """Let what is loaded inside import modules from the folder of ``path``.

    Names of the standard library mean the standard library. A module of another task's folder,
    loaded earlier under the same name, makes room: a run sees to it that its own tasks do not meet
    so (``refuse_namesakes``).
    """
    folder = path.parent
    for name in _imports(path, folder):
        if name in sys.stdlib_module_names:
            with suppress(ImportError):
                importlib.import_module(name)
    for name, module in _loaded.items():
        is_current = sys.modules.get(name) is module
        if is_current and not _is_in(module, folder) and any(_files(_top(name), folder)):
            del sys.modules[name]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # a file may be younger than the folder's listing
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        known = dict(sys.modules)
        beside = {name for name, module in known.items() if _is_in(module, folder)}
        _loaded.update((name, known[name]) for name in known if _top(name) in beside)


def refuse_namesakes(paths: Iterable[Path]) -> None:
    """See that the tasks in some files do not import different modules of one name: Python knows
    one module by a name. Raises: InputError."""
    known: dict[str, Path] = {}
    for path in paths:
        for file in files_of(path)[1:]:
            name = ".".join(file.relative_to(path.parent).with_suffix("").parts)
            other = known.setdefault(name, file)
            if other != file:
                raise InputError(
                    f"{other} and {file} are two modules of one name, and tasks of one run import "
                    "them: rename one of them"
                )


def files_of(path: Path, folder: Path | None = None, top: str = "") -> list[Path]:
    """``path`` and the files that it imports from beside it, directly or through one another.

    They are found by their import statements, those within functions included; a module whose name
    is computed is not found.

    Args:
        path: a Python file.
        folder: where its modules are found; None: its own folder.
        top: only names that begin with this one count; "": all do.
    """
    folder = folder or path.parent
    found: dict[Path, None] = {path: None}
    for file in (waiting := [path]):
        for name in _imports(file, folder):
            if top and _top(name) != top:
                continue
            for module in _files(name, folder):
                if module not in found:
                    found[module] = None
                    waiting.append(module)
    return list(found)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _is_in(module: ModuleType, folder: Path) -> bool:
    origin = getattr(module, "__file__", None)
    if not isinstance(origin, str) or module.__name__ == "__main__":
        return False
    file = Path(origin)
    return file.parent == folder or (file.name == "__init__.py" and file.parent.parent == folder)


def _imports(path: Path, folder: Path) -> Iterator[str]:
    """The dotted names that a file's import statements may mean, as seen from ``folder``."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative to the file's package
                places = path.parents[node.level - 1 : node.level]
                if not places or not places[0].is_relative_to(folder):
                    continue
                base = ".".join([*places[0].relative_to(folder).parts, *([base] if base else [])])
            if base:
                yield base
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _files(name: str, folder: Path) -> Iterator[Path]:
    """The files in ``folder`` that importing a dotted name would run."""
    place = folder
    for part in name.split("."):
        place = place / part
        if (package := place / "__init__.py").is_file():
            yield package
        elif (module := place.with_name(f"{part}.py")).is_file():
            yield module
