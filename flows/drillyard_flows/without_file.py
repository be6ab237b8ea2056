"""Options of ``drillyard run`` that replace a file."""

from __future__ import annotations

from drillyard.authoring.short import Short, from_options
from drillyard.errors import misused

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
        none = len(missing) > 1
        raise misused(
            "give an experiment file, or an algorithm and a simulator"
            if none
            else "is missing: without an experiment file, give the algorithm and the simulator",
            None if none else missing[0],
            allowed="FILE, or --algorithm and --simulator",
            hint=f"start with {EXAMPLE}; or write a file, drillyard generate --short -a ppo -s "
            "CartPole-v1 > cartpole.yaml, and drillyard run cartpole.yaml",
        )
    return from_options(algorithm, simulator, name=name, steps=steps, seeds=seeds)
