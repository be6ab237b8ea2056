"""The active groups of an experiment: whole assignments, what changed between two, its cost."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from random import Random

from pydantic import Field, model_validator

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import BadValue, ConfigError, nearest, refuse_together
from drillyard.spec.tunables.distribution import Model, Weight
from drillyard.spec.tunables.tunable import Tunable

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class Group(Model):
    """Tunables that change together."""

    cost: Weight = Field(
        0, description="What a change of any of them costs (a reboot, a new machine), in any unit."
    )
    description: str | None = Field(None, description="Description for people.")
    params: dict[str, Tunable] = Field(min_length=1, description="Name: tunable.")

    @model_validator(mode="after")
    def _names(self) -> Group:
        for name in self.params:
            if not NAME.match(name):
                raise BadValue(
                    f"{name!r} is not a valid name for a tunable",
                    key="params",
                    value=name,
                    allowed="letters, digits and _, no digit first",
                    hint="rename it",
                )
        return self


def in_two_groups(name: str, first: str, second: str) -> ConfigError:
    """Returns the error about a tunable that two active groups declare."""
    return ConfigError(
        f"tunable {name!r} is in two active groups, {first!r} and {second!r}",
        field=f"parameters.tunables.{second}.params.{name}",
        value=name,
        allowed="one group for each tunable",
        hint="rename one of them",
    )


def no_such_group(name: str, known: Iterable[str], field: str) -> ConfigError:
    """Returns the error about a group that is not declared."""
    names = sorted(known)
    allowed = None if names else "none are declared"
    return ConfigError(
        "no such group of tunables", field=field, value=name, allowed=allowed, known=names
    )


def not_active(name: str, active: Iterable[str], field: str, value: Json) -> ConfigError:
    """Returns the error about a name that no active tunable has."""
    known = sorted(active)
    return ConfigError(
        f"{name!r} is not an active tunable",
        field=field,
        value=value,
        allowed=", ".join(known) or "no group of tunables is active",
        hint=nearest(name, known) if known else "name a group in parameters.tunable_params",
    )


class Space:
    """The active groups of an experiment.

    Args:
        groups: By name, in order.

    Raises:
        ConfigError: One tunable in two groups.
    """

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self.groups = dict(groups)
        self.tunables: dict[str, Tunable] = {}
        self.group_of: dict[str, str] = {}
        for group, body in self.groups.items():
            for name, tunable in body.params.items():
                if name in self.tunables:
                    raise in_two_groups(name, self.group_of[name], group)
                self.tunables[name] = tunable
                self.group_of[name] = group

    def __contains__(self, name: object) -> bool:
        return name in self.tunables

    def defaults(self) -> JsonObject:
        """Name -> default, of the right type."""
        return {name: t.take(name, t.default) for name, t in self.tunables.items()}

    def assign(self, values: Mapping[str, Json]) -> JsonObject:
        """A whole assignment from some values; the others have their defaults.

        Args:
            values: Name -> value.

        Raises:
            ConfigError: A name that no active tunable has, or a value it does not take.
            ConfigErrors: Several of them.
        """
        assignment = self.defaults()
        problems: list[ConfigError] = []
        for name, value in values.items():
            if name not in self.tunables:
                problems.append(not_active(name, self.tunables, name, name))
                continue
            try:
                assignment[name] = self.tunables[name].take(name, value)
            except ConfigError as error:
                problems.append(error)
        refuse_together(problems)
        return assignment

    def draw(self, random: Random) -> JsonObject:
        """Draws an assignment."""
        return {name: tunable.draw(random) for name, tunable in self.tunables.items()}
