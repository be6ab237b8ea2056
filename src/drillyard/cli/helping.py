"""How `--help` looks: commands by what they are for, and what a value is called."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

SECTIONS = {
    "Write an experiment": ("generate", "explain", "check", "plan", "list", "schema", "new"),
    "Run it": ("run", "resume", "cancel", "status", "logs", "bench", "launch", "rehearse"),
    "See what came out": ("results", "report", "assess", "tensorboard", "sync", "cost"),
    "Use a policy": (
        "export",
        "serve",
        "evaluate",
        "record",
        "promote",
        "import",
        "deploy-policy",
        "undeploy-policy",
    ),
    "Machines and servers": (
        "doctor",
        "configure",
        "up",
        "down",
        "deploy",
        "undeploy",
        "reap",
        "protect",
        "simulate-preemption",
        "mlflow",
    ),
}
"""Heading to commands, in the order in which they are shown."""
OTHERS = "Others"
"""Where the commands of plug-ins stand."""


class Sections(TyperGroup):
    """A command line whose commands stand in sections, each with its whole first sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the lists of commands.

        Args:
            ctx: Of this call.
            formatter: What is written to.
        """
        known = {name for names in SECTIONS.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in known)
        for heading, names in {**SECTIONS, OTHERS: others}.items():
            found = ((name, self.get_command(ctx, name)) for name in names)
            # Cut where the terminal ends, half of the sentences would say nothing.
            rows = [(n, c.get_short_help_str(limit=200)) for n, c in found if c and not c.hidden]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command whose values have names for people.

        Args:
            ctx: Of this call.
            cmd_name: As it was typed.
        """
        command = super().get_command(ctx, cmd_name)
        for one in (command, *getattr(command, "commands", {}).values()):
            for parameter in getattr(one, "params", ()):
                name_value(parameter)
        return command


def name_value(parameter: Any) -> None:
    """Call a value by the name of its option, as argparse does; a number N; choices as they are.

    Args:
        parameter: An option or argument that may have no name for its value yet.
    """
    kind = getattr(parameter, "type_descriptor", None)
    argument = parameter.param_type_name == "argument"
    # The choices of an option stand where its name would; those of an argument beside it.
    if parameter.metavar is not None or kind is None or (kind.is_choice and not argument):
        return
    if getattr(parameter, "is_flag", False):
        return
    number = getattr(kind, "annotation", None) in (int, float)
    longest = max(parameter.opts, key=len).lstrip("-")
    parameter.metavar = "N" if number else longest.replace("-", "_").upper()
