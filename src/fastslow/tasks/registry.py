"""From the name in ``[task]`` to a task: built-in, registered, or a class of the user's own.

A task of one's own::

    from fastslow.tasks import Problem, Task, Verdict, register
    from fastslow.grading.answers import extract_answer, tagged

    @register("squares")
    class Squares(Task):
        '''Squares of whole numbers.'''

        def problems(self, split):
            low, high = {"train": (0, 80), "validation": (80, 90), "test": (90, 100)}[split]
            return [Problem(str(n), f"What is {n} times {n}?", n * n) for n in range(low, high)]

        def grade(self, problem, completion):
            right = extract_answer(completion) == str(problem.reference)
            return Verdict(float(right), f"{problem.reference} was expected between the tags.")

        def demonstrate(self, problem):
            return tagged(str(problem.reference))

A task with options names their model, ``@register("squares", SquaresOptions)``, and takes them in
``__init__(self, options)``.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from pathlib import Path

from fastslow.config import Section, TaskConfig, validate
from fastslow.errors import FastslowError, InputError
from fastslow.places import is_place
from fastslow.tasks import names
from fastslow.tasks.beside import files_of
from fastslow.tasks.loading import load_file
from fastslow.tasks.names import BUILT_IN, Entry
from fastslow.tasks.protocol import Task


def create(config: TaskConfig, seed: int, source: str) -> Task:
    """Build the task that a configuration names.

    Args:
        config: ``[task]``: the name and the task's own options.
        seed: the run's seed, for tasks that ask for it.
        source: the configuration file, for messages.

    Raises:
        InputError: unknown task, unknown or wrong option, or data that the task cannot use.
    """
    entry = _find(config.name, source)
    if config.options and not _model(entry).model_fields:
        keys = ", ".join(f"task.{key}" for key in config.options)
        raise InputError(f"{source}: {keys}: unknown key; the task {config.name!r} has no options")
    options = validate(_model(entry), config.options, source, prefix="task")
    accepted = inspect.signature(entry.task).parameters
    arguments = {"options": options, "seed": seed}
    try:
        return entry.task(**{key: arguments[key] for key in arguments if key in accepted})
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def places(config: TaskConfig, source: str) -> dict[str, str]:
    """The options of a task that name a file or folder, or may do so, with their values.

    Raises: InputError, as ``create``.
    """
    entry = _find(config.name, source)
    options = validate(_model(entry), config.options, source, prefix="task")
    values = {
        name: getattr(options, name)
        for name, field in _model(entry).model_fields.items()
        if is_place(field.annotation, field.metadata)
    }
    return {name: str(v) for name, v in values.items() if isinstance(v, (str, Path)) and v}


def code(config: TaskConfig, source: str) -> dict[str, Path | bytes]:
    """The code of a task that does not come with fastslow: its file, called "", and those that it
    imports from beside it, called by their paths from its folder. Of a class that a program or a
    notebook registered it is the class's own text, as far as Python knows it.

    Raises: InputError, as ``create``.
    """
    entry = _find(config.name, source)
    if config.name in BUILT_IN:
        return {}
    where, separator, _ = config.name.rpartition(":")
    if not separator:
        try:
            return {"": inspect.getsource(entry.task).encode("utf-8", "surrogatepass")}
        except (OSError, TypeError):
            return {}
    file = Path(inspect.getfile(sys.modules[entry.task.__module__]))
    if where.endswith(".py"):
        path = Path(where).expanduser().resolve()
        folder, files = path.parent, files_of(path)
    else:
        top = where.partition(".")[0]
        folder = file.parents[where.count(".") + (file.name == "__init__.py")]
        files = files_of(file, folder, top)
    return {"": files[0], **{str(one.relative_to(folder)): one for one in files[1:]}}


def available() -> list[tuple[str, str, type[Section]]]:
    """Name, first line of the documentation and options of every task, sorted by name."""
    for module in BUILT_IN.values():
        importlib.import_module(module)
    return [
        (name, (inspect.getdoc(entry.task) or "").partition("\n")[0], _model(entry))
        for name, entry in sorted(names.registered.items())
    ]


def _model(entry: Entry) -> type[Section]:
    """The model of a task's own keys: of none, where it has none."""
    return entry.options or Section


def _find(name: str, source: str) -> Entry:
    if name in BUILT_IN:
        importlib.import_module(BUILT_IN[name])
    if name in names.registered:
        return names.registered[name]
    if ":" in name:
        return _find_class(name, source)
    known = sorted({*BUILT_IN, *names.registered})
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(
        f"{source}: task.name: unknown task {name!r}; {hint}Allowed: {', '.join(known)}, or a "
        "class of your own as 'package.module:ClassName' or 'path/to/file.py:ClassName'"
    )


def _find_class(name: str, source: str) -> Entry:
    where, _, class_name = name.rpartition(":")
    try:
        module = load_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    except FastslowError:
        raise
    except Exception as error:  # whatever the user's own module raises while it is imported
        raise InputError(
            f"{source}: task.name: {where!r} cannot be imported: {type(error).__name__}: {error}. "
            "Give an importable module, or the path of a .py file"
        ) from error
    task = getattr(module, class_name, None)
    if not (isinstance(task, type) and issubclass(task, Task)):
        tasks = [key for key, value in vars(module).items() if _is_own_task(value)]
        raise InputError(
            f"{source}: task.name: {where!r} has no Task named {class_name!r}; "
            f"it has: {', '.join(sorted(tasks)) or 'none'}"
        )
    for entry in names.registered.values():
        if entry.task is task:
            return entry
    if not hasattr(task, "name"):
        task.name = class_name
    return Entry(task, None)


def _is_own_task(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Task) and value is not Task
