"""The public names of a package, each imported when it is first asked for (PEP 562).

A process starts faster for what it does not import, and fastslow starts many: those that grade,
that ask reflection servers, that run programs. Imports nothing of the project.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and the ``__dir__`` of a package.

    Type checkers do not follow them, so a package imports its names for those as well::

        if TYPE_CHECKING:
            from fastslow.types import Problem
        else:
            __getattr__, __dir__ = lazy_names(__name__, {"fastslow.types": ["Problem"]})

    Args:
        package: the package's ``__name__``.
        modules: the names, by the module that defines them.
    """
    home = {name: module for module, defined in modules.items() for name in defined}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home[name]), name)

    def list_names() -> list[str]:
        return sorted({*vars(import_module(package)), *home})

    return get, list_names
