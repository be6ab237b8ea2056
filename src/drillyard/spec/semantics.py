"""Checks beyond the shape of a file: unknown names, dangerous URLs, secrets.

They import no torch and use no network and no file, so they take milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from drillyard.documents.json_types import Json, JsonObject
from drillyard.documents.scalars import dotted, values_in
from drillyard.errors import ConfigError, nearest
from drillyard.registry import load, names
from drillyard.spec.addresses import check_store_url
from drillyard.spec.agent import problems_of_agent
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.trackers import problems_of_tracking
from drillyard.spec.training_rules import arguments_in, caught, problems_of_training
from drillyard.system.redaction import has_userinfo, is_secret_key, looks_secret, redact

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
    problems: list[ConfigError] = []
    for part in (
        _names,
        _stores,
        problems_of_tracking,
        _notify,
        _requirements,
        problems_of_training,
        _study,
        _stages,
    ):
        problems.extend(part(spec))
    return problems


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


def secrets_in(tree: Json) -> Iterator[ConfigError]:
    """Yields an error for each secret in the resolved values that is not a reference."""
    for path, text in values_in(tree):
        if not isinstance(text, str) or not text or is_reference(text):
            continue
        key = next((p for p in reversed(path) if isinstance(p, str)), "")
        if is_secret_key(key) or (looks_secret(text) and not has_userinfo(text)):
            yield ConfigError(
                "the file contains a secret",
                field=dotted(path),
                value="***",
                allowed="a reference: ${env:NAME}",
                hint=f"put it into the environment and write {key}: ${{env:{key.upper()}}}; then "
                "replace the secret, because it was in a file",
            )
        elif has_userinfo(text):
            yield ConfigError(
                "a URL with a user name or password in it",
                field=dotted(path),
                value=redact(text),
                allowed="a URL without credentials",
                hint="give them in the environment (for MLflow: MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD)",
            )


# -- names ----------------------------------------------------------------------------------------


def _names(spec: ExperimentSpec) -> Iterator[ConfigError]:
    yield from _registered("workloads", spec.workload, "workload")
    yield from _backends(spec.places, "backend")
    if spec.learner is not None:
        yield from _registered("learners", spec.learner.algorithm, "learner.algorithm")
    for number, name in enumerate(spec.baselines):
        wrong = partial(ConfigError, field=f"baselines[{number}]", value=name)
        yield from _registered("baselines", name, f"baselines[{number}]")
        if name in spec.baselines[:number]:
            allowed, hint = "each baseline once", "delete one of them"
            yield wrong("is listed twice", allowed=allowed, hint=hint)
        if name == "agent":
            allowed, hint = "any other name", "register it under another name"
            yield wrong("is the name of the trained policy", allowed=allowed, hint=hint)
    for kind in spec.backends:
        yield from _registered("backends", kind, f"backends.{kind}")


def names_in(tree: JsonObject) -> Iterator[ConfigError]:
    """Wrong names in a tree that has other faults too, so that all are told at once."""
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
    listed = tree.get("backend")
    for number, text in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(text, str):
            name = text.partition("/")[0]
            yield from _registered("backends", name, f"backend[{number}]", text)
    yield from arguments_in(tree)
    yield from problems_of_agent(tree)


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
                known=known,
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
            allowed="https://host/path, http:// only on this machine, or ${env:NAME}",
            hint="put the whole address into the environment and write notify: ${env:WEBHOOK}",
        )


def _requirements(spec: ExperimentSpec) -> Iterator[ConfigError]:
    for number, line in enumerate(spec.requirements):
        if not _PINNED.match(line.strip()):
            package = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
            bare = package[0] if package and "://" not in line else "name"
            yield ConfigError(
                "is not pinned",
                field=f"requirements[{number}]",
                value=redact(line),
                allowed="name==version from the package index; no URLs, no ranges",
                hint=f"write {bare}==1.2.3, so that every worker installs the same",
            )


# -- what other modules know ----------------------------------------------------------------------


def _study(spec: ExperimentSpec) -> Iterator[ConfigError]:
    if spec.study is None:
        return
    chooser = spec.study.chooser
    # Registered names alone: it is asked before the folder of the experiment can be imported from.
    unknown = list(_registered("choosers", chooser, "study.chooser", modules=False))
    yield from unknown
    if not unknown:
        yield from caught(lambda: load("choosers", chooser)().check(spec), "study")


def _stages(spec: ExperimentSpec) -> Iterator[ConfigError]:
    from drillyard.spec import stages

    yield from stages.problems_of(spec)
    for number, child in enumerate(spec.children):
        yield from _backends(child.places, f"children[{number}].backend")


def _backends(places: tuple[str, ...], field: str) -> Iterator[ConfigError]:
    """Yields an error for each unknown backend of an experiment or of a child."""
    for number, text in enumerate(places):
        where = f"{field}[{number}]" if len(places) > 1 else field
        yield from _registered("backends", text.partition("/")[0], where, text)
