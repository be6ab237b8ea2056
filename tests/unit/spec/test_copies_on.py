"""``simulator.copies_on``: what is refused, and what it does not change."""

import pytest

from drillyard.learners.plan import freeze
from drillyard.runs import identity
from drillyard.runs.parallelism import hosts, workers
from drillyard.spec import training_rules
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.semantics import problems_of
from tests.helpers.specs import small


def spec(simulator=None, train=None, **more):
    train = {"steps": 1000, "n_envs": 16, **(train or {})}
    return small(simulator, name="many", train=train, **more)


ON = {"copies_on": "workers"}


@pytest.mark.parametrize(
    ("given", "field", "words", "fix"),
    [
        ({}, "simulator.copies_on", "need other workers", "resources.workers: 9"),
        ({"resources": {"workers": 1}}, "resources.workers", "need other", "delete copies_on"),
        ({"resources": {"workers": 18}}, "resources.workers", "one for each of", "resources.w"),
        ({"train": {"copies": "vectorised"}}, "train.copies", "over arrays", "delete it"),
    ],
)
def test_what_cannot_work_is_refused_with_a_fix(given, field, words, fix):
    given = {"resources": {"workers": 3}, **given} if "resources" not in given and given else given
    (problem,) = problems_of(spec(ON, **given))
    assert problem.field == field and words in f"{problem} {problem.allowed}"
    assert fix in problem.hint


@pytest.mark.parametrize("backend", ["local", "dask", "ssh", "gcp", "azure"])
def test_every_backend_of_ours_hosts_copies(backend):
    assert not list(problems_of(spec(ON, resources={"workers": 3}, backend=backend)))


def test_a_backend_without_hosts_is_refused(monkeypatch):
    kinds = {"backends": ["gcp", "local", "other"], "hosts": ["gcp", "joined", "local"]}
    monkeypatch.setattr(training_rules, "names", lambda group: kinds[group])
    (problem,) = training_rules._hosts(spec(ON, resources={"workers": 3}, backend="other"))
    assert "other cannot host copies" in str(problem) and "another" in problem.hint
    assert problem.allowed == "with the backends gcp, local"


def test_a_part_of_a_composite_is_refused():
    child = {"name": "one", **spec(ON).model_dump(include={"simulator", "learner", "train"})}
    whole = {"name": "all", "workload": "composite", "children": [child]}
    (problem,) = problems_of(ExperimentSpec.model_validate(whole))
    assert problem.field == "children[0].simulator.copies_on"


def test_hosts_that_others_start_join_on_this_machine_only():
    assert not list(problems_of(spec({"copies_on": "hosts"})))
    (problem,) = problems_of(spec({"copies_on": "hosts"}, backend="dask"))
    assert "join a learner on this machine" in str(problem)


def test_several_places_are_refused_with_the_first_as_it_was_written():
    two = spec(ON, resources={"workers": 3}, backend=["ssh/den", "gcp/prod"])
    (problem,) = problems_of(two)
    assert "need one backend" in str(problem) and "write backend: ssh/den" in problem.hint


def test_the_place_of_the_copies_is_not_part_of_the_identity():
    here, there = spec(train={"copies": "one-by-one"}), spec(ON, {"copies": "one-by-one"})
    parts = identity.parts(here, None)
    assert "copies_on" not in parts["training"]["simulator"]
    assert identity.identity(parts) == identity.identity(identity.parts(there, None))
    assert "copies_on" not in here.model_dump(mode="json")["simulator"]


def test_one_training_at_a_time_has_all_hosts():
    many = spec(ON, resources={"workers": 9}, seeds=[1, 2, 3])
    assert (hosts(many), workers(many)) == (8, 1)
    assert (hosts(spec(resources={"workers": 9})), workers(spec(resources={"workers": 9}))) == (
        0,
        9,
    )


def test_copies_of_their_own_have_numbers_of_their_own():
    assert freeze(spec(), 1)["vectorised"]
    assert "vectorised" not in freeze(spec(ON), 1)
