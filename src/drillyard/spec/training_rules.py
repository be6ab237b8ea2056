"""What a training may combine: arguments, engine, precision, place of the copies, lessons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from drillyard.documents.json_types import JsonObject, as_object
from drillyard.errors import ConfigError, ConfigErrors, PluginError, UserError
from drillyard.registry import names
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.learning import LearnerSpec, TrainSpec


def problems_of_training(spec: ExperimentSpec) -> Iterator[ConfigError]:
    """What is wrong with the learner, its numbers, where its copies are, and its lessons."""
    for part in (_learner, _numerics, _together, _hosts, _lessons):
        yield from part(spec)


def _learner(spec: ExperimentSpec) -> Iterator[ConfigError]:
    if spec.workload != "rl" or spec.learner is None:
        return
    from drillyard.spec.algorithms.engines import validate_engine

    learner = spec.learner
    of_arguments = list(_arguments(learner, spec.train))
    wrong = {error.field for error in of_arguments}
    # What no engine takes is said once.
    for error in caught(lambda: validate_engine(learner), "learner.engine"):
        if error.field not in wrong:
            yield error
    yield from of_arguments


def _arguments(learner: LearnerSpec, train: TrainSpec | None) -> Iterator[ConfigError]:
    from drillyard.spec.algorithms.argument_table import ARGUMENTS
    from drillyard.spec.algorithms.arguments import Sizes, validate_arguments

    if learner.algorithm not in ARGUMENTS:
        return  # a plug-in checks its own arguments, when its simulator is looked at
    sizes = Sizes(train.n_envs, train.steps) if train is not None else None
    yield from caught(
        lambda: validate_arguments(learner.algorithm, learner.args, sizes), "learner.args"
    )


def arguments_in(tree: JsonObject) -> Iterator[ConfigError]:
    """Wrong arguments in a tree that has other faults too, so that all are told at once."""
    from drillyard.spec.algorithms.argument_table import ARGUMENTS
    from drillyard.spec.algorithms.arguments import validate_arguments

    learner = as_object(tree.get("learner"))
    algorithm, args = str(learner.get("algorithm")).lower(), learner.get("args")
    if algorithm in ARGUMENTS and isinstance(args, dict):
        # A reference that was not resolved is told where it is.
        whole = {k: v for k, v in args.items() if "${" not in str(v)}
        yield from caught(lambda: validate_arguments(algorithm, whole, None), "learner.args")


def _numerics(spec: ExperimentSpec) -> Iterator[ConfigError]:
    from drillyard.spec.algorithms.argument_table import ARGUMENTS
    from drillyard.spec.algorithms.signatures import NOT_MIXED

    resources, learner = spec.resources, spec.learner
    ours = learner is not None and learner.algorithm in ARGUMENTS and learner.engine == "sb3"
    name = learner.algorithm if learner is not None else spec.workload
    if resources.deterministic and not ours:
        yield ConfigError(
            f"is not offered for {name}",
            field="resources.deterministic",
            value=True,
            allowed="with the built-in algorithms and `engine: sb3`",
            hint="remove it",
        )
    if resources.precision == "full":
        return
    bears = [each for each in ARGUMENTS if each not in NOT_MIXED]
    why = NOT_MIXED.get(name) if ours else f"it is not offered for {name}"
    if why is not None:
        yield ConfigError(
            f"is not for this learner: {why}",
            field="resources.precision",
            value="mixed",
            allowed=f"with {', '.join(bears)} and `engine: sb3`",
            hint="remove it",
        )
    elif resources.device != "cuda":
        yield ConfigError(
            "saves time on a GPU only",
            field="resources.precision",
            value="mixed",
            allowed="with resources.device: cuda",
            hint="remove it, or set the device",
        )


def _together(spec: ExperimentSpec) -> Iterator[ConfigError]:
    """``resources.runs_per_process``: what it needs."""
    compiled = spec.workload == "rl" and spec.train is not None and spec.train.copies == "compiled"
    if (spec.resources.runs_per_process or 1) > 1 and not compiled:
        yield ConfigError(
            "needs trainings that are one compiled program",
            field="resources.runs_per_process",
            value=spec.resources.runs_per_process,
            allowed="with train.copies: compiled",
            hint="delete it, or write `copies: compiled` under `train:`",
        )


def _hosts(spec: ExperimentSpec) -> Iterator[ConfigError]:
    """``simulator.copies_on: workers``: what it needs."""
    for number, child in enumerate(spec.children):
        if child.simulator is not None and child.simulator.copies_on != "learner":
            yield ConfigError(
                "is not for a part of a composite",
                field=f"children[{number}].simulator.copies_on",
                value=child.simulator.copies_on,
                allowed="learner",
                hint="delete it, or train in a separate experiment",
            )
    simulator, train, workers = spec.simulator, spec.train, spec.resources.workers
    if simulator is None or train is None or simulator.copies_on == "learner":
        return
    if simulator.copies_on == "workers" and (
        workers is None or not 2 <= workers <= train.n_envs + 1
    ):
        yield ConfigError(
            "copies on workers need other workers than the learner's, and a copy for each",
            field="resources.workers" if workers is not None else "simulator.copies_on",
            value="workers" if workers is None else workers,
            allowed=f"resources.workers from 2 to {train.n_envs + 1}: the learner, and at most "
            f"one for each of the {train.n_envs} copies (train.n_envs)",
            hint=f"write resources.workers: {min(train.n_envs, 8) + 1}, or delete copies_on",
        )
    if train.copies == "vectorised":
        yield ConfigError(
            "copies that are stepped at once over arrays cannot be on several machines",
            field="train.copies",
            value=train.copies,
            allowed="auto, one-by-one, processes",
            hint="delete it, or delete simulator.copies_on",
        )
    yield from _place_of_copies(spec, simulator.copies_on)


def _place_of_copies(spec: ExperimentSpec, place: str) -> Iterator[ConfigError]:
    kind = spec.backend.partition("/")[0]
    wrong = partial(ConfigError, field="simulator.copies_on", value=place)
    if spec.elsewhere:
        yield wrong(
            "copies on other machines need one backend: the learner and its hosts share a lease",
            allowed="with a single backend",
            hint=f"write backend: {spec.backend}, or delete copies_on",
        )
    elif kind not in names("backends"):
        return  # another check says it
    elif place == "hosts" and kind != "local":
        yield wrong(
            "hosts join a learner on this machine",
            allowed="with backend: local",
            hint="write backend: local, or copies_on: workers",
        )
    elif kind not in names("hosts"):
        yield wrong(
            f"the backend {kind} cannot host copies on its workers yet",
            allowed=f"with the backends {', '.join(n for n in names('hosts') if n != 'joined')}",
            hint="delete copies_on, or write another `backend:`; `copies: processes` uses all "
            "cores of one machine",
        )


def _lessons(spec: ExperimentSpec) -> Iterator[ConfigError]:
    if spec.simulator is None:
        return
    from drillyard.spec.simulator.lessons import validate_lesson
    from drillyard.spec.simulator.wrapper_catalogue import check_wrappers

    simulator = spec.simulator
    yield from caught(lambda: check_wrappers(simulator), "simulator.wrappers")
    lessons = {"simulator.lesson": simulator.lesson}
    for number, stage in enumerate(simulator.curriculum.stages if simulator.curriculum else ()):
        lessons[f"simulator.curriculum.stages[{number}].lesson"] = stage.lesson
    lessons["evaluate.lesson"] = spec.evaluate.lesson or {}
    for field, lesson in lessons.items():
        yield from caught(partial(validate_lesson, lesson, None, field), field)


def caught(call: Callable[[], object], field: str) -> Iterator[ConfigError]:
    """The mistakes that a call raises; `field` is where they are if they do not say it."""
    try:
        call()
    except (ConfigError, ConfigErrors) as error:
        yield from (e.but(field=e.field or field) for e in error.errors)
    except (UserError, PluginError) as error:
        yield ConfigError(error.message, field=field, hint=error.hint)
