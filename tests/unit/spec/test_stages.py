"""Stages in an experiment file: what is refused, and that older composites stay the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard.errors import ConfigError
from drillyard.runs.identity import identity, parts
from drillyard.runs.stages import stages_of
from drillyard.spec.load import Loaded, load, load_resolved
from drillyard.spec.stages import is_staged, order
from tests.helpers.refusals import refusals

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
HEAD = "schema: 1\nname: whole\nworkload: composite\nbackends: {}\n"


def loaded(tmp_path: Path, children: str, more: str = "") -> Loaded:
    file = tmp_path / "it.yaml"
    file.write_text(f"{HEAD}{more}children:\n{children}")
    return load(file)


def test_every_mistake_is_told_at_once_with_its_line_and_a_fix(tmp_path):
    errors = refusals(
        loaded,
        tmp_path,
        "  - {name: a, workload: mock, after: [b]}\n"
        "  - {name: b, workload: mock, after: [c]}\n"
        "  - {name: c, workload: mock, after: [a]}\n"
        "  - {name: d, workload: mock, after: [nobody], seeds: []}\n"
        "  - {name: e, workload: mock, after: [], inputs: {x: a.speed, y: ghost.out}}\n"
        "  - {name: f, workload: mock, backend: moon}\n"
        "  - {name: g, workload: mock, outputs: {data: data.csv}}\n",
    )
    told = {str(error.field): (error.line, error.message) for error in errors}
    assert told["children[0].after"] == (6, "waits for itself: a -> b -> c -> a")
    assert told["children[3].after[0]"] == (9, "there is no child 'nobody'")
    assert told["children[3].seeds"] == (9, "is empty")
    assert told["children[4].after"] == (10, "is empty")
    assert told["children[4].inputs.x"] == (10, "'a' has no output 'speed'")
    assert told["children[4].inputs.y"] == (10, "there is no child 'ghost'")
    assert told["children[5].backend"][0] == 11
    assert told["children[6].outputs.data"][0] == 12
    assert len(told) == 8 and all(e.hint and e.file == "it.yaml" for e in errors)


@pytest.mark.parametrize(
    ("children", "field", "message"),
    [
        ("  - {name: a, workload: mock, after: [a]}\n", "children[0].after", "a -> a"),
        (
            "  - {name: a, workload: script, script: {run: [x]}, outputs: {o: ../o}}\n",
            "children[0].outputs.o",
            "inside the working folder",
        ),
        (
            "  - {name: a, workload: mock, seeds: [1, 2], outputs: {s: {metric: score}}}\n"
            "  - {name: b, workload: mock, seeds: [3], inputs: {s: a.s}}\n",
            "children[1].inputs.s",
            "no run of seed 3",
        ),
        (
            "  - {name: a, workload: service, service: {start: x}, seeds: [1]}\n",
            "children[0].seeds",
            "runs once",
        ),
        (
            "  - {name: a, workload: service, service: {start: x}, outputs: {o: o.txt}}\n",
            "children[0].outputs",
            "has the outputs",
        ),
        (
            "  - name: a\n    workload: composite\n"
            "    children: [{name: b, workload: mock, backend: local}]\n",
            "children[0].children[0].backend",
            "not for children of a child",
        ),
        (
            "  - {name: a, workload: mock, workers: 2, resources: {workers: 3}}\n",
            "children[0].workers",
            "resources.workers is 3",
        ),
        (
            f"  - {{name: {'a' * 40}, workload: mock, seeds: [1]}}\n".replace("whole", "w" * 40),
            "",
            "",
        ),
        (
            "  - {name: a, workload: service, service: {start: x, "
            "ready: {http: health}}, after: [b]}\n  - {name: b, workload: mock}\n",
            "children[0].service.ready.http",
            "is not a path",
        ),
        (
            "  - {name: a, workload: mock, outputs: {s: {metric: score}}}\n"
            "  - name: b\n    workload: mock\n    inputs: {x: a.s}\n"
            "    parameters: {tunables: {g: {params: {x: {type: int, range: [1, 5], default: 2}}}}"
            ", tunable_params: [g]}\n",
            "children[1].inputs.x",
            "also a parameter of this child",
        ),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, children, field, message):
    if not field:
        (tmp_path / "it.yaml").write_text(
            f"{HEAD}children:\n{children}".replace("whole", "w" * 40)
        )
        with pytest.raises(ConfigError, match="81 characters"):
            load(tmp_path / "it.yaml")
        return
    (error,) = refusals(loaded, tmp_path, children)
    assert error.field == field and message in error.message and error.hint


def test_an_input_can_have_the_name_of_a_group(tmp_path):
    there = loaded(
        tmp_path,
        "  - {name: a, workload: mock, outputs: {s: {metric: score}}}\n"
        "  - name: b\n    workload: mock\n    inputs: {g: a.s}\n"
        "    parameters: {tunables: {g: {params: {x: {type: int, range: [1, 5], default: 2}}}}"
        ", tunable_params: [g]}\n",
    )
    assert there.spec.children[1].inputs == {"g": "a.s"}


def test_a_study_and_a_service_alone_are_refused(tmp_path):
    study = "study: {chooser: random, trials: 3}\n"
    children = "  - {name: a, workload: mock, seeds: [1]}\n"
    assert "study" in [e.field for e in refusals(loaded, tmp_path, children, study)]
    (tmp_path / "alone.yaml").write_text("name: x\nworkload: service\nservice: {start: x}\n")
    with pytest.raises(ConfigError, match="child of a composite"):
        load(tmp_path / "alone.yaml")


def test_a_stage_is_an_experiment_of_its_own(tmp_path):
    found = loaded(
        tmp_path,
        "  - name: make\n    workload: script\n    seeds: [4, 5]\n    workers: 7\n"
        "    parameters: {const_args: {size: 10}, required_args: [seed]}\n"
        "    script: {run: ['make.py $size $seed']}\n    outputs: {data: out}\n"
        "  - name: use\n    workload: script\n    resources: {threads: 3}\n"
        "    inputs: {data: make.data}\n    script: {run: ['use.py $data']}\n",
        "seeds: [4]\nparameters: {const_args: {size: 20}}\nbudget: {max_cost: 12}\n",
    )
    assert is_staged(found.spec) and order(found.spec.children) == ["make", "use"]
    make, use = stages_of(found).values()
    assert (make.spec.name, make.spec.seeds, make.spec.resources.workers) == (
        "whole.make",
        [4, 5],
        7,
    )
    assert make.spec.parameters.const_args["size"] == 20, "the parent's value wins"
    assert make.spec.script is not None and make.spec.script.keep == ["out", "out/*"]
    assert (use.spec.seeds, use.spec.resources.threads) == ([4], 3)
    assert use.spec.script is not None and use.spec.script.run == ["use.py ${data}"]
    for stage in (make, use):  # as `resume` reads it
        tree = stage.spec.model_dump(mode="json", by_alias=True)
        assert load_resolved(tree, folder=tmp_path).spec == stage.spec


def test_the_cost_limit_is_shared_by_the_stages_that_rent(tmp_path):
    found = loaded(
        tmp_path,
        "  - {name: a, workload: mock, backend: gcp}\n"
        "  - {name: b, workload: mock, backend: gcp}\n"
        "  - {name: c, workload: mock, backend: local}\n",
        "budget: {max_cost: 12, max_hours: 1}\n",
    )
    costs = [stage.spec.budget.max_cost for stage in stages_of(found).values()]
    assert costs[:2] == [6.0, 6.0]


def test_a_stage_has_the_places_of_its_child_or_those_of_the_composite(tmp_path):
    found = loaded(
        tmp_path,
        "  - {name: a, workload: mock, backend: [dask, local]}\n"
        "  - {name: b, workload: mock, backend: gcp/one}\n"
        "  - {name: c, workload: mock}\n",
        "backend: [ssh, azure]\nbudget: {max_cost: 12, max_hours: 1}\n",
    )
    stages = {name: stage.spec for name, stage in stages_of(found).items()}
    assert [s.places for s in stages.values()] == [
        ("dask", "local"),
        ("gcp/one",),
        ("ssh", "azure"),
    ]
    # Two stages may cost money; the third is free in every place.
    assert [s.budget.max_cost for s in stages.values()][1:] == [6.0, 6.0]
    again = type(found.spec).model_validate(found.spec.model_dump(mode="json", by_alias=True))
    assert again.children[0].places == ("dask", "local")


@pytest.mark.parametrize(
    ("backend", "field", "message"),
    [
        ("[]", "children[0].backend", "is empty"),
        ("[local, local]", "children[0].backend[1]", "twice"),
        ("[local, 7]", "children[0].backend[1]", "not the name"),
        ("[local, mars]", "children[0].backend[1]", "unknown backend"),
        ("[mars]", "children[0].backend", "unknown backend"),
        ("[local], elsewhere: [dask]", "children[0].elsewhere", "as well"),
    ],
)
def test_a_wrong_list_of_backends_of_a_child_is_refused_with_its_line(
    tmp_path, backend, field, message
):
    (error,) = refusals(loaded, tmp_path, f"  - {{name: a, workload: mock, backend: {backend}}}\n")
    assert (error.field, error.line, error.file) == (field, 6, "it.yaml")
    assert message in error.message and error.hint and error.allowed


def test_other_backends_of_a_child_without_a_first_one_are_refused(tmp_path):
    (error,) = refusals(loaded, tmp_path, "  - {name: a, workload: mock, elsewhere: [dask]}\n")
    assert error.field == "children[0].elsewhere" and "backend: [dask]" in str(error.hint)


def test_machines_and_seeds_of_stages_change_no_identity(tmp_path):
    child = "  - {name: a, workload: mock%s, outputs: {s: {metric: score}}}\n"
    one = loaded(tmp_path, child % "")
    other = loaded(tmp_path, child % ", backend: dask, seeds: [7], workers: 3")
    several = loaded(tmp_path, child % ", backend: [dask, local]")
    assert identity(parts(one.spec, None)) == identity(parts(other.spec, None))
    assert identity(parts(one.spec, None)) == identity(parts(several.spec, None))


def test_older_composites_keep_their_meaning_and_their_identity(tmp_path):
    found = load(EXPERIMENTS / "composite.yaml")
    assert not is_staged(found.spec)
    assert identity(parts(found.spec, None)) == (
        "3ece358ce59ce8613d58283e7f21c952563615f45254e8d2ae795f17c6d13f72"
    )
    # A child's file may be an experiment file: its seeds and backend are the composite's.
    text = "name: part\nworkload: mock\nseeds: [9]\nbackend: dask\nresources: {threads: 2}\n"
    (tmp_path / "part.yaml").write_text(text)
    whole = loaded(tmp_path, "  - part.yaml\n")
    assert not is_staged(whole.spec) and whole.spec.seeds == [1]
