"""Things that configurations name: built in, registered by a program, or found by entry point."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from fastslow.errors import InputError

Thing = TypeVar("Thing")
Class = TypeVar("Class", bound=type[Any])


class Registry(Generic[Thing]):
    """Classes of one kind by name. Each module is imported when its name is first asked for.

    Args:
        key: that holds the name in a configuration, for messages.
        group: of entry points, under which other packages offer theirs: the name is the entry
            point's, its value a module that registers the class or the class itself.
        built_in: modules by name; each registers its class when it is imported.
        attribute: of a class, that is set to its name; None: no attribute.
    """

    def __init__(
        self, key: str, *, group: str, built_in: Mapping[str, str], attribute: str | None = None
    ) -> None:
        self._attribute = attribute
        self._key = key
        self._group = group
        self._built_in = dict(built_in)
        self._found: dict[str, type[Thing]] = {}

    def register(self, name: str) -> Callable[[Class], Class]:
        """A class decorator that adds a class. Raises: InputError, as ``add``."""

        def decorate(thing: Class) -> Class:
            self.add(name, thing)
            return thing

        return decorate

    @property
    def names(self) -> list[str]:
        """All that can be named, in alphabetical order."""
        offered = entry_points(group=self._group).names
        return sorted({*self._built_in, *self._found, *offered})

    def add(self, name: str, thing: type[Thing]) -> None:
        """Register a class. A name registered anew is replaced, as when a cell is run twice.

        Raises:
            InputError: the name is a built-in one.
        """
        module = self._built_in.get(name)
        if module is not None and thing.__module__ != module:
            raise InputError(f"{self._key} = {name!r}: the name is built in; take another")
        if self._attribute is not None:
            setattr(thing, self._attribute, name)
        self._found[name] = thing

    def find(self, name: str, source: str) -> type[Thing]:
        """The class of this name. Raises: InputError, naming ``source`` and what is allowed."""
        if name not in self._found:
            if name in self._built_in:
                importlib.import_module(self._built_in[name])
            elif offered := tuple(entry_points(group=self._group, name=name)):
                loaded = offered[0].load()
                if isinstance(loaded, type):
                    self.add(name, loaded)
        if name not in self._found:
            near = difflib.get_close_matches(name, self.names, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise InputError(
                f"{source}: {self._key}: there is no {name!r}{hint} Allowed: "
                f"{', '.join(self.names)}; or one of your own, see docs/learners.md"
            )
        return self._found[name]
