"""The page about scale shows what its script prints, and its sentences follow from that."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks import scale

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "scale.md"
SLOW, SMALL, IMAGES, FAST = scale.CASES


def test_the_page_shows_what_the_script_prints():
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.S)
    assert shown.splitlines() == scale.lines()


def test_what_the_page_says_follows_from_the_model():
    text = " ".join(PAGE.read_text().split())
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
