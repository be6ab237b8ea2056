"""``resources.runs_per_process``: what it needs, and what it changes."""

import pytest

from drillyard.errors import DrillyardError
from drillyard.learners.barriers import Marks
from drillyard.learners.exactness import changed, note_platform
from drillyard.leases.orders import order_of
from drillyard.runs.identity import identity, parts
from drillyard.runs.parallelism import workers
from drillyard.spec import ExperimentSpec
from drillyard.spec.load import load

FILE = """
name: it
simulator: {{id: CartPole-v1}}
learner: {{algorithm: ppo, engine: jax, preset: null}}
train: {{steps: 16384{copies}}}
seeds: [1, 2, 3, 4, 5]
resources: {{runs_per_process: {number}}}
"""


def spec_of(tmp_path, number, copies=", copies: compiled") -> ExperimentSpec:
    file = tmp_path / "it.yaml"
    file.write_text(FILE.format(number=number, copies=copies))
    return load(file).spec


def identity_of(spec: ExperimentSpec) -> str:
    return identity(parts(spec, None))


def test_it_needs_trainings_that_are_one_program(tmp_path):
    with pytest.raises(DrillyardError, match="one compiled program") as caught:
        spec_of(tmp_path, 2, copies="")
    assert caught.value.field == "resources.runs_per_process"
    assert "copies: compiled" in caught.value.hint
    assert spec_of(tmp_path, 1, copies="").resources.runs_per_process == 1


def test_the_fix_for_a_word_is_a_number_that_is_allowed(tmp_path):
    with pytest.raises(DrillyardError, match="expected a whole number") as caught:
        spec_of(tmp_path, "abc")
    assert caught.value.hint == "write a number without quotes, for example 256"


def test_its_numbers_are_those_of_another_experiment(tmp_path):
    none = spec_of(tmp_path, "null")
    for number in (1, 2, 3):
        same = identity_of(spec_of(tmp_path, number)) == identity_of(none)
        assert same == (number == 1)


def test_as_many_processes_as_the_runs_need_are_ordered(tmp_path):
    for number, processes in ((1, 2), (2, 2), (4, 2), (5, 1)):
        spec = spec_of(tmp_path, number)
        order = order_of(spec, lease="dy-1", store_url="memory://x", runs=5, settings={})
        assert (order.together, order.workers) == (number, processes)
        assert ("together" in order.model_dump()) == (number > 1)
    rented = spec.model_copy(update={"backend": "gcp"})
    assert workers(rented) == 1
    four = rented.resources.model_copy(update={"runs_per_process": 4})
    assert workers(rented.model_copy(update={"resources": four})) == 2


def test_a_checkpoint_of_another_number_is_named():
    marks = Marks()
    note_platform(marks, {"runs_per_process": 1}, {"runs_per_process": 4})
    assert changed(marks) == "runs_per_process changed"
