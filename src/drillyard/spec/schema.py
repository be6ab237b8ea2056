"""The JSON Schema of experiment files."""

from __future__ import annotations

from drillyard.documents.json_types import JsonObject
from drillyard.spec.strict import STEPS_PATTERN

STEP_COUNTS = (
    ("TrainSpec", "steps"),
    ("TrainSpec", "checkpoint_every"),
    ("TrainSpec", "log_interval"),
    ("EverySpec", "steps"),
    ("RuleSpec", "steps"),
    ("StudyBudget", "steps"),
    ("PrunerSpec", "warmup_steps"),
    ("PrunerSpec", "min_steps"),
)
"""(model, field) of every count of steps, which may have a unit: `50k`."""


def document() -> JsonObject:
    """The schema, with the names that are registered here as examples."""
    from drillyard.registry import names
    from drillyard.spec import bench
    from drillyard.spec.experiment import ExperimentSpec

    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "drillyard experiment",
        **ExperimentSpec.model_json_schema(by_alias=True),
    }
    schema["title"] = "drillyard experiment"
    known = schema["$defs"]
    known["LearnerSpec"]["properties"]["algorithm"]["examples"] = names("learners")
    known["SimulatorSpec"]["properties"]["id"]["examples"] = names("simulators")
    ours = known["StudySpec"]["properties"]["chooser"]["enum"]
    ours += [name for name in names("choosers") if name not in ours]
    properties = schema["properties"]
    properties["bench"] = bench.SCHEMA
    # Short forms, which the models turn into the long ones before they look.
    properties["seeds"] = _or({"const": "auto"}, properties["seeds"])
    for model, field in (("SimulatorSpec", "wrappers"), ("LearnerSpec", "callbacks")):
        items = known[model]["properties"][field]
        items["items"] = _or({"type": "string"}, items["items"])
    for model, field in STEP_COUNTS:
        fields = known[model]["properties"]
        fields[field] = _or({"type": "string", "pattern": STEPS_PATTERN}, fields[field])
    of_train = known["TrainSpec"]["properties"]
    of_train["n_envs"] = _or({"type": "object", "required": ["tune"]}, of_train["n_envs"])
    known_backends: JsonObject = {"type": "string", "examples": [*names("backends")]}
    several: JsonObject = {
        "type": "array",
        "items": known_backends,
        "minItems": 1,
        "uniqueItems": True,
    }
    for where in (properties, known["ChildSpec"]["properties"]):
        where["backend"] = _or(several, {**where["backend"], **known_backends})
    properties["workload"]["examples"] = names("workloads")
    properties["baselines"]["items"]["examples"] = names("baselines")
    return schema


def _or(short: JsonObject, long: JsonObject) -> JsonObject:
    """A schema that takes a short form too; what describes the field stays outside."""
    about: JsonObject = {k: long[k] for k in ("description", "default", "title") if k in long}
    rest = {k: v for k, v in long.items() if k not in about}
    return {**about, "anyOf": [short, rest]}
