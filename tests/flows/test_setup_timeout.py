"""Machines that never come are waited for equally long, whatever drives the experiment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers import rules
from tests.helpers.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
PROGRAM = '''
"""Runs an experiment whose machines never say a word, by a clock that runs 600 times as fast."""
import sys, time
import tests.helpers.paid_backend  # registers itself: its machines are entries in a dict
from drillyard.system.clock import SystemClock

FAST = 600.0
SystemClock.monotonic = lambda self: time.monotonic() * FAST
SystemClock.wait = lambda self, event, timeout_s: event.wait(max(0.0, timeout_s) / FAST)
way, file, store = sys.argv[1:]
if way == "command":
    from drillyard.cli.main import main
    sys.exit(main(["run", file, "--name", way, "--store", store]))
try:
    if way == "flow":
        from drillyard_flows.experiment import experiment
        experiment(file=file, name=way, store=store)
    else:
        import drillyard
        drillyard.run(drillyard.load(file, name=way), store=store, flow=False, report=False)
except Exception as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(4)
'''
SPEC = {
    "schema": 1,
    "workload": "mock",
    "backend": "paid",
    "seeds": [1],
    "budget": {"max_hours": 1, "max_cost": 100},
    "tracking": {"mlflow": None},
}
WAYS = ("command", "flow", "python")
SAID = re.compile(r"had no ready worker after (\d+) s")


@pytest.fixture
def waited_s(api, tmp_path):
    """Way -> seconds after which it gave its machines up, by its own words."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "silent.json").write_text(json.dumps(SPEC))
    env = {
        **os.environ,
        "PREFECT_API_URL": api.url,
        "PYTHONPATH": rules.path(ROOT),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "DRILLYARD_HOME": str(tmp_path / "home"),
    }
    found: dict[str, int] = {}
    with ExitStack() as stack:
        started = {
            way: subprocess.Popen(
                [sys.executable, "program.py", way, "silent.json", str(tmp_path / "store")],
                cwd=tmp_path,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for way in WAYS
        }
        for child in started.values():
            stack.callback(child.wait)
            stack.callback(child.kill)
        for way, child in started.items():
            output, _ = child.communicate(timeout=PATIENCE_S)
            said = SAID.findall(output)
            if not said or child.returncode != 4:
                pytest.fail(f"{way} ended with {child.returncode}:\n{output}")
            found[way] = int(said[-1])
        yield found


def test_every_way_waits_equally_long_for_machines(waited_s):
    # A moment of the machine's time is a minute here.
    assert max(waited_s.values()) - min(waited_s.values()) < 300, waited_s
