"""Builds the request of an assessment from the user's words, and checks all of them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from drillyard.agents.baselines import make_baseline
from drillyard.errors import ConfigError, NotFound
from drillyard.evaluation.assessment import Request, success_rule
from drillyard.mailbox.records import Phase
from drillyard.runs.locate import find_runs
from drillyard.simulators.make import make_env, raw_world, reset_keys
from drillyard.spec import ExperimentSpec
from drillyard.spec.binding import bound
from drillyard.spec.conditions import Condition, known_keys, read_conditions
from drillyard.spec.learning import SimulatorSpec, Wrapper

AGENT = "agent"


def asked(
    what: str,
    conditions: Path,
    *,
    policy: str = AGENT,
    which: str = "best",
    max_steps: int | None = None,
    success: str = "",
    seed: int = 1,
    store: str | None = None,
) -> Request:
    """Check a request for an assessment. It plays nothing.

    Args:
        what: An experiment in the store, ``name/run`` for one of its runs, or an experiment file.
        conditions: File with a list of conditions, see ``read_conditions``.
        policy: ``agent``, or a baseline.
        which: ``best`` or ``final``.
        max_steps: Longest episode; None for the simulator's own.
        success: An expression, see ``Request``.
        seed: Seed of the first episode.
        store: URL of the store.

    Raises:
        UserError: A part of the request cannot work.
    """
    listed = read_conditions(conditions)
    if success:
        success_rule(success)
    if which not in ("best", "final"):
        raise ConfigError(
            "is not a policy of a run",
            file="--which",
            value=which,
            allowed="best, final",
            hint="leave it out",
        )
    baseline = None if policy == AGENT else policy
    if Path(what).is_file():
        request = _of_file(Path(what), baseline)
    else:
        request = _of_store(what, store)
    spec = SimulatorSpec.model_validate(request["simulator"])
    if max_steps is not None:
        limit = Wrapper(name="time_limit", args={"max_episode_steps": max_steps})
        spec = spec.model_copy(update={"wrappers": [limit, *spec.wrappers]})
    if request["folder"] is not None:
        # The code of a run comes from its store; errors in it appear when it is played.
        _try_conditions(spec, Path(str(request["folder"])), listed, conditions.name, baseline)
    given = {**request, "simulator": spec.model_dump(mode="json")}
    return Request(
        conditions=listed,
        baseline=baseline,
        seed=seed,
        success=success,
        which="best" if which == "best" else "final",
        **given,  # type: ignore[arg-type]
    )


def _try_conditions(
    spec: SimulatorSpec, folder: Path, listed: list[Condition], file: str, baseline: str | None
) -> None:
    from drillyard.system.import_path import working_in

    with working_in(folder):
        env = make_env(raw_world(spec), training=False)
        with contextlib.closing(env):
            known_keys(listed, reset_keys(env), file)
            if baseline is not None:
                make_baseline(baseline, env)


def no_agent(command: str) -> ConfigError:
    """The error that an experiment file has no trained agent.

    Args:
        command: Name of the command of drillyard.
    """
    return ConfigError(
        "a file has no trained agent",
        file="--policy",
        value=AGENT,
        allowed="a baseline: hold, random, …; or the name of a trained experiment",
        hint=f"drillyard {command} NAME for the agent, or --policy hold",
    )


def _of_file(file: Path, baseline: str | None) -> dict[str, object]:
    from drillyard.spec.load import load

    if baseline is None:
        raise no_agent("assess")
    loaded = load(file)
    return {"simulator": world(loaded.spec).model_dump(mode="json"), "folder": str(loaded.folder)}


def _of_store(what: str, store: str | None) -> dict[str, object]:
    mailbox, runs = find_runs(what, store)
    trained = [run for run in runs if mailbox.accepted(run, Phase.TRAIN) is not None]
    if not trained:
        raise NotFound(
            f"no run of {what} is trained", hint="`drillyard status` shows their progress"
        )
    spec = ExperimentSpec.model_validate(mailbox.experiment_record().spec)
    simulator = world(bound(spec, mailbox.run(trained[0])))
    return {
        "simulator": simulator.model_dump(mode="json"),
        "folder": None,
        "store": mailbox.store.url,
        "experiment": mailbox.experiment,
        "run": trained[0],
    }


def world(spec: ExperimentSpec) -> SimulatorSpec:
    """The simulator of an experiment.

    Raises:
        ConfigError: It has none.
    """
    if spec.simulator is None:
        raise ConfigError(
            "has no simulator",
            field="simulator",
            allowed="an `rl` experiment",
            hint="name one that trains an agent",
        )
    return spec.simulator
