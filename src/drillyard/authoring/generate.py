"""Writes complete experiment files: every field and argument with its meaning, unit and range.

The fields come from the models of ``spec.experiment`` and the arguments from the algorithm's
table, so that a file includes what a new release added.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from drillyard.authoring.yaml_comments import Entry, complete, render
from drillyard.errors import ConfigError
from drillyard.registry import names
from drillyard.spec import presets
from drillyard.spec.algorithms.argument_table import ARGUMENTS, TABLE
from drillyard.spec.algorithms.signatures import ON_POLICY
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.learning import LearnerSpec
from drillyard.system.output_files import write_whole

STEPS = 100_000
SCHEMA_FILE = ".drillyard/experiment.schema.json"
"""Schema file beside the experiment; hidden files are not part of the code archive."""
SCHEMA_COMMENT = f"# yaml-language-server: $schema={SCHEMA_FILE}"
_NOT_HERE = frozenset({"children", "script", "mock", "per_run"})
"""Fields of other workloads, and fields that drillyard itself writes."""
_KINDS = {
    "string": "text",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
    "integer": "a whole number",
    "number": "a number",
}
_UNITS = {
    "steps": "environment steps",
    "episodes": "episodes",
    "max_time_s": "seconds",
    "checkpoint_every": "environment steps",
    "log_interval": "environment steps",
    "after_episodes": "episodes",
    "max_hours": "hours",
    "threads": "threads",
    "workers": "runs",
    "n_envs": "copies",
    "gpus": "GPUs",
}


@dataclass(frozen=True)
class Generated:
    """The result of ``generate``.

    Attributes:
        text: The whole file.
        path: Path of the file; None if it was not written.
        added: Dotted paths that the file did not have; all paths for a new file.
        compact: One-line mappings, which were not changed.
        new: Whether the file is new.
    """

    text: str
    path: Path | None = None
    added: list[str] = field(default_factory=list)
    compact: list[str] = field(default_factory=list)
    new: bool = True


def generate(
    algorithm: str,
    simulator: str,
    out: str | Path | None = None,
    *,
    name: str | None = None,
    steps: int = STEPS,
) -> Generated:
    """Writes a complete, commented experiment file.

    Args:
        algorithm: A registered learner.
        simulator: A built-in, a Gymnasium id, or ``module:Class`` beside ``out``.
        out: File to write (``.yaml``). An existing file is completed, and keeps what the user
            wrote letter by letter. None: return only the text.
        name: Name of the experiment; default from simulator and algorithm.
        steps: Budget in environment steps.

    Raises:
        UserError: A name is unknown, the algorithm cannot act in this simulator, or the existing
            file is about something else.
    """
    path = None if out is None else Path(out)
    if path is not None and path.suffix.lower() not in (".yaml", ".yml"):
        raise ConfigError(
            "is not a YAML file",
            file=str(path),
            allowed="a name that ends with .yaml",
            hint="use YAML, because JSON has no comments",
        )
    algorithm = algorithm if ":" in algorithm else algorithm.lower()
    must_fit(algorithm, simulator, path.parent if path else Path())
    if path is not None and path.is_file():
        existing = path.read_text(encoding="utf-8-sig")
        generated = _completed(path, existing, algorithm, simulator, steps)
    else:
        called = name or experiment_name(algorithm, simulator)
        entries = _entries(algorithm, simulator, called, steps)
        text = "\n".join([SCHEMA_COMMENT, *_title(algorithm, simulator, path), *render(entries)])
        generated = Generated(text + "\n", path, [e.key for e in entries])
    if path is not None:
        if generated.added or generated.new:
            write_whole(path, generated.text.encode(), "--out")
        _schema(path.parent)
    return generated


def _completed(path: Path, existing: str, algorithm: str, simulator: str, steps: int) -> Generated:
    from drillyard.spec.load import load

    spec = load(path).spec  # the user must fix a wrong file, with its errors
    if spec.learner is None or spec.simulator is None or spec.train is None:
        raise ConfigError(
            f"is an experiment of the workload {spec.workload!r}",
            file=str(path),
            field="workload",
            hint="choose another file with -o",
        )
    for requested, present, where in (
        (algorithm, spec.learner.algorithm, "learner.algorithm"),
        (simulator, spec.simulator.id, "simulator.id"),
    ):
        if requested != present:
            raise ConfigError(
                f"the existing file is about {present!r}, not {requested!r}",
                file=str(path),
                field=where,
                value=present,
                allowed="the same, to complete the file",
                hint="choose another file with -o; this one was not changed",
            )
    entries = _entries(
        algorithm, simulator, spec.name, spec.train.steps or steps, spec.learner, spec
    )
    completed = complete(existing, entries)
    return Generated(completed.text, path, completed.added, completed.compact, new=False)


# -- entries --------------------------------------------------------------------------------------


def _entries(
    algorithm: str,
    simulator: str,
    name: str,
    steps: int,
    learner: LearnerSpec | None = None,
    spec: ExperimentSpec | None = None,
) -> list[Entry]:
    """Returns every entry that a file for this algorithm and simulator can have.

    Args:
        algorithm: Name of the learner.
        simulator: Id of the simulator.
        name: Name of the experiment.
        steps: Budget in environment steps.
        learner: Learner of the existing file, whose preset fills missing values.
        spec: The existing file.
    """
    preset = learner.preset if learner else "auto"
    layer = presets.find(preset, algorithm, simulator)
    tuned: dict[str, Any] = layer.mapping if layer else {}
    train = {"n_envs": 1, **tuned.get("train", {})}
    chosen: dict[str, Any] = {
        "name": name,
        "simulator": {"id": simulator, **_tuned(tuned, "simulator")},
        "learner": {
            "algorithm": algorithm,
            # A new file has every value, so a preset decides nothing.
            "preset": learner.preset if learner else None,
            "args": _arguments(algorithm, tuned, steps, train["n_envs"]),
        },
        "train": {"steps": steps, "checkpoint_every": max(1, steps // 10), **train},
        "evaluate": {"every": {"steps": max(1, steps // 10), "episodes": 5}},
        "baselines": ["random"],
    }
    if spec is not None and spec.train is not None and spec.train.steps is None:
        chosen["train"]["steps"] = None
    if spec is not None:
        # A value that an older file does not have keeps its meaning.
        chosen["evaluate"]["every"] = None
        chosen["baselines"] = []
        chosen["train"]["checkpoint_every"] = None
    entries = _of_model(ExperimentSpec, chosen)
    args = _find(entries, "learner", "args")
    if args is not None and algorithm in ARGUMENTS:
        args.entries = [
            Entry(key, _meaning(key, tuned, layer.file if layer else ""), value)
            for key, value in chosen["learner"]["args"].items()
        ]
    return entries


def _tuned(tuned: dict[str, Any], part: str) -> dict[str, Any]:
    return {k: v for k, v in tuned.get(part, {}).items() if k != "id"}


def _arguments(algorithm: str, tuned: dict[str, Any], steps: int, n_envs: int) -> dict[str, Any]:
    tuned_args = tuned.get("learner", {}).get("args", {})
    args = {**ARGUMENTS.get(algorithm, {}), **tuned_args}
    if args.get("learning_starts", 0) >= steps and "learning_starts" not in tuned_args:
        args["learning_starts"] = steps // 10
    if algorithm in ON_POLICY and (args["n_steps"] * n_envs) % args.get("batch_size", 1):
        args["batch_size"] = n_envs * args["n_steps"]
    return args


def _meaning(key: str, tuned: dict[str, Any], layer: str) -> str:
    row = TABLE[key]
    text = f"{row.meaning}{f' ({row.unit})' if row.unit else ''}. Range: {row.rule.span}."
    return text + (f" From {layer}." if key in tuned.get("learner", {}).get("args", {}) else "")


def _of_model(model: type[BaseModel], chosen: dict[str, Any]) -> list[Entry]:
    entries = []
    properties = model.model_json_schema(by_alias=True)["properties"]
    for name, info in model.model_fields.items():
        key = info.alias or name
        inner = _model_of(info)
        value = chosen.get(key, _default(info))
        if key in _NOT_HERE or (model is ExperimentSpec and inner and value is None):
            continue
        comment = _comment(key, info, properties[key])
        if inner is not None and value is not None:
            given = value if isinstance(value, dict) else value.model_dump(by_alias=True)
            entries.append(Entry(key, comment, entries=_of_model(inner, given)))
        else:
            entries.append(Entry(key, comment, _plain(value)))
    return entries


def _model_of(info: FieldInfo) -> type[BaseModel] | None:
    inside = () if get_origin(info.annotation) in (list, dict) else get_args(info.annotation)
    for kind in (info.annotation, *inside):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _default(info: FieldInfo) -> Any:
    value = info.get_default(call_default_factory=True, validated_data={})
    return None if value is PydanticUndefined else value


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value


def _comment(key: str, info: FieldInfo, schema: dict[str, Any]) -> str:
    text = (info.description or key).strip()
    text += "" if text.endswith((".", "…")) else "."
    unit, span = _UNITS.get(key), _span(schema)
    if unit and unit.split()[-1] not in text:
        text += f" Unit: {unit}."
    return f"{text} Range: {span}." if span else text


def _span(schema: dict[str, Any]) -> str:
    """Returns the allowed values, from the JSON Schema of a field."""
    options = schema.get("anyOf", [schema])
    parts = []
    for option in options:
        low, high = option.get("minimum"), option.get("maximum")
        above = option.get("exclusiveMinimum")
        if "enum" in option:
            parts.append(", ".join(str(v) for v in option["enum"]))
        elif "const" in option:
            parts.append(str(option["const"]))
        elif option.get("type") == "boolean":
            parts.append("true or false")
        elif low is not None and high is not None:
            parts.append(f"{low:,} to {high:,}")
        elif low is not None:
            parts.append(f"{low} or more")
        elif above is not None:
            parts.append(f"above {above}" + (f", to {high:,}" if high is not None else ""))
        elif option.get("type") in _KINDS:
            parts.append(_KINDS[option["type"]])
    return "" if parts == ["null"] else "; or ".join(dict.fromkeys(parts))


def _find(entries: list[Entry], *path: str) -> Entry | None:
    entry: Entry | None = None
    for key in path:
        entry = next((e for e in entries if e.key == key), None)
        if entry is None:
            return None
        entries = entry.entries
    return entry


# -- around ---------------------------------------------------------------------------------------


def _title(algorithm: str, simulator: str, path: Path | None) -> list[str]:
    file = path.name if path else "FILE"
    return [
        f"# {algorithm} on {simulator}: every value, with its meaning and range.",
        f"# Check it: drillyard check {file}    Run it: drillyard run {file}",
        "# The same `drillyard generate` command adds the values of a later release, and does not",
        "# change anything that you write here.",
    ]


def experiment_name(algorithm: str, simulator: str) -> str:
    """Returns the name of an experiment that has no other: ``cartpole-v1-ppo``."""
    text = f"{simulator.rpartition(':')[2].rpartition('/')[2]}-{algorithm.rpartition(':')[2]}"
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:63] or "experiment"


def must_fit(algorithm: str, simulator: str, folder: Path) -> None:
    """Refuses unknown names, and an algorithm that cannot act in the simulator."""
    if ":" not in algorithm and algorithm not in names("learners"):
        raise ConfigError(
            f"unknown learner {algorithm!r}",
            field="learner.algorithm",
            value=algorithm,
            known=names("learners"),
        )
    if ":" in simulator and not re.fullmatch(r"[\w.]+:[\w.-]+", simulator):
        raise ConfigError(
            "is not a `module:Class`",
            field="simulator.id",
            value=simulator,
            allowed="a registered name, a Gymnasium id, or module:Class",
        )
    if algorithm not in ARGUMENTS:
        return  # `drillyard check` calls the plug-in's own `check`
    from drillyard.simulators.make import make_env
    from drillyard.spec.algorithms.networks import check_spaces
    from drillyard.spec.learning import SimulatorSpec
    from drillyard.system.import_path import importable

    with importable(folder.resolve()):
        env = make_env(SimulatorSpec(id=simulator))
        try:
            check_spaces(algorithm, None, {}, env.observation_space, env.action_space)
        finally:
            env.close()


def _schema(folder: Path) -> None:
    """Writes the schema that the first line of the file names, for editors."""
    import json

    from drillyard.spec.schema import document

    target = folder / SCHEMA_FILE
    target.parent.mkdir(exist_ok=True)
    text = json.dumps(document(), indent=1, ensure_ascii=False) + "\n"
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")
