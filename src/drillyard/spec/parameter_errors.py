"""Errors about the parameters of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError, nearest
from drillyard.spec.names import Late, Parameter

GIVEN = {
    "trial_id": "the trial",
    "trial_runner_id": "the trial",
    "run_id": "each run",
    "seed": "each run's seed",
}
"""Parameters that only a run can set -> what sets them."""


def clashes(
    found: Mapping[str, Parameter], tunables: Mapping[str, Parameter]
) -> list[ConfigError]:
    """Returns an error for each constant that would silently override a tunable."""
    return [
        ConfigError(
            f"{name!r} is an active tunable, and this constant would override the trials' values",
            at=found[name].place,
            field=f"parameters.const_args.{name}",
            value=_shown(found[name].value),
            allowed="a name that no active tunable has",
            hint=f"to give the tunable this value, write --tunable {name}=…; or remove its group "
            "from tunable_params",
        )
        for name in sorted(set(found) & set(tunables))
    ]


def set_by_runs(found: Mapping[str, Parameter]) -> list[ConfigError]:
    """Returns an error for each constant with a name that runs set."""
    hints = {"seed": "write `seeds: [1, 2]`, one run each", "run_id": "rename the parameter"}
    return [
        ConfigError(
            f"{name!r} is set by each run",
            at=found[name].place,
            field=f"parameters.const_args.{name}",
            value=_shown(found[name].value),
            allowed="names that drillyard does not set: not " + ", ".join(GIVEN),
            hint=hints.get(name, "rename the parameter") + "; you can name it in required_args",
        )
        for name in GIVEN
        if name in found
    ]


def missing_required(missing: list[str]) -> ConfigError:
    """Returns the error about required parameters without a value."""
    several = "s" if len(missing) > 1 else ""
    return ConfigError(
        f"missing required parameter{several}: {', '.join(missing)}",
        field="parameters.required_args",
        allowed="a value from the command line, globals, const_args or a tunable",
        hint="set " + " ".join(f"--{name} …" for name in missing),
    )


def undeclared_parameter(text: str, word: str, declared: set[str]) -> ConfigError:
    """Returns the error about a parameter that no scope declares."""
    near = nearest(text, sorted(declared))
    return ConfigError(
        f"there is no option --{text}, and the file declares no parameter {text!r}",
        file=f"--{text}",
        value=word,
        allowed=", ".join(f"--{d}" for d in sorted(declared)) or "no parameters are declared",
        hint=(f"{near}; " if near.startswith("did you") else "")
        + "change a field of the file by --set path=value",
    )


def _shown(value: Any) -> Json:
    return value.value if isinstance(value, Late) else value
