"""From ``simulator:`` of an experiment to an environment, and to copies of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING

import gymnasium as gym

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError, DrillyardError, SimulatorError
from drillyard.registry import importable, load_object
from drillyard.simulators import GYMNASIUM_IDS
from drillyard.simulators.batch_protocol import VectorSimulator
from drillyard.simulators.classes import Simulator, registered, simulator_class
from drillyard.simulators.episode_recorder import recorder
from drillyard.simulators.episode_replay import EpisodeReplay
from drillyard.simulators.flat_spaces import flattened, needs_flattening
from drillyard.simulators.metric_wrapper import EpisodeMetrics
from drillyard.simulators.plain import make_plain
from drillyard.simulators.streams import REPLAYED
from drillyard.simulators.types import Env
from drillyard.simulators.vec_wrappers import refuse_names, vec_wrapped
from drillyard.simulators.wrappers import EpisodeMonitor, LessonWrapper, layers, silent_layers
from drillyard.spec.learning import SimulatorSpec, Way, Wrapper
from drillyard.spec.references import reveal
from drillyard.spec.simulator.lessons import Lesson, validate_lesson
from drillyard.spec.simulator.wrapper_catalogue import (
    COPY_WRAPPERS,
    FOR_THE_LEARNER,
    VEC_WRAPPERS,
    check_wrappers,
)
from drillyard.system.user_code import described
from drillyard.system.watchdog import report_activity

if TYPE_CHECKING:  # its import takes seconds
    from stable_baselines3.common.vec_env import VecEnv

    from drillyard.simulators.hosts.vec_env import Hosts


def make_env(
    spec: SimulatorSpec,
    *,
    copy: int = 0,
    seed: int = 0,
    training: bool = True,
    streams: int = 1,
    flat: bool = True,
) -> Env:
    """Build one copy: simulator, its per-copy wrappers, replay, lesson, episode monitor.

    Args:
        spec: The simulator part of an experiment.
        copy: Index of the copy, for the lesson's draws.
        seed: For the lesson's draws until a seeded reset.
        training: False leaves the lesson out: an evaluation brings its own options.
        streams: Version of the random numbers, see ``streams``.
        flat: Put ``FlattenSpaces`` around spaces that learners do not take as they are.

    Returns:
        The environment; its ``info["episode"]`` at an episode's end has return and length.

    Raises:
        ConfigError: Unknown id, argument, wrapper or lesson form.
        SimulatorError: The id does not name a simulator, or its constructor raised.
        SpaceMismatch: Spaces that no learner takes.
    """
    check_wrappers(spec)
    env = _bare(spec, copy)
    for wrapper in spec.wrappers:
        if wrapper.name not in VEC_WRAPPERS:
            env = _wrap(env, wrapper)
    if flat:
        env = flattened(env)
    if spec.metrics:
        env = EpisodeMetrics(env, spec.metrics)
    lesson = checked_lesson(spec, env)
    if training and streams >= REPLAYED and silent_layers(env):
        env = EpisodeReplay(env, seed)
    if training and (lesson or spec.curriculum is not None):
        env = LessonWrapper(env, lesson, seed, copy, streams)
    return EpisodeMonitor(env, copy, recorder(spec, copy, training, streams))


def make_vec(
    spec: SimulatorSpec,
    n_envs: int,
    seed: int,
    *,
    training: bool = True,
    gamma: float | None = None,
    around: Callable[[Env, int], Env] | None = None,
    how: Way = "one-by-one",
    streams: int = 1,
    hosts: Hosts | None = None,
) -> VecEnv:
    """Builds copies that are stepped together, as Stable-Baselines3 expects them.

    Args:
        spec: The simulator part of an experiment.
        n_envs: Number of copies.
        seed: What the copies are reset with at the first reset comes from it (``streams``).
        training: False: no lesson, statistics of the normalisation frozen, rewards raw.
        gamma: The learner's discount, for the normalisation of rewards.
        around: Puts something around each copy: (environment, copy) -> environment.
        how: How they are stepped; one after the other where the simulator cannot do it at once
            (``can_vectorise``), in an evaluation, and with ``around``.
        streams: Version of the random numbers, see ``streams``.
        hosts: Where the copies are, if they are on other machines.

    Returns:
        ``FunctionalEnv``, ``VectorisedEnv``, ``ProcessesEnv``, ``HostedEnv`` or a ``DummyVecEnv``,
        inside ``VecNormalize`` and ``VecFrameStack`` where the experiment has them.

    Raises:
        ConfigError, SimulatorError: See ``make_env``.
    """

    def one(copy: int) -> Env:
        env = make_env(spec, copy=copy, seed=seed, training=training, streams=streams)
        return env if around is None else around(env, copy)

    venv: VecEnv
    makers: list[Callable[[], Env]] = [partial(one, copy) for copy in range(n_envs)]
    alone = training and around is None
    if hosts is not None:
        from drillyard.simulators.hosts.vec_env import HostedEnv

        venv = HostedEnv(spec, n_envs, seed, streams, hosts)
    elif how == "compiled" and alone:
        from drillyard.simulators.functional.forms import make_copies

        venv = make_copies(spec, n_envs, seed, streams)
    elif how == "vectorised" and alone and can_vectorise(spec):
        venv = _vectorised(spec, n_envs, seed, streams)
    elif how == "processes" and alone:
        from drillyard.simulators.processes import ProcessesEnv

        venv = ProcessesEnv(makers, streams)
    else:
        from drillyard.simulators.in_turn import InTurnEnv

        venv = InTurnEnv(makers, streams)
    for wrapper in spec.wrappers:
        if wrapper.name in VEC_WRAPPERS:
            venv = vec_wrapped(venv, wrapper, training, gamma)
    venv.seed(seed)
    return venv


def can_vectorise(spec: SimulatorSpec) -> bool:
    """Returns whether the simulator can step many copies at once in this experiment."""
    plain = all(wrapper.name in VEC_WRAPPERS for wrapper in spec.wrappers)
    return plain and not spec.metrics and load_vectorised(spec) is not None


def by_rule(at_once: bool, spec: SimulatorSpec) -> Way:
    """The way whose numbers ``train.copies: auto`` reproduces, whatever is measured.

    Args:
        at_once: There are enough copies to step them at once (``VECTORISED_FROM``).
        spec: The simulator part of an experiment.
    """
    return "vectorised" if at_once and can_vectorise(spec) else "one-by-one"


def _vectorised(spec: SimulatorSpec, n_envs: int, seed: int, streams: int) -> VecEnv:
    from drillyard.simulators.horizon import horizon
    from drillyard.simulators.sb3_vec_env import VectorisedEnv

    check_wrappers(spec)
    one = _bare(spec, 0)  # explains arguments that do not fit
    try:
        lesson, make = checked_lesson(spec, one), load_vectorised(spec)
        assert make is not None
        if needs_flattening(one):
            raise SimulatorError(
                "its copies at once have spaces that must be flattened",
                field="train.copies",
                allowed="one-by-one, processes",
                hint="write train.copies: one-by-one, or flatten the spaces in the simulator",
            )
        made = make(n_envs, **reveal(spec.args))
        return VectorisedEnv(
            made,
            n_envs,
            lesson,
            type(layers(one)[-1]),
            horizon(one),
            seed,
            streams,
            recorder(spec, 0, True, streams, n_envs),
        )
    finally:
        one.close()


def load_vectorised(spec: SimulatorSpec) -> Callable[..., VectorSimulator] | None:
    """The factory of all copies of a simulator at once: (n, **args); None if there is none.

    A class may name its vectorised counterpart; a Gymnasium id may have a vector entry point.

    Raises:
        PluginError: The name does not exist.
    """
    kind = simulator_class(spec)
    if kind is None:
        from drillyard.simulators.gymnasium_adapter import adapter

        return adapter(registered(spec.id))
    found = getattr(kind, "vectorised", None)
    # A name, if the libraries of the counterpart are expensive to import.
    return load_object(found) if isinstance(found, str) else found


def raw_world(spec: SimulatorSpec) -> SimulatorSpec:
    """The same task with the simulator's own observations and actions, as baselines see it."""
    kept = [w for w in spec.wrappers if w.name not in FOR_THE_LEARNER]
    return spec.model_copy(update={"wrappers": kept})


def checked_lesson(spec: SimulatorSpec, env: Env) -> Lesson:
    """The first lesson of a training, after the lessons of all stages were checked.

    Raises:
        ConfigError: An invalid form, or a key that the simulator does not know.
    """
    keys = reset_keys(env)
    validate_lesson(spec.lesson, keys)
    stages = spec.curriculum.stages if spec.curriculum is not None else []
    for number, stage in enumerate(stages):
        validate_lesson(stage.lesson, keys, f"simulator.curriculum.stages[{number}].lesson")
    return spec.lesson_of_stage(0)


def reset_keys(env: Env) -> Collection[str] | None:
    """The reset keys that the simulator declares (``reset_keys``); None where it does not."""
    declared = getattr(layers(env)[-1], "reset_keys", None)
    return None if declared is None else [str(key) for key in declared]


def _bare(spec: SimulatorSpec, copy: int) -> Env:
    kind = simulator_class(spec)
    args = reveal(spec.args)  # secrets are references until here
    report_activity(f"making {spec.id}")
    try:
        if kind is None:
            # The passive checker warns at each start; `drillyard check` does its work, once.
            return _with_spaces(spec, gym.make(spec.id, disable_env_checker=True, **args))
        made = kind(**args)
        if isinstance(made, gym.Env):
            return _with_spaces(spec, made)
        if spec.agent is None:
            raise _must_be_env(spec, made)
        return make_plain(made, spec.agent, copy)
    except DrillyardError:
        raise
    except gym.error.DependencyNotInstalled as error:
        raise SimulatorError(
            f"needs a package that is not installed: {error}",
            field="simulator.id",
            value=spec.id,
            hint="install it, and name it in `requirements:` so that workers have it",
        ) from error
    except Exception as error:
        _explain_argument(spec, kind)
        raise SimulatorError(
            f"{spec.id} could not be made with these arguments: {described(error)}",
            field="simulator.args" if spec.args else "simulator.id",
            value=str(spec.args) if spec.args else spec.id,
            hint="look at `simulator.args` and at the simulator's constructor",
        ) from error


def _with_spaces(spec: SimulatorSpec, env: Env) -> Env:
    """Refuses an environment without spaces; Gymnasium's base class does not set them."""
    for what in ("observation_space", "action_space"):
        found = getattr(env, what, None)
        if not isinstance(found, gym.Space):
            raise SimulatorError(
                f"has no {what}"
                if found is None
                else f"has a {what} that is not a Gymnasium space",
                field="simulator.id",
                value=spec.id,
                allowed="gymnasium.spaces.Box, Discrete, Dict, …",
                hint=f"set self.{what} in the constructor",
            )
    return env


def _must_be_env(spec: SimulatorSpec, made: object) -> SimulatorError:
    """What a function made is not an environment."""
    return SimulatorError(
        f"returned a {type(made).__name__}, not a gymnasium.Env",
        field="simulator.id",
        value=spec.id,
        allowed="a class, or a function that returns a gymnasium.Env",
        hint="return the environment at the end of the function",
    )


def _explain_argument(spec: SimulatorSpec, kind: Callable[..., Simulator] | None) -> None:
    if kind is None:
        entry = registered(spec.id).entry_point
        made = load_object(entry) if isinstance(entry, str) else entry
    else:
        made = kind
    if made is not None:
        _refuse_unknown(made, spec.args, "simulator.args", skip=("self",))


def _refuse_unknown(
    made: Callable[..., object], args: Mapping[str, Json], field: str, skip: Collection[str]
) -> None:
    """Refuses an argument that a callable does not take."""
    parameters = inspect.signature(made).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    refuse_names(args, [name for name in parameters if name not in skip], field)


def _wrap(env: Env, wrapper: Wrapper) -> Env:
    field = f"simulator.wrappers.{wrapper.name}"
    kind = importable(COPY_WRAPPERS.get(wrapper.name, wrapper.name), field)
    if not callable(kind):
        raise ConfigError(
            f"is a {type(kind).__name__}, not a wrapper class", field=field, value=wrapper.name
        )
    try:
        wrapped = kind(env, **wrapper.args)
    except ConfigError as error:
        raise error.but(field=error.field or f"{field}.args") from error.__cause__
    except DrillyardError:
        raise
    except Exception as error:
        _refuse_unknown(kind, wrapper.args, f"{field}.args", skip=("self", "env"))
        raise ConfigError(
            f"could not be made: {described(error)}", field=field, value=wrapper.args
        ) from error
    if not isinstance(wrapped, gym.Env):
        raise ConfigError(
            f"gave a {type(wrapped).__name__}, not an environment", field=field, value=wrapper.name
        )
    return wrapped


__all__ = [
    "GYMNASIUM_IDS",
    "check_wrappers",
    "make_env",
    "make_vec",
    "raw_world",
    "reset_keys",
    "simulator_class",
]
