"""From ``simulator:`` of an experiment to an environment, and to copies of it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import gymnasium as gym

from drillyard.errors import ConfigError, DrillyardError, SimulatorError
from drillyard.registry import importable, load, load_object, names, nearest
from drillyard.simulators import GYMNASIUM_IDS, register_gymnasium
from drillyard.simulators.metric_wrapper import EpisodeMetrics
from drillyard.simulators.plain import make_plain
from drillyard.simulators.wrappers import Env, EpisodeMonitor, LessonWrapper, layers
from drillyard.spec.learning import SimulatorSpec, Way, Wrapper
from drillyard.spec.references import reveal
from drillyard.spec.simulator.lessons import validate_lesson
from drillyard.spec.simulator.wrapper_order import (
    COPY_WRAPPERS,
    FOR_THE_LEARNER,
    VEC_WRAPPERS,
    check_wrappers,
)
from drillyard.system.watchdog import sign


def make_env(
    spec: SimulatorSpec, *, copy: int = 0, seed: int = 0, training: bool = True, streams: int = 1
) -> Env:
    """Build one copy: simulator, its per-copy wrappers, lesson, episode monitor.

    Args:
        spec: The simulator part of an experiment.
        copy: Index of the copy, for the lesson's draws.
        seed: For the lesson's draws until a seeded reset.
        training: False leaves the lesson out: an evaluation brings its own options.
        streams: Version of the random numbers, see ``streams``.

    Returns:
        The environment; its ``info["episode"]`` at an episode's end has return and length.

    Raises:
        ConfigError: Unknown id, argument, wrapper or lesson form.
        SimulatorError: What the id names is no simulator, or its constructor raised.
    """
    check_wrappers(spec)
    env = _bare(spec, copy)
    for wrapper in spec.wrappers:
        if wrapper.name not in VEC_WRAPPERS:
            env = _wrap(env, wrapper)
    if spec.metrics:
        env = EpisodeMetrics(env, spec.metrics)
    lesson = checked_lesson(spec, env)
    if training and (lesson or spec.curriculum is not None):
        env = LessonWrapper(env, lesson, seed, copy, streams)
    return EpisodeMonitor(env, copy)


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
) -> Any:
    """Build copies that are stepped together, as Stable-Baselines3 wants them.

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

    Returns:
        ``VectorisedEnv``, ``ProcessesEnv`` or a ``DummyVecEnv``, inside ``VecNormalize`` and
        ``VecFrameStack`` where asked for.

    Raises:
        ConfigError, SimulatorError: See ``make_env``.
    """

    def one(copy: int) -> Env:
        env = make_env(spec, copy=copy, seed=seed, training=training, streams=streams)
        return env if around is None else around(env, copy)

    venv: Any
    makers: list[Callable[[], Env]] = [partial(one, copy) for copy in range(n_envs)]
    alone = training and around is None
    if how == "vectorised" and alone and can_vectorise(spec):
        venv = _vectorised(spec, n_envs, seed, streams)
    elif how == "processes" and alone:
        from drillyard.simulators.processes import ProcessesEnv

        venv = ProcessesEnv(makers, streams)
    else:
        from drillyard.simulators.in_turn import InTurnEnv

        venv = InTurnEnv(makers, streams)
    for wrapper in spec.wrappers:
        if wrapper.name in VEC_WRAPPERS:
            venv = _vec_wrap(venv, wrapper, training, gamma)
    venv.seed(seed)
    return venv


def can_vectorise(spec: SimulatorSpec) -> bool:
    """Does the simulator step many copies at once, and nobody look at a single copy's steps?"""
    plain = all(wrapper.name in VEC_WRAPPERS for wrapper in spec.wrappers)
    return plain and not spec.metrics and load_vectorised(spec) is not None


def by_rule(at_once: bool, spec: SimulatorSpec) -> Way:
    """The way whose numbers ``train.copies: auto`` stands for, whatever is measured.

    Args:
        at_once: There are enough copies for it (``VECTORISED_FROM``).
        spec: The simulator part of an experiment.
    """
    return "vectorised" if at_once and can_vectorise(spec) else "one-by-one"


def _vectorised(spec: SimulatorSpec, n_envs: int, seed: int, streams: int) -> Any:
    from drillyard.simulators.horizon import horizon
    from drillyard.simulators.sb3_vec_env import VectorisedEnv

    check_wrappers(spec)
    one = _bare(spec, 0)  # explains arguments that do not fit
    try:
        lesson, make = checked_lesson(spec, one), load_vectorised(spec)
        assert make is not None
        made = make(n_envs, **reveal(spec.args))
        return VectorisedEnv(
            made, n_envs, lesson, type(layers(one)[-1]), horizon(one), seed, streams
        )
    finally:
        one.close()


def load_vectorised(spec: SimulatorSpec) -> Callable[..., Any] | None:
    """What makes all copies of a simulator at once: (n, **args); None where nothing can.

    A class names its sister itself; a Gymnasium id may have a vector entry point.

    Raises:
        PluginError: The name is not there.
    """
    kind = simulator_class(spec)
    if kind is None:
        from drillyard.simulators.gymnasium_adapter import adapter

        return adapter(spec.id)
    found = getattr(kind, "vectorised", None)
    # A name where the libraries of the sister are dear.
    return load_object(found) if isinstance(found, str) else found


def raw_world(spec: SimulatorSpec) -> SimulatorSpec:
    """The same task with the simulator's own observations and actions: what baselines see."""
    kept = [w for w in spec.wrappers if w.name not in FOR_THE_LEARNER]
    return spec.model_copy(update={"wrappers": kept})


def checked_lesson(spec: SimulatorSpec, env: Env) -> dict[str, Any]:
    """The lesson that a training begins with, after those of all stages were checked.

    Raises:
        ConfigError: A form that is none, or a key that the simulator does not know.
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


def simulator_class(spec: SimulatorSpec) -> Callable[..., Any] | None:
    """The class behind ``simulator.id``; None for a Gymnasium id.

    Raises:
        ConfigError: Nobody knows the id; with the nearest names.
        PluginError: The module or attribute is not there.
        SimulatorError: What is there is no ``gymnasium.Env`` class, or has no ``agent:``.
    """
    register_gymnasium()
    if ":" in spec.id:
        return _must_be_simulator(spec, load("simulators", spec.id))
    if spec.id in names("simulators"):
        return _must_be_simulator(spec, load("simulators", spec.id))
    _register_foreign(spec.id)
    try:
        gym.spec(spec.id)
    except gym.error.Error as error:
        known = [*names("simulators"), *sorted(gym.registry)]
        raise ConfigError(
            f"unknown simulator: {error}",
            field="simulator.id",
            value=spec.id,
            allowed=f"{', '.join(names('simulators'))}, a Gymnasium id, or module:Class",
            hint=nearest(spec.id, known)
            if nearest(spec.id, known).startswith("did")
            else "`module:Class` names a class of your own",
        ) from error
    return None


_FOREIGN = {
    "Eplus-": (
        "sinergym",
        "'sinergym>=3.6' (Python 3.12 or newer) and EnergyPlus, which it drives",
    )
}
"""Beginning of Gymnasium ids -> package whose import registers them; what is to be installed."""


def _register_foreign(id_: str) -> None:
    """Import the package of an id.

    Raises:
        ConfigError: It is not installed.
    """
    for beginning, (package, wanted) in _FOREIGN.items():
        if not id_.startswith(beginning):
            continue
        try:
            importlib.import_module(package)
        except Exception as error:  # foreign code: what it needs may be missing in any way
            raise ConfigError(
                f"is one of {package}'s, which cannot be imported: {type(error).__name__}: "
                f"{error}",
                field="simulator.id",
                value=id_,
                allowed=", ".join(names("simulators")),
                hint=f"pip install {wanted}; and name it in `requirements:`, so that "
                "workers have it",
            ) from error


def _must_be_simulator(spec: SimulatorSpec, found: Any) -> Callable[..., Any]:
    is_env = isinstance(found, type) and issubclass(found, gym.Env)
    if is_env and spec.agent is not None:
        raise ConfigError(
            "is for simulators that are no gymnasium.Env, and this one is",
            field="simulator.agent",
            value=spec.id,
            allowed="none here",
            hint="delete `agent:`",
        )
    if is_env or (isinstance(found, type) and spec.agent is not None):
        return found  # type: ignore[no-any-return]
    if isinstance(found, type) and all(
        callable(getattr(found, m, None)) for m in ("reset", "step", "terminated", "truncated")
    ):
        raise SimulatorError(
            "is a plain simulator: what does the agent see, do and earn?",
            field="simulator.agent",
            value=spec.id,
            allowed="a table with observes, acts and reward, or module:Class",
            hint="drillyard new simulator NAME --from FILE.py writes one",
        )
    what = (
        f"the class {found.__module__}.{found.__qualname__}"
        if isinstance(found, type)
        else (f"a {type(found).__name__}")
    )
    raise SimulatorError(
        f"is {what}, not a subclass of gymnasium.Env",
        field="simulator.id",
        value=spec.id,
        allowed=f"{', '.join(names('simulators'))}, a Gymnasium id, or module:Class of a "
        "gymnasium.Env or a plain simulator",
        hint="modules are looked for beside the experiment file and among installed packages",
    )


def _bare(spec: SimulatorSpec, copy: int) -> Env:
    kind = simulator_class(spec)
    args = reveal(spec.args)  # secrets are references until here
    sign(f"making {spec.id}")
    try:
        if kind is None:
            # The passive checker warns at each start; `drillyard check` does its work, once.
            return gym.make(spec.id, disable_env_checker=True, **args)
        made = kind(**args)
        return made if spec.agent is None else make_plain(made, spec.agent, copy)
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
            f"{spec.id} could not be made with these arguments: {type(error).__name__}: {error}",
            field="simulator.args" if spec.args else "simulator.id",
            value=str(spec.args) if spec.args else spec.id,
            hint="look at `simulator.args` and at the simulator's constructor",
        ) from error


def _explain_argument(spec: SimulatorSpec, kind: Callable[..., Env] | None) -> None:
    if kind is None:
        entry = gym.spec(spec.id).entry_point
        made = load_object(entry) if isinstance(entry, str) else entry
    else:
        made = kind
    _refuse_unknown(made, spec.args, "simulator.args", skip=("self",))


def _refuse_unknown(made: Any, args: dict[str, Any], field: str, skip: Collection[str]) -> None:
    """Name an argument that a callable does not take; silent when all are taken."""
    parameters = inspect.signature(made).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    known = [name for name in parameters if name not in skip]
    for name, value in args.items():
        if name not in known:
            raise ConfigError(
                "no such argument",
                field=f"{field}.{name}",
                value=value,
                allowed=", ".join(known) or "none",
                hint=nearest(name, known),
            )


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
            f"could not be made: {type(error).__name__}: {error}", field=field, value=wrapper.args
        ) from error
    if not isinstance(wrapped, gym.Env):
        raise ConfigError(
            f"gave a {type(wrapped).__name__}, not an environment", field=field, value=wrapper.name
        )
    return wrapped


def _vec_wrap(venv: Any, wrapper: Wrapper, training: bool, gamma: float | None) -> Any:
    from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

    field, args = f"simulator.wrappers.{wrapper.name}", dict(wrapper.args)
    try:
        if wrapper.name == "frame_stack":
            _refuse_names(args, ("n", "channels_order"), f"{field}.args")
            n = args.pop("n", 4)
            if isinstance(n, bool) or not isinstance(n, int) or n < 2:
                raise ConfigError("needs at least 2 frames", field=f"{field}.args.n", value=n)
            return VecFrameStack(venv, n_stack=n, **args)
        known = [p for p in inspect.signature(VecNormalize).parameters if p not in ("venv",)]
        _refuse_names(args, [k for k in known if k != "training"], f"{field}.args")
        if gamma is not None:
            args.setdefault("gamma", gamma)
        if not training:
            args["norm_reward"] = False
        return VecNormalize(venv, training=training, **args)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(str(error), field=field, value=wrapper.args) from error


def _refuse_names(args: dict[str, Any], known: Collection[str], field: str) -> None:
    for name, value in args.items():
        if name not in known:
            raise ConfigError(
                "no such argument",
                field=f"{field}.{name}",
                value=value,
                allowed=", ".join(known),
                hint=nearest(name, list(known)),
            )


__all__ = [
    "GYMNASIUM_IDS",
    "check_wrappers",
    "make_env",
    "make_vec",
    "raw_world",
    "reset_keys",
    "simulator_class",
]
