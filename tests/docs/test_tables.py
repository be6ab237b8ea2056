"""Tables of pages agree with the code and with what their scripts print."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from drillyard.learners.algorithms import CLASSES
from drillyard.learners.rllib.arguments import ARGUMENTS as RLLIB
from drillyard.learners.rllib.network import Network
from drillyard.registry import load, names
from drillyard.spec.algorithms.networks import own_policies
from drillyard.spec.algorithms.signatures import ACTION_SPACES, FROM_EPISODES, ON_POLICY
from tests.benchmarks import scale
from tests.helpers.resume_cases import CASES

# -- The table of docs/how-to/learners.md agrees with the code and the trainings that are killed


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "learners.md"
SEEN = {"MlpPolicy": "flat", "CnnPolicy": "images", "MultiInputPolicy": "mappings"}
LIBRARIES = {"stable_baselines3": "Stable-Baselines3", "sb3_contrib": "sb3-contrib"}


def row(name):
    kind = load("learners", name)
    what = kind.__doc__.strip().split("\n")[0].rstrip(".").split("; ")[0]
    if name in RLLIB:
        return (
            f"| `{name}` | {what} | RLlib | rollouts of workers | Box, Discrete | flat | "
            f"{kind.resume} | {exported(Network)} |"
        )
    library = next(
        LIBRARIES[m]
        for k in CLASSES[name].__mro__
        if (m := k.__module__.split(".")[0]) in LIBRARIES
    )
    source = (
        "rollouts"
        if name in ON_POLICY
        else ("whole episodes" if name in FROM_EPISODES else "a replay buffer")
    )
    seen = ", ".join(SEEN[p] for p in own_policies(name))
    actions = ", ".join(ACTION_SPACES[name])
    onnx = exported(*CLASSES[name].policy_aliases.values())
    return (
        f"| `{name}` | {what} | {library} | {source} | {actions} | {seen} | {kind.resume} "
        f"| {onnx} |"
    )


def exported(*kinds):
    """What ``export`` asks first.

    Each that is called yes is exported by tests/unit/policies/test_export.py.
    """
    return "yes" if all(issubclass(kind, torch.nn.Module) for kind in kinds) else "no"


def test_the_table_is_that_of_the_code():
    rows = [row(name) for name in names("learners")]
    found = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert found == rows, "docs/how-to/learners.md should have:\n" + "\n".join(rows)


def test_what_is_called_exact_is_killed_and_compared():
    killed = {c["learner"]["algorithm"] for n, c in CASES.items() if not n.startswith("reset")}
    assert killed == {n for n in names("learners") if load("learners", n).resume == "exact"}


# -- The page about scale shows what its script prints, and its sentences follow from that ----


SCALE_PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "scale.md"
SLOW, SMALL, IMAGES, FAST = scale.CASES


def test_the_page_shows_what_the_script_prints():
    (shown,) = re.findall(r"```text\n(.*?)```", SCALE_PAGE.read_text(), re.S)
    assert shown.splitlines() == scale.lines()


def test_what_the_page_says_follows_from_the_model():
    text = " ".join(SCALE_PAGE.read_text().split())
    for case, hosts in ((SLOW, 160), (SMALL, 31), (IMAGES, 27)):
        assert scale.learner_limit(case) == hosts
        assert scale.step(case, hosts).limit == "learner"
        assert scale.step(case, hosts - 1).limit != "learner"
    assert "From 160 hosts on" in text and "from 31 to 27 hosts" in text
    hundred = scale.step(SLOW, 100)
    assert f"{hundred.copies / hundred.whole / scale.here(SLOW):.0f} times the steps" in text
    many = scale.step(FAST, 200)
    assert many.copies / many.whole < scale.here(FAST)


def test_more_hosts_never_do_less_and_a_faster_learner_moves_the_limit():
    for case in scale.CASES:
        rates = [(one := scale.step(case, hosts)).copies / one.whole for hosts in scale.HOSTS]
        assert rates == sorted(rates)
    assert scale.learner_limit(replace(SMALL, learn_s=15e-6)) > scale.learner_limit(SMALL)


@pytest.mark.heavy
def test_the_constants_can_be_measured():
    host_s, byte_s = scale.measure(rounds=40)
    assert math.isfinite(host_s) and math.isfinite(byte_s)
