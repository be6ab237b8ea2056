"""Layout of `--help`: commands in sections, and names for the values of options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperGroup

from drillyard.cli.examples import epilog_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer._click import Command, Context, HelpFormatter, Parameter

SECTIONS = {
    "Write an experiment": "generate explain check plan list schema new",
    "Run it": "run resume cancel status logs watch bench launch rehearse replay",
    "See results": "results report compare assess tensorboard sync cost",
    "Keep it": "archive restore delete",
    "Use a policy": "export serve evaluate record promote import deploy-policy undeploy-policy",
    "Machines and servers": "doctor configure simulator-host prices prove up down deploy undeploy "
    "schedule reap protect simulate-preemption mlflow",
}
"""Heading -> its commands, separated by spaces, in the order of the help."""
OTHERS = "Others"
"""Heading of the commands of plug-ins."""


class Sections(TyperGroup):
    """A command line that lists its commands in sections, each with its first sentence."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Writes the lists of commands.

        Args:
            ctx: The context of the call.
            formatter: Receives the text.
        """
        sections = {heading: names.split() for heading, names in SECTIONS.items()}
        known = {name for names in sections.values() for name in names}
        sections[OTHERS] = [name for name in self.list_commands(ctx) if name not in known]
        for heading, names in sections.items():
            commands = ((name, self.get_command(ctx, name)) for name in names)
            # Cut at the width of the terminal, half of the sentences would say nothing.
            rows = [
                (n, c.get_short_help_str(limit=200)) for n, c in commands if c and not c.hidden
            ]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def get_params(self, ctx: Context) -> list[Parameter]:
        """Returns the options before a command, where a switch is off, and not undecided.

        typer lets pydantic convert what is undecided. Its import takes a quarter of `--help`.

        Args:
            ctx: The context of the call.
        """
        parameters = super().get_params(ctx)
        for parameter in parameters:
            if getattr(parameter, "is_flag", False) and parameter.default is None:
                parameter.default = False
        return parameters

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Returns a command whose values have readable names, with its examples.

        Args:
            ctx: The context of the call.
            cmd_name: The command's name as typed.
        """
        command = super().get_command(ctx, cmd_name)
        if command is None:
            return None
        for path, member in _with_inner(cmd_name, command):
            member.epilog = member.epilog or epilog_of(path)
            for parameter in getattr(member, "params", ()):
                name_value(parameter)
        return command


def _with_inner(path: str, command: Command) -> Iterator[tuple[str, Command]]:
    """Yields a command and those inside it, each with its whole name."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _with_inner(f"{path} {name}", inner)


def name_value(parameter: Parameter) -> None:
    """Names a value after its option, as argparse does; a number is N, choices stay.

    Args:
        parameter: An option or argument whose value may have no name yet.
    """
    kind = getattr(parameter, "type_descriptor", None)
    argument = parameter.param_type_name == "argument"
    # The choices of an option replace its name; those of an argument follow it.
    if parameter.metavar is not None or kind is None or (kind.is_choice and not argument):
        return
    if getattr(parameter, "is_flag", False):
        return
    number = getattr(kind, "annotation", None) in (int, float)
    longest = max(parameter.opts, key=len).lstrip("-")
    parameter.metavar = "N" if number else longest.replace("-", "_").upper()
