"""Which test reaches which line."""

import pytest

from tests.mutants import reach

TESTS = """
import sys
from drillyard.statistics import shares

def test_with_a_debugger():
    sys.settrace(None)

def test_after_it():
    shares.shares_above([[1.0]], [[0.5]])
"""


@pytest.mark.heavy
def test_a_test_that_ends_the_tracing_hides_no_test_after_it(tmp_path, monkeypatch):
    (tmp_path / "test_two.py").write_text(TESTS)
    monkeypatch.setitem(reach.LAYERS, "quick", [str(tmp_path)])
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # of this test
    measured = reach.reach(tmp_path, "quick", 1)
    assert len(measured.seconds) == 2
    lines = measured.files["src/drillyard/statistics/shares.py"].values()
    assert any("test_after_it" in test for tests in lines for test in tests)
