"""The command ``fastslow``. Heavy imports happen inside the commands: ``--help`` is instant."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fastslow.errors import FastslowError, InputError
from fastslow.redaction import redact
from fastslow.streams import require_output, tolerant_output
from fastslow.studies import STUDIES
from fastslow.terminal import guard, message


class _Commands(TyperGroup):
    """Turns what we raise on purpose into one message and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except FastslowError as error:
            print(message(str(error)), file=sys.stderr)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:  # while a model is loaded, or the second one within a run
            print(message("interrupted at once; nothing more was saved"), file=sys.stderr)
            sys.exit(130)


app = typer.Typer(
    cls=_Commands,
    help="Fast-Slow Training: weights and context of a language model learn in one loop.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: rich takes longer to import than all the rest
    pretty_exceptions_enable=False,
    add_completion=False,
)

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a key; may be repeated."),
]
AcceptChanges = Annotated[
    bool,
    typer.Option(
        "--accept-changes", help="Go on though a task file, data or the model are not as recorded."
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Execute code and speak to servers that a run from elsewhere names."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run, and touch nothing.")]


def main() -> None:
    """Entry point."""
    with tolerant_output():
        guard()
        try:
            app()
        except Exception:  # printed here, where nothing that it quotes reaches the terminal raw
            sys.excepthook(*sys.exc_info())
            raise SystemExit(1) from None


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        print(f"fastslow {metadata.version('fastslow')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A TOML file.")],
    overrides: Overrides = None,
    dry_run: DryRun = False,
) -> None:
    """Train a model's weights and contexts as CONFIG says."""
    if dry_run:
        from fastslow.dry_run import describe

        print(describe(config, overrides or []))
        require_output()
        return
    from fastslow.training import train as run

    _say_result(run(config, overrides or []).folder)


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    overrides: Overrides = None,
    accept_changes: AcceptChanges = False,
    trust: Trust = False,
) -> None:
    """Go on with RUN from its latest checkpoint. Only some keys may change on the way, among them
    steps and log; and those that name a file that was moved."""
    from fastslow.training import resume as go_on

    result = go_on(run, overrides or [], accept_changes=accept_changes, trust=trust)
    _say_result(result.folder)


@app.command(name="eval", short_help="Measure the accuracy of a run or of a checkpoint.")
def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or of a checkpoint.")],
    split: Annotated[str, typer.Option(help="validation or test.")] = "test",
    problems: Annotated[int, typer.Option(help="Problems, at most.")] = 128,
    samples: Annotated[int, typer.Option(help="Completions per problem.")] = 1,
    contexts: Annotated[
        list[str], typer.Option("--context", help="seed, best, population or own; may be repeated.")
    ] = ["seed", "best"],  # noqa: B006  (typer copies it)
    overrides: Overrides = None,
    accept_changes: AcceptChanges = False,
    trust: Trust = False,
) -> None:
    """Measure the accuracy of RUN's latest checkpoint, or of the checkpoint RUN."""
    from fastslow.config import EvalConfig, validate
    from fastslow.places import given
    from fastslow.run.console import Console
    from fastslow.run.inside import load_config
    from fastslow.training import evaluate as measure
    from fastslow.trust import require_trust

    found = {"split": split, "problems": problems, "samples": samples, "contexts": tuple(contexts)}
    settings = validate(EvalConfig, found, "fastslow eval")
    run = given(run)
    require_trust(run, trust)  # told before the display begins
    with Console(load_config(run)) as console:
        measure(
            run,
            settings,
            console,
            overrides=overrides or [],
            accept_changes=accept_changes,
            trust=trust,
        )


@app.command(short_help="Show runs side by side.")
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.")],
    outputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="Also write a report (.html), a figure (.png, .svg, .pdf), every figure of the "
            "report (a folder) or the outcome (.json); may be repeated.",
        ),
    ] = None,
) -> None:
    """Show runs side by side; what is no run, or has measured nothing yet, is left out."""
    from fastslow.places import given
    from fastslow.report.outputs import check_output, write_output
    from fastslow.report.tables import comparison
    from fastslow.run.record import read_runs
    from fastslow.terminal import console

    outputs = [given(output) for output in outputs or []]
    for output in outputs:
        check_output(output)
    records, left_out = read_runs(runs)
    console().print(comparison(records))
    for reason in left_out:
        print(f"left out: {redact(reason)}", file=sys.stderr)
    for output in outputs:
        write_output(records, output)
        print(f"written: {output}")
    require_output()


@app.command(epilog="\n\n".join(f"{name}: {asks}" for name, asks in STUDIES.items()))
def study(
    name: Annotated[str, typer.Argument(help="Which one: see below.")],
    config: Annotated[Path, typer.Argument(help="A TOML file, with a table [study] or without.")],
    overrides: Overrides = None,
    dry_run: DryRun = False,
    conclude: Annotated[
        bool, typer.Option("--conclude", help="Run nothing: conclude from what is finished.")
    ] = False,
) -> None:
    """Run one of the paper's protocols on CONFIG, or go on with it."""
    from fastslow.studies.command import describe, run_study

    if dry_run and conclude:
        raise InputError(
            "fastslow study: --dry-run and --conclude ask for two things: the first shows what "
            "would be run and writes nothing, the second runs nothing and writes what can be "
            "concluded. Give one of them"
        )
    if dry_run:
        describe(name, config, overrides or [])
    else:
        run_study(name, config, overrides or [], conclude_only=conclude)


@app.command()
def tasks() -> None:
    """List the tasks that a configuration can name, with their options."""
    from rich.table import Table

    from fastslow.tasks.registry import available
    from fastslow.terminal import console

    table = Table(show_edge=False, pad_edge=False)
    for column in ("task", "what it is", "options (* required)"):
        table.add_column(column)
    for name, line, options in available():
        keys = [
            f"{key}{'*' if field.is_required() else ''}"
            for key, field in options.model_fields.items()
        ]
        table.add_row(name, line, ", ".join(keys))
    console().print(table)
    print("A task of your own is named by path/to/file.py:ClassName or package.module:ClassName.")
    require_output()


@app.command(short_help="List the keys of a configuration, with their meaning.")
def keys(
    prefix: Annotated[str, typer.Argument(help="Only keys at or below it: slow.dapo.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each key.")] = False,
) -> None:
    """List the keys of a configuration: what each takes, its default and what it means.

    The own keys of a task stand in [task], and are listed below its name: task.jsonl.path."""
    from fastslow.keys import keys as known
    from fastslow.keys import lines

    for line in lines(known(prefix), as_json=as_json):
        print(line)
    require_output()


@app.command(short_help="Train the embedded model by RL and by FST, and compare.")
def demo(
    folder: Annotated[Path, typer.Option(help="Where the runs go.")] = Path("runs"),
    seed: Annotated[int, typer.Option(help="Seed of both runs.")] = 0,
    overrides: Overrides = None,
) -> None:
    """Train the embedded model by RL and by FST on the same problems, and compare."""
    from fastslow.demo import run_demo

    run_demo(folder, seed, overrides or [])


def _say_result(folder: Any) -> None:
    print(f"run: {folder}")


if __name__ == "__main__":
    main()
