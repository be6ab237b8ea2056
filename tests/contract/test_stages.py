"""Stages by the command line: the driver is killed in the middle, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from drillyard.mailbox.stage_records import Serving, serving_key
from drillyard.system.processes import marked
from tests.conftest import BIN
from tests.helpers.patience import until
from tests.helpers.processes import free_port, run_process

FILE = """
schema: 1
name: whole
workload: composite
tracking: {mlflow: null}
children:
  - name: make
    workload: script
    script: {run: [[python, -c, "open('data.txt', 'w').write('7'); print('n=7')"]],
             results: {stdout: '^(\\w+)=(\\d+)$'}}
    outputs: {data: data.txt, n: {metric: n}}
  - name: app
    workload: service
    service: {start: [python, -m, http.server, "PORT", --bind, 127.0.0.1], port: PORT}
  - name: use
    workload: script
    inputs: {url: app.url, data: make.data, n: make.n}
    script: {run: [use.py $url $data $n], results: {stdout: '^(\\w+)=([.\\d]+)$'}}
"""
USE = """
import os, sys, time, urllib.request
from pathlib import Path
url, data, n = sys.argv[1:]
while not Path(os.environ["GATE"]).exists():
    time.sleep(0.05)
urllib.request.urlopen(url).close()
print(f"sum={float(Path(data).read_text()) + float(n)}")
"""


@pytest.mark.heavy
def test_a_driver_killed_in_the_middle_of_the_stages_repeats_nothing(tmp_path):
    (tmp_path / "use.py").write_text(USE)
    (tmp_path / "it.yaml").write_text(FILE.replace("PORT", str(free_port())))
    gate = tmp_path.parent / f"{tmp_path.name}-gate"
    words = [str(BIN / "drillyard"), "run", "it.yaml", "--no-prefect", "--json"]
    environ = {**os.environ, "GATE": str(gate), "DRILLYARD_HOME": str(tmp_path.parent / "home")}
    store = open_store(str(tmp_path / "drillyard-runs"))
    boxes = {name: Mailbox(store, f"whole.{name}") for name in ("make", "app", "use")}
    first = subprocess.Popen(
        words, cwd=tmp_path, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    claimed = until(
        lambda: boxes["use"].read_claim("t0001-s1.train", 1) or first.poll(), what="a claim"
    )
    assert not isinstance(claimed, int), first.communicate()
    served = boxes["app"].read(serving_key("t0001-s1"), Serving)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    gate.touch()
    done = run_process(words, cwd=tmp_path, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = {stage["name"]: stage for stage in json.loads(done.stdout)["stages"]}
    assert {name: s["status"] for name, s in shown.items()} == dict.fromkeys(boxes, "succeeded")
    assert shown["make"]["message"] == "finished before"
    assert boxes["app"].read(serving_key("t0001-s1"), Serving) == served, "it served on"
    accepted = boxes["use"].accepted("t0001-s1", Phase.EVALUATE)
    assert accepted is not None and accepted.summary["metrics"] == {"sum": 14.0}
    for name, box in boxes.items():
        entries = Ledger(box).entries()
        assert len(entries) == 1 and not entries[0].open, f"{name}: one lease, gone"
        assert box.read_claim("t0001-s1.train", 2) is None, f"{name}: one attempt"
        assert not list(marked(entries[0].lease.lease_id, "DRILLYARD_LEASE"))
