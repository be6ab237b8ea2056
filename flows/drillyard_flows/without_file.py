"""Options of ``drillyard run`` that replace a file."""

from __future__ import annotations

from drillyard.authoring.short import Short, from_options
from drillyard.errors import ConfigError

EXAMPLE = "drillyard run -a ppo -s CartPole-v1"


def short_of(
    algorithm: str | None,
    simulator: str | None,
    *,
    name: str | None,
    steps: str | None,
    seeds: str | None,
) -> Short:
    """Returns the short experiment file of a command line without a file.

    Raises:
        ConfigError: An option is missing or wrong.
        ConfigErrors: Several are.
    """
    if algorithm is None or simulator is None:
        missing = [
            option
            for option, value in (("--algorithm", algorithm), ("--simulator", simulator))
            if value is None
        ]
        raise ConfigError(
            "is missing: without an experiment file, give the algorithm and the simulator",
            file="command line",
            field=" and ".join(missing),
            allowed="FILE, or --algorithm and --simulator",
            hint=f"for example: drillyard run experiment.yaml, or {EXAMPLE}",
        )
    return from_options(algorithm, simulator, name=name, steps=steps, seeds=seeds)
