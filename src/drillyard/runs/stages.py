"""The stages of a composite as experiments of their own."""

from __future__ import annotations

from dataclasses import replace

from drillyard.backend import is_paid
from drillyard.documents.document import KeyPath
from drillyard.documents.json_types import Json, JsonObject
from drillyard.mailbox import Mailbox
from drillyard.spec import ExperimentSpec
from drillyard.spec.binding import child_parameters, run_parameters
from drillyard.spec.experiment import ChildSpec, Parts
from drillyard.spec.load import Loaded
from drillyard.spec.precedence import Place
from drillyard.spec.references import PER_RUN
from drillyard.spec.running import ParametersSpec, PerRun, ResourcesSpec
from drillyard.spec.stages import StageSpec, seeds_of, stage_name, staged_tree, upstream

_OF_THE_WHOLE = ("study", "run_name", "notify", "stage_of")
"""Fields of a composite that its stages do not have."""


def stages_of(loaded: Loaded) -> dict[str, Loaded]:
    """The stages of an experiment, by the name of the child, in the order of the file.

    ``budget.max_cost`` is divided equally among the stages on backends that cost money, so that
    all of them together stay below it.

    Args:
        loaded: An experiment for which ``is_staged`` holds.

    Returns:
        Each stage as an experiment that was loaded from the same file: errors name its lines.
    """
    spec = loaded.spec
    paid = sum(is_paid(*places_of(spec, child)) for child in spec.children)
    stages = {}
    for number, child in enumerate(spec.children):
        places: dict[KeyPath, Place] = dict(loaded.places)
        for path, place in loaded.places.items():
            if path[:2] == ("children", number) and len(path) > 2:
                places[path[2:]] = place
        before = f"children[{number}]."
        provenance = {
            **{k: v for k, v in loaded.provenance.items() if not k.startswith("children[")},
            **{
                k.removeprefix(before): v
                for k, v in loaded.provenance.items()
                if k.startswith(before)
            },
        }
        stages[child.name] = replace(
            loaded,
            spec=stage_spec(spec, number, paid),
            places=places,
            provenance=provenance,
            findings=[],
        )
    return stages


def places_of(spec: ExperimentSpec, child: ChildSpec) -> tuple[str, ...]:
    """The backends of a stage: its own, or those of the composite."""
    return child.places or spec.places


def stage_spec(spec: ExperimentSpec, number: int, paid: int = 1) -> ExperimentSpec:
    """One stage as an experiment.

    Args:
        spec: The composite.
        number: Number of the child, from 0.
        paid: Number of stages among which the limit of cost is divided.
    """
    child = spec.children[number]
    first, *others = places_of(spec, child)
    whole = {
        name: getattr(spec, name)
        for name in ExperimentSpec.model_fields
        if name not in Parts.model_fields and name not in _OF_THE_WHOLE
    }
    parts = {name: getattr(child, name) for name in Parts.model_fields}
    budget = spec.budget
    if budget.max_cost is not None and paid > 1:
        budget = budget.model_copy(update={"max_cost": budget.max_cost / paid})
    return ExperimentSpec.model_validate(
        {
            **whole,
            **parts,
            "name": stage_name(spec, child),
            "backend": first,
            "elsewhere": others,
            "seeds": seeds_of(spec, child),
            "resources": _resources(spec, child),
            "budget": budget,
            "parameters": _parameters(spec, number),
            "script": _keeping(child),
            "stage_of": StageSpec(
                of=spec.name,
                name=child.name,
                inputs=[*(child.inputs or {})],
                users=[n for n, above in upstream(spec.children).items() if child.name in above],
            ),
        }
    )


def _resources(spec: ExperimentSpec, child: ChildSpec) -> ResourcesSpec:
    asked = child.resources if child.resources is not None else spec.resources
    if child.workload == "service":
        return asked.model_copy(update={"workers": 1})
    return asked if child.workers is None else asked.model_copy(update={"workers": child.workers})


def _parameters(spec: ExperimentSpec, number: int) -> ParametersSpec:
    """What the child declares, with its parent's values; inputs stand for themselves."""
    child = spec.children[number]
    parameters = child.parameters
    first = run_parameters(spec, run=f"t0001-s{spec.seeds[0]}", seed=spec.seeds[0])
    values = child_parameters({**first, **_references(child)}, child)
    tunables = {name for group in parameters.tunables.values() for name in group.params}
    declared = dict.fromkeys((*parameters.const_args, *parameters.required_args))
    constants: JsonObject = {
        name: values[name]
        for name in declared
        if name in values and name not in tunables and name not in PER_RUN
    }
    late = [
        PerRun(at=[*assignment.at[2:]], text=assignment.text)
        for assignment in spec.parameters.per_run or ()
        if assignment.at[:2] == ["children", number]
    ]
    return parameters.model_copy(
        update={
            "const_args": {**constants, **_references(child)},
            "required_args": [name for name in parameters.required_args if name in PER_RUN],
            "tunable_values": {
                k: v for k, v in spec.parameters.tunable_values.items() if k in tunables
            }
            | parameters.tunable_values,
            "per_run": late or None,
        }
    )


def _references(child: ChildSpec) -> dict[str, Json]:
    return {name: f"${{{name}}}" for name in child.inputs or {}}


def _keeping(child: ChildSpec) -> object:
    """The script of a child, which also keeps the files that others take from it."""
    if child.script is None:
        return None
    files = [given for given in (child.outputs or {}).values() if isinstance(given, str)]
    more = [glob for path in files for glob in (path, f"{path.rstrip('/')}/*")]
    keep = [*child.script.keep, *(glob for glob in more if glob not in child.script.keep)]
    return child.script.model_copy(update={"keep": keep})


def stage_mailboxes(mailbox: Mailbox) -> dict[str, Mailbox]:
    """The mailboxes of the stages of an experiment by child; empty if it has none.

    Args:
        mailbox: The composite.
    """
    spec = mailbox.experiment_record().spec
    if not staged_tree(spec):
        return {}
    children = spec["children"]
    assert isinstance(children, list)
    names = [str(child["name"]) for child in children if isinstance(child, dict)]
    return {name: Mailbox(mailbox.store, f"{mailbox.experiment}.{name}") for name in names}
