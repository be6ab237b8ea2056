"""Checks beyond the shape of a file: unknown names, dangerous URLs, secrets.

They import no torch and use no network and no file, so they take milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

from drillyard.documents.document import KeyPath
from drillyard.documents.json_types import Json, JsonObject
from drillyard.documents.scalars import dotted
from drillyard.errors import ConfigError, PluginError, UserError
from drillyard.registry import load, names, nearest
from drillyard.spec.addresses import check_store_url, is_metadata
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.learning import LearnerSpec, TrainSpec
from drillyard.system.redaction import has_userinfo, is_secret_key, looks_secret, redact

_TRACKING_SCHEMES = {"http", "https", "sqlite", "postgresql", "mysql", "databricks", "azureml"}
_WANDB = re.compile(r"(?:[^/\\#?%:\s]{1,128}/)?[^/\\#?%:]{1,128}\Z")
_REFERENCE = re.compile(r"(?:\$\{(?:env|file):[^}]+\}|(?:env|file|secret):[^\s:][^\s]*)\Z")
_PINNED = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._,\s-]+\])?\s*===?\s*[A-Za-z0-9.!+_-]+\Z"
)


def is_reference(text: str) -> bool:
    """True for a text that is a reference to a secret and nothing else."""
    return bool(_REFERENCE.match(text))


def problems_of(spec: ExperimentSpec) -> list[ConfigError]:
    """Returns every error that can be found without running anything.

    Args:
        spec: A well-shaped experiment.

    Returns:
        Errors with their field; the caller adds file and line.
    """
    found: list[ConfigError] = []
    for part in (
        _names,
        _stores,
        _tracking,
        _notify,
        _requirements,
        _learner,
        _numerics,
        _hosts,
        _lessons,
        _study,
        _stages,
    ):
        found.extend(part(spec))
    return found


def others_of(spec: ExperimentSpec, problems: list[ConfigError]) -> list[ConfigError]:
    """Returns what else is wrong with an experiment of which some values were not resolved.

    Args:
        spec: The experiment.
        problems: What is known; the same fields are not reported again.
    """
    fields = [f"{e.field}." for e in problems]
    if any(field.startswith(("parameters.", "study.")) for field in fields):
        return []  # values that follow from them may be wrong for that reason alone
    return [
        e
        for e in problems_of(spec)
        if not any(f"{e.field}.".startswith(f) or f.startswith(f"{e.field}.") for f in fields)
        and not str(e.field).startswith(("parameters", "study"))
    ]


def secrets_in(tree: Json, path: KeyPath = ()) -> Iterator[ConfigError]:
    """Yields an error for each secret in a file that is not a reference.

    Args:
        tree: The resolved values.
        path: Path of ``tree``.
    """
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from secrets_in(value, (*path, key))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from secrets_in(value, (*path, number))
    elif isinstance(tree, str) and tree and not is_reference(tree):
        key = next((p for p in reversed(path) if isinstance(p, str)), "")
        if is_secret_key(key) or (looks_secret(tree) and not has_userinfo(tree)):
            yield ConfigError(
                "the file contains a secret",
                field=dotted(path),
                value="***",
                allowed="a reference: ${env:NAME}",
                hint=f"put it into the environment and write {key}: ${{env:{key.upper()}}}; then "
                "replace the secret, because it was in a file",
            )
        elif has_userinfo(tree):
            yield ConfigError(
                "a URL with a user name or password in it",
                field=dotted(path),
                value=redact(tree),
                allowed="a URL without credentials",
                hint="give them in the environment (for MLflow: MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD)",
            )


# -- names ----------------------------------------------------------------------------------------


def _names(spec: ExperimentSpec) -> Iterator[ConfigError]:
    yield from _registered("workloads", spec.workload, "workload")
    yield from _registered("backends", spec.backend.partition("/")[0], "backend", spec.backend)
    if spec.learner is not None:
        yield from _registered("learners", spec.learner.algorithm, "learner.algorithm")
    for number, name in enumerate(spec.baselines):
        yield from _registered("baselines", name, f"baselines[{number}]")
    for number, name in enumerate(spec.baselines):
        if name in spec.baselines[:number]:
            yield ConfigError(
                "is listed twice",
                field=f"baselines[{number}]",
                value=name,
                allowed="each baseline once",
                hint="delete one of them",
            )
        if name == "agent":
            yield ConfigError(
                "is the name of the trained policy",
                field=f"baselines[{number}]",
                value=name,
                allowed="any other name",
                hint="register it under another name",
            )
    for kind in spec.backends:
        yield from _registered("backends", kind, f"backends.{kind}")


def names_in(tree: JsonObject) -> Iterator[ConfigError]:
    """Unknown names in a tree that has other faults too, so that all are told at once."""
    learner = tree.get("learner")
    algorithm = learner.get("algorithm") if isinstance(learner, dict) else None
    study = tree.get("study")
    texts = {
        ("workloads", "workload"): tree.get("workload"),
        ("backends", "backend"): tree.get("backend"),
        ("learners", "learner.algorithm"): algorithm,
        ("choosers", "study.chooser"): study.get("chooser") if isinstance(study, dict) else None,
    }
    for (kind, field), text in texts.items():
        if isinstance(text, str) and ":" not in text:
            name = text.partition("/")[0] if kind == "backends" else text
            yield from _registered(kind, name.lower() if kind == "learners" else name, field, text)


def _registered(
    kind: str, name: str, field: str, shown: str | None = None, *, modules: bool = True
) -> Iterator[ConfigError]:
    known = names(kind)
    if ":" in name and modules:
        module, _, attribute = name.partition(":")
        if not module or not attribute or not all(p.isidentifier() for p in module.split(".")):
            yield ConfigError(
                "is not a `module:Class`",
                field=field,
                value=name,
                allowed="a registered name, or module:Class",
                hint=nearest(name, known),
            )
    elif name not in known:
        yield ConfigError(
            f"unknown {kind[:-1]} {name!r}",
            field=field,
            value=shown or name,
            allowed=", ".join(known) or "none are installed",
            hint=nearest(name.lower(), known),
        )


# -- places that are written to -------------------------------------------------------------------


def _stores(spec: ExperimentSpec) -> Iterator[ConfigError]:
    for number, target in enumerate(spec.store):
        try:
            check_store_url(target.url)
        except ConfigError as error:
            yield error.but(field=f"store[{number}].url")


def _tracking(spec: ExperimentSpec) -> Iterator[ConfigError]:
    uri, name = spec.tracking.mlflow, spec.tracking.register_as
    if name is not None and (uri is None or spec.workload != "rl"):
        yield ConfigError(
            "needs an MLflow server" if uri is None else "is for policies",
            value=name,
            field="tracking.register_as",
            allowed="workload: rl, with tracking.mlflow",
            hint="delete `register_as:`, or `mlflow: null`",
        )
    yield from _other_trackers(spec)
    if uri in (None, "auto"):
        return
    assert uri is not None
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if is_metadata(uri):
        yield ConfigError(
            "an address of machine metadata",
            field="tracking.mlflow",
            value=uri,
            allowed="the address of an MLflow server",
            hint="for example http://127.0.0.1:5000",
        )
    elif scheme not in _TRACKING_SCHEMES:
        yield ConfigError(
            "is not a tracking URI",
            field="tracking.mlflow",
            value=uri,
            allowed="auto, null, http(s)://host:port, sqlite:///file.db, postgresql://…",
            hint="null switches MLflow off; auto writes mlflow.db into the store",
        )
    elif scheme == "azureml" and any(target.url == "mlflow" for target in spec.store):
        yield ConfigError(
            "stores files only with Microsoft's client, but `store` has `mlflow`",
            field="tracking.mlflow",
            value=uri,
            allowed="another server, or another target",
            hint="store: [{url: az://account/container/folder}]",
        )


def _other_trackers(spec: ExperimentSpec) -> Iterator[ConfigError]:
    project = spec.tracking.wandb
    if project is not None and not _WANDB.match(project):
        yield ConfigError(
            "is not a project of W&B",
            field="tracking.wandb",
            value=project,
            allowed="project or entity/project; no / \\ # ? % : in a name; 128 characters",
            hint="for example my-team/reactor; WANDB_BASE_URL names a server of your own",
        )
    folder = spec.tracking.csv
    if folder is not None and (not folder.strip() or "://" in folder):
        yield ConfigError(
            "is not a folder",
            field="tracking.csv",
            value=folder,
            allowed="a folder of this machine",
            hint="for example ./curves",
        )
    own = ("mlflow", "wandb", "csv", "tensorboard")
    known = [name for name in names("trackers") if name not in own]
    for name in spec.tracking.plugins:
        if name not in known:
            yield ConfigError(
                f"`tracking: {{{name}: …}}` has its own field"
                if name in own
                else "is not an installed tracker",
                field="tracking.plugins",
                value=name,
                allowed=", ".join(known) or "no plug-in with a tracker is installed",
                hint=f"write `tracking: {{{name}: …}}`"
                if name in own
                else "`drillyard list trackers` lists what is installed; install the package "
                "that has it",
            )


def _notify(spec: ExperimentSpec) -> Iterator[ConfigError]:
    if spec.notify is None or is_reference(spec.notify):
        return
    from drillyard.spec.webhook_url import problem_of

    problem = "is an incomplete reference" if "${" in spec.notify else problem_of(spec.notify)
    if problem is not None:
        yield ConfigError(
            problem,
            field="notify",
            value=redact(spec.notify),
            allowed="https://host/path, http:// on this machine alone, or ${env:NAME}",
            hint="put the whole address into the environment and write notify: ${env:WEBHOOK}",
        )


def _requirements(spec: ExperimentSpec) -> Iterator[ConfigError]:
    for number, line in enumerate(spec.requirements):
        if not _PINNED.match(line.strip()):
            package = re.match(r"[A-Za-z0-9._-]+", line)
            bare = package[0] if package and "://" not in line else "name"
            yield ConfigError(
                "is not pinned",
                field=f"requirements[{number}]",
                value=redact(line),
                allowed="name==version from the package index; no URLs, no ranges",
                hint=f"write {bare}==1.2.3, so that every worker installs the same",
            )


# -- what other modules know ----------------------------------------------------------------------


def _learner(spec: ExperimentSpec) -> Iterator[ConfigError]:
    if spec.workload != "rl" or spec.learner is None:
        return
    from drillyard.spec.algorithms.engines import validate_engine

    learner = spec.learner
    of_arguments = list(_arguments(learner, spec.train))
    wrong = {error.field for error in of_arguments}
    # What no engine takes is said once.
    for error in _caught(lambda: validate_engine(learner), "learner.engine"):
        if error.field not in wrong:
            yield error
    yield from of_arguments


def _arguments(learner: LearnerSpec, train: TrainSpec | None) -> Iterator[ConfigError]:
    from drillyard.spec.algorithms.arguments import Sizes, validate_arguments
    from drillyard.spec.algorithms.signatures import ARGUMENTS
    from drillyard.spec.aliases import ours

    if learner.algorithm not in ARGUMENTS:
        return  # a plug-in checks its own arguments, when its simulator is looked at
    for key in learner.args:
        theirs = ours(key)
        own = key in ARGUMENTS[learner.algorithm]
        if theirs and theirs != f"learner.args.{key}" and not own:
            yield ConfigError(
                f"unknown argument {key!r}",
                field=f"learner.args.{key}",
                value=key,
                allowed="Stable-Baselines3's own argument names",
                hint=f"did you mean {theirs!r}?",
            )
            return
    if train is None:
        return
    sizes = Sizes(train.n_envs, train.steps)
    yield from _caught(
        lambda: validate_arguments(learner.algorithm, learner.args, sizes), "learner.args"
    )


def _numerics(spec: ExperimentSpec) -> Iterator[ConfigError]:
    from drillyard.spec.algorithms.signatures import ARGUMENTS, NOT_MIXED

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


def _hosts(spec: ExperimentSpec) -> Iterator[ConfigError]:
    """``simulator.copies_on: workers``: what it needs."""
    for number, child in enumerate(spec.children):
        if child.simulator is not None and child.simulator.copies_on != "learner":
            yield ConfigError(
                "is not for a part of a composite",
                field=f"children[{number}].simulator.copies_on",
                value=child.simulator.copies_on,
                allowed="learner",
                hint="delete it, or train in an experiment of its own",
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
    kind = spec.backend.partition("/")[0]
    if simulator.copies_on == "hosts" and kind in names("backends") and kind != "local":
        yield ConfigError(
            "hosts join a learner on this machine",
            field="simulator.copies_on",
            value="hosts",
            allowed="with backend: local",
            hint="write backend: local, or copies_on: workers",
        )
    elif kind in names("backends") and kind not in names("hosts"):
        yield ConfigError(
            f"the backend {kind} cannot host copies on its workers yet",
            field="simulator.copies_on",
            value="workers",
            allowed=f"with the backends {', '.join(n for n in names('hosts') if n != 'joined')}",
            hint="delete copies_on, or write another `backend:`; `copies: processes` uses all "
            "cores of one machine",
        )


def _lessons(spec: ExperimentSpec) -> Iterator[ConfigError]:
    if spec.simulator is None:
        return
    from drillyard.spec.simulator.lessons import validate_lesson
    from drillyard.spec.simulator.wrapper_catalogue import check_wrappers

    simulator, lesson = spec.simulator, spec.simulator.lesson
    yield from _caught(lambda: check_wrappers(simulator), "simulator.wrappers")
    yield from _caught(lambda: validate_lesson(lesson), "simulator.lesson")
    for number, stage in enumerate(simulator.curriculum.stages if simulator.curriculum else ()):
        field = f"simulator.curriculum.stages[{number}].lesson"
        yield from _caught(partial(validate_lesson, stage.lesson, None, field), field)
    if spec.evaluate.lesson is not None:
        other = spec.evaluate.lesson
        yield from _caught(
            lambda: validate_lesson(other, field="evaluate.lesson"), "evaluate.lesson"
        )


def _study(spec: ExperimentSpec) -> Iterator[ConfigError]:
    if spec.study is None:
        return
    chooser = spec.study.chooser
    # Registered names alone: it is asked before the folder of the experiment can be imported from.
    unknown = list(_registered("choosers", chooser, "study.chooser", modules=False))
    yield from unknown
    if not unknown:
        yield from _caught(lambda: load("choosers", chooser)().check(spec), "study")


def _stages(spec: ExperimentSpec) -> Iterator[ConfigError]:
    from drillyard.spec import stages

    yield from stages.problems_of(spec)
    for number, child in enumerate(spec.children):
        if child.backend is not None:
            kind = child.backend.partition("/")[0]
            yield from _registered("backends", kind, f"children[{number}].backend", child.backend)


def _caught(call: Callable[[], object], field: str) -> Iterator[ConfigError]:
    from drillyard.errors import ConfigErrors

    try:
        call()
    except ConfigErrors as errors:
        yield from errors.errors
    except ConfigError as error:
        yield error.but(field=error.field or field)
    except (UserError, PluginError) as error:
        yield ConfigError(error.message, field=field, hint=error.hint)
