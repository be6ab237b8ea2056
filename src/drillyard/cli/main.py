"""The command line: collects the commands, runs one, turns its error into an exit code.

Only typer and the standard library are imported here and at the top of the command modules, so
that ``--help`` is fast. Commands import the rest when they run.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, cast

import typer

from drillyard.cli import exit_codes
from drillyard.cli.arguments import FREE
from drillyard.cli.helping import Sections
from drillyard.errors import ExitCode
from drillyard.system import closed_output
from drillyard.system.proxies import spare_loopback

COMMANDS = {
    "generate": "generate:generate",
    "check": "check:check_command",
    "plan": "plan:plan_command",
    "simulate-preemption": "preempt:simulate_command",
    "explain": "explain:explain",
    "schema": "schema:schema",
    "doctor": "doctor:doctor",
    "status": "status:status",
    "logs": "logs:logs",
    "watch": "watch:watch",
    "results": "results:results",
    "report": "report:report",
    "compare": "compare:compare",
    "delete": "archives:delete",
    "archive": "archives:archive",
    "restore": "archives:restore",
    "sync": "sync:sync",
    "cost": "cost:cost",
    "reap": "reap:reap_command",
    "protect": "reap:protect_command",
    "tensorboard": "tensorboard:tensorboard",
    "export": "export:export",
    "serve": "serve:serve",
    "simulator-host": "simulator_host:simulator_host",
    "deploy-policy": "deploy_policy:deploy",
    "undeploy-policy": "deploy_policy:undeploy",
    "evaluate": "evaluate:evaluate",
    "promote": "promote:promote",
    "import": "import_:import_",
    "configure": "configure:configure",
    "new": "new:new",
    "assess": "assess:assess",
    "record": "record:record",
    "replay": "replay:replay",
}
"""Command -> module of ``drillyard.cli``, and its function."""
GROUPS = ("list", "prices")
"""Modules of ``drillyard.cli`` with several commands; each has ``register(app)``."""
FREE_COMMANDS = {"plan", "explain", "check"}
"""Those that accept ``--name value`` for the parameters of a file."""
OF_EXTRAS = {"rehearse": "Run an experiment on an emulated cloud on this machine."}
"""Commands of an extra with the same name, with the help text for when it is not installed."""


def _version(requested: bool) -> None:
    if requested:
        from drillyard.system.version import VERSION

        typer.echo(f"drillyard {VERSION}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Run reinforcement-learning experiments: one file, any machine, exact resume."""


def build(arguments: Sequence[str] = ()) -> tuple[typer.Typer, dict[str, str]]:
    """Builds the application with every command, or with the one that is asked for.

    Typer prepares each command that is there, which is most of the time of one that only looks.

    Args:
        arguments: Those of the command line. Where they begin with the name of a command, only
            that command is left.

    Returns:
        The application, and a mapping from entry points that did not load to the reason.
    """
    app = typer.Typer(
        name="drillyard",
        cls=Sections,
        no_args_is_help=True,
        add_completion=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, place in COMMANDS.items():
        module, _, function = place.partition(":")
        settings = FREE if name in FREE_COMMANDS else None
        command = getattr(importlib.import_module(f"drillyard.cli.{module}"), function)
        app.command(name, context_settings=settings)(command)
    for name in GROUPS:
        importlib.import_module(f"drillyard.cli.{name}").register(app)
    broken = _plug_ins(app)
    commands = [entry for entry in app.registered_commands if entry.name in arguments[:1]]
    groups = [entry for entry in app.registered_groups if entry.name in arguments[:1]]
    if commands or groups:
        app.registered_commands, app.registered_groups = commands, groups
    return app, broken


def _plug_ins(app: typer.Typer) -> dict[str, str]:
    """Adds the commands of other packages; a broken package loses only its own commands."""
    from drillyard.registry import load, names

    broken: dict[str, str] = {}
    for name in names("commands"):
        try:
            cast(Callable[[typer.Typer], None], load("commands", name))(app)
        except Exception as error:
            broken[name] = str(error).rstrip()
    for name in OF_EXTRAS.keys() - names("commands"):
        _refuse(app, name)
    return broken


def _refuse(app: typer.Typer, name: str) -> None:
    """Adds a command that explains how to install its missing extra."""
    help_ = f"{OF_EXTRAS[name]} Needs the extra `{name}`, which is not installed."

    @app.command(name, context_settings=FREE, help=help_)
    def refused() -> None:
        from drillyard.system.optional_packages import must_have

        must_have(name, f"drillyard {name}")


def main(argv: list[str] | None = None) -> int:
    """Runs a command line.

    Args:
        argv: Arguments after the program's name; default: those of this process.

    Returns:
        The exit code: 0 done, 1 experiment failed, 2 your input, 3 our bug, 4 infrastructure,
        130 interrupted, 141 its output was closed before it had shown everything.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    broken: dict[str, str] = {}
    spare_loopback()
    try:
        app, broken = build(arguments)
        result: object = typer.main.get_command(app).main(
            args=arguments, prog_name="drillyard", standalone_mode=False
        )
    except SystemExit as end:
        broken_pipe = end.__context__
        if isinstance(broken_pipe, BrokenPipeError):  # typer ends any of them with code 1
            if closed_output.discard():
                return ExitCode.OUTPUT_CLOSED
            return exit_codes.report(broken_pipe, as_json=as_json)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except typer.Exit as end:
        return end.exit_code
    except BaseException as error:
        code = exit_codes.report(error, as_json=as_json)
        if broken and code == 2 and not as_json:
            for name, why in broken.items():
                # Who calls the broken command gets the whole reason, with the traceback.
                reason = why if name in arguments else why.partition("\n")[0]
                typer.echo(
                    f"  note: the commands of plug-in {name!r} did not load: {reason}", err=True
                )
        return code
    if result == 130:  # typer's result for Ctrl-C
        return exit_codes.report(KeyboardInterrupt(), as_json=as_json)
    return result if isinstance(result, int) else 0
