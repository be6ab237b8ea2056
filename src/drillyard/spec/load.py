"""Turns a file into a checked experiment, and records where each value came from."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from drillyard.documents.document import Document, KeyPath
from drillyard.documents.files import read_document
from drillyard.documents.json_types import Json, JsonObject
from drillyard.documents.scalars import must_be_clean
from drillyard.documents.yaml_safe import parse_yaml
from drillyard.errors import ConfigError, nearest
from drillyard.findings import Finding, warning
from drillyard.spec import bench, field_options, inline_tunables, listed, presets
from drillyard.spec.children import resolve_children
from drillyard.spec.conditions import take_conditions
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.locating import located, refuse_all
from drillyard.spec.messages import translate
from drillyard.spec.names import Names
from drillyard.spec.parameters import (
    Outside,
    expand,
    fields,
    outside_of,
    resolve_parameters,
    undeclared,
    unknown_tunables,
)
from drillyard.spec.precedence import (
    Merged,
    Place,
    command_line,
    parse_dotted,
    tunable_line,
)
from drillyard.spec.preset_layer import with_preset
from drillyard.spec.provenance import provenance_of, with_listed
from drillyard.spec.semantics import names_in, others_of, problems_of, secrets_in


@dataclass(frozen=True)
class Asked:
    """The options beside the file as typed, enough to repeat the request."""

    sets: Sequence[str] = ()
    globals_: Sequence[str] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    tunables: Sequence[str] = ()


@dataclass(repr=False)
class Loaded:
    """An experiment file, resolved."""

    spec: ExperimentSpec
    provenance: dict[str, str]
    """Dotted path of every value -> where it came from, in words."""
    file: Path
    folder: Path
    """The folder of the file. Its modules can be imported."""
    text: str
    findings: list[Finding] = field(default_factory=list)
    """Warnings and notes."""
    command: list[str] = field(default_factory=list)
    places: dict[KeyPath, Place] = field(default_factory=dict, repr=False)
    asked: Asked = field(default_factory=Asked)
    whole: bool = False
    """Each file of the folder travels: it holds what a store kept of the user's folder."""

    def __repr__(self) -> str:
        """One line: what runs where; ``.spec`` has every value."""
        spec = self.spec
        parts = [spec.workload if spec.learner is None else str(spec.learner.algorithm).upper()]
        if spec.simulator is not None:
            parts[0] += f" on {spec.simulator.id}"
        if spec.train is not None and spec.train.steps is not None:
            parts.append(f"{spec.train.steps:,} steps")
        few = ", ".join(map(str, spec.seeds[:5])) + (", …" if len(spec.seeds) > 5 else "")
        parts += [f"seeds {few}", f"backend {spec.where}"]
        warnings = sum(f.severity.value != "ok" for f in self.findings)
        if warnings:
            parts.append(f"{warnings} warnings in .findings")
        return f"<experiment {spec.name}: {', '.join(parts)}; from {self.file.name}>"

    def locate(self, error: ConfigError) -> ConfigError:
        """Give an error that names a field its file and line.

        Args:
            error: With ``field`` such as ``learner.args.gamma``. A setting of a backend that the
                file does not have is located where the file names the backend.
        """
        merged = Merged({}, self.places)
        path = parse_dotted(error.field or "")
        if path[:1] == ("backends",) and len(path) > 1 and merged.place(path) is None:
            kinds = [text.partition("/")[0] for text in self.spec.places]
            if path[1] in kinds:
                where = merged.place(("backend", kinds.index(str(path[1]))))
                if where is not None and error.file is None:
                    error = error.but(file=where.file, line=where.line)
        return located(error, merged, self.file.name)


def load(
    file: str | Path,
    *,
    sets: Sequence[str] = (),
    globals_: Sequence[str] = (),
    values: Mapping[str, str] | None = None,
    tunables: Sequence[str] = (),
    command: Sequence[str] | None = None,
) -> Loaded:
    """Read, merge, resolve and check an experiment file. Creates nothing.

    Args:
        file: YAML, or JSON with comments; or the name of a preset, where there is no such file.
        sets: ``path=value`` each, as of ``--set``.
        globals_: Files, or inline JSON that starts with ``{``; later wins.
        values: Parameters by name, as of ``--name value``.
        tunables: ``name=value`` each, as of ``--tunable``.
        command: The command line to keep in the record; default: this process's.

    Raises:
        ConfigError: There is one error; it has file, line, field, value, allowed values and a fix.
        ConfigErrors: There are several errors.
    """
    if not Path(file).exists():
        file = presets.experiment_file(str(file)) or presets.no_near(str(file))
    asked = Asked(list(sets), list(globals_), dict(values or {}), list(tunables))
    loaded = _Reading(Path(file), asked).loaded()
    return loaded if command is None else replace(loaded, command=list(command))


class _Reading:
    """A file on its way to an experiment.

    Args:
        path: The file.
        asked: The options beside it.
        over: A listed experiment of its study, to lay over the file.

    Raises:
        ConfigError: A layer is not a mapping, or cannot be read.
    """

    def __init__(self, path: Path, asked: Asked, over: Document | None = None) -> None:
        self._path, self._asked, self._over = path, asked, over
        self._folder = path.resolve().parent
        self._merged = merged = Merged()
        merged.lay(_mapping(read_document(path, path.name), "an experiment"))
        self._globals = [_globals(text) for text in asked.globals_]
        for layer in self._globals:
            merged.lay(_experiment_part(layer))
        merged.lay(command_line(asked.sets, merged.tree))
        merged.lay(tunable_line(asked.tunables))
        self._options = dict(asked.values)
        self._problems: list[ConfigError] = []
        self._findings: list[Finding] = []
        self._items: list[JsonObject] = []
        self._layers: list[Document] = []
        self._listed: list[Loaded] = []
        self._pairs: bench.Pairs | None = None
        self._searched = False

    def loaded(self) -> Loaded:
        """Returns the experiment.

        Raises:
            ConfigError: There is one error.
            ConfigErrors: There are several.
        """
        self._write_out()
        self._resolve()
        spec = self._checked()
        origins = [item.provenance for item in self._listed]
        for item in self._listed:
            new = [f for f in item.findings if f not in self._findings]
            self._findings += [f for f in new if f.subject == "preset"]
        refuse_all(self._located(problems_of(spec)))
        return Loaded(
            spec=spec,
            provenance=with_listed(provenance_of(spec, self._merged), origins),
            file=self._path.resolve(),
            folder=self._folder,
            text=self._path.read_text(encoding="utf-8-sig"),
            findings=self._findings,
            command=list(sys.argv),
            places=self._merged.places,
            asked=self._asked,
        )

    def _write_out(self) -> None:
        """Replaces short forms by what they stand for, and lays the preset under the file."""
        merged, problems = self._merged, self._problems
        self._pairs = pairs = bench.expand(merged, problems)
        field_options.lay_seeds(merged, self._options, problems)
        self._searched = merged.tree.get("study") is not None
        inline_tunables.expand(merged, problems, searched=self._searched)
        self._items = listed.take(merged)
        self._layers = [listed.document(n, item, merged) for n, item in enumerate(self._items)]
        if self._over is not None:
            self._items, self._layers = [], []
            merged.tree.pop("study", None)
            for part in pairs.filled if pairs is not None else ():
                if part in self._over.mapping:
                    merged.tree.pop(part)  # another one of the benchmark, which gives it nothing
            listed.lay(self._over, merged)
        self._merged, self._findings = with_preset(merged, self._path.name, problems)
        take_conditions(self._merged.tree, self._folder)

    def _resolve(self) -> None:
        """Gives the parameters of the file and of its children their values."""
        merged, options = self._merged, self._options
        outside = outside_of(self._globals, options, merged)
        names = resolve_parameters(merged, outside, self._folder)
        expand(merged, names)
        inner = resolve_children(merged, names, outside, self._folder, self._prepare)
        scopes = [names, *inner.scopes]
        problems = [*self._located(_not_for_people(merged)), *names.problems, *inner.problems]
        declared = {name for s in scopes for name in (*s.options, *s.varied)}
        field_options.lay_steps(merged, options, declared, problems)
        problems += undeclared(options, scopes) + unknown_tunables(outside, scopes)
        self._findings += inner.findings + _unused(outside, scopes)
        _keep_per_run(merged, names)
        self._problems += [*problems, *must_be_clean(merged.tree), *secrets_in(merged.tree)]

    def _prepare(
        self, child: Merged, file: str, problems: list[ConfigError]
    ) -> tuple[Merged, list[Finding]]:
        """Writes the short forms of a child out, and lays its preset under it."""
        name, wrong = str(child.tree.get("name")), list[ConfigError]()
        inline_tunables.expand(child, wrong, searched=self._searched, child=name)
        problems += [located(e, child, file) for e in wrong]
        return with_preset(child, file, problems)

    def _checked(self) -> ExperimentSpec:
        """Returns the experiment with its listed ones, or refuses it."""
        merged, problems = self._merged, self._problems
        try:
            spec = ExperimentSpec.model_validate(listed.without(merged.tree, self._items))
        except ValidationError as error:
            reported = [f"{e.field}." for e in problems if e.field]
            # NaN is refused twice; a child whose file is missing has no other errors.
            for wrong in translate(error, merged, self._path.name):
                if not f"{wrong.field}.".startswith(tuple(reported)):
                    problems.append(wrong)
            known = tuple(f"{e.field}." for e in problems)
            more = [e for e in names_in(merged.tree) if not f"{e.field}.".startswith(known)]
            self._refuse(problems + more)
            raise
        if problems:
            self._refuse(problems + others_of(spec, problems))
        return listed.with_resolved(spec, self._items, self._refuse([]))

    def _refuse(self, problems: list[ConfigError]) -> list[ExperimentSpec]:
        """Refuses the file and its listed experiments together; returns what those are."""
        errors = self._located(problems)
        if self._items and self._pairs is not None:
            # What the benchmark gave the file is told as what it was written as.
            ours = tuple(f"{part}." for part in self._pairs.filled)
            errors = [e for e in errors if not f"{e.field}.".startswith(ours)]
        named = self._pairs.field if self._pairs else None
        specs, wrong = listed.resolved(self._layers, self._resolved, errors, named)
        refuse_all(errors + wrong)
        return specs

    def _located(self, problems: Iterable[ConfigError]) -> list[ConfigError]:
        return [located(error, self._merged, self._path.name) for error in problems]

    def _resolved(self, layer: Document) -> ExperimentSpec:
        self._listed.append(_Reading(self._path, self._asked, layer).loaded())
        return self._listed[-1].spec


def load_resolved(
    spec: Mapping[str, Json],
    *,
    folder: Path,
    provenance: Mapping[str, str] | None = None,
    command: Sequence[str] | None = None,
) -> Loaded:
    """Loads an experiment that was resolved before, from ``experiment.json`` or from Python.

    Args:
        spec: As ``ExperimentSpec.model_dump(mode="json")`` gave it.
        folder: The user's folder.
        provenance: As it was recorded.
        command: The command line to keep in the record; default: this process's.

    Raises:
        ConfigError: It does not fit the current format.
        ConfigErrors: For several reasons.
    """
    merged = Merged()
    merged.lay(Document(dict(spec), {}, "experiment.json"))
    try:
        checked = ExperimentSpec.model_validate(merged.tree)
    except ValidationError as error:
        refuse_all(translate(error, merged, "experiment.json"))
    refuse_all([located(e, merged, "experiment.json") for e in problems_of(checked)])
    return Loaded(
        spec=checked,
        provenance=dict(provenance or provenance_of(checked, merged)),
        file=folder / "experiment.json",
        folder=folder,
        text="",
        command=list(sys.argv if command is None else command),
        places=merged.places,
    )


# -- steps ----------------------------------------------------------------------------------------


def _mapping(document: Document, what: str) -> Document:
    if document.value is None:
        raise ConfigError(
            "is empty",
            file=document.file,
            line=1,
            allowed=f"a mapping of keys: {what}",
            hint="begin with `name: my-experiment`, or copy one of experiments/",
        )
    if not isinstance(document.value, dict):
        kind = "a list" if isinstance(document.value, list) else "a single value"
        raise ConfigError(
            f"expected a mapping of keys, found {kind}",
            file=document.file,
            line=1,
            value=document.value if kind != "a list" else None,
            allowed=f"a mapping of keys: {what}",
            hint="write `key: value` lines",
        )
    return document


def _globals(text: str) -> Document:
    if text.lstrip().startswith("{") or "\n" in text:
        # JSON is YAML too, and users do not quote keys on a command line.
        return _mapping(parse_yaml(text, "--globals"), "globals")
    return _mapping(read_document(Path(text), Path(text).name), "globals")


def _experiment_part(document: Document) -> Document:
    """Returns the keys of the experiment file in globals; the others are parameters."""
    known = fields()
    value = {k: v for k, v in document.mapping.items() if k in known}
    return Document(value, document.marks, document.file)


def _not_for_people(merged: Merged) -> list[ConfigError]:
    if merged.get("parameters", "per_run") is None:
        return []
    return [
        ConfigError(
            "is written by drillyard",
            field="parameters.per_run",
            hint="delete it; write $name to use a value",
        )
    ]


def _keep_per_run(merged: Merged, names: Names) -> None:
    if names.late and isinstance(merged.tree.setdefault("parameters", {}), dict):
        merged.tree["parameters"]["per_run"] = [
            {"at": list(path), "text": text} for path, text in names.late.items()
        ]
        merged.places[("parameters", "per_run")] = Place("what each run fills in")


def _unused(outside: Outside, scopes: Sequence[Names]) -> list[Finding]:
    declared = {"tunable_params_map", "experiment_id"}.union(*(s.options for s in scopes))
    declared |= {name for s in scopes for name in (*s.used, *s.varied)}
    known = sorted({*(n for s in scopes for n in s.constants), *fields()})
    return [
        warning(
            "globals",
            f"{key!r} ({parameter.place}) is not used in this experiment",
            "declare it under parameters.required_args, or look at " + nearest(key, known),
        )
        for key, parameter in sorted(outside.globals.items())
        if key not in declared
    ]
