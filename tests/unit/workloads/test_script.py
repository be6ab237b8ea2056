"""The workload `script`: real commands in this process's reach, and what they leave."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from drillyard.errors import (
    ConfigError,
    ProcessKilled,
    RunFailed,
    Stopped,
    TimedOut,
)
from drillyard.mailbox.records import Phase
from drillyard.mailbox.retries import RETRIES
from drillyard.mailbox.status import Cause
from drillyard.runs.workload import StopSignal
from drillyard.system.clock import SYSTEM
from drillyard.system.operating_system import oom_kills
from drillyard.system.processes import marked
from drillyard.worker.endings import cause_of, of_error
from drillyard.workloads.commands import RUN_MARK
from drillyard.workloads.script import run_mark
from tests.helpers.patience import until
from tests.helpers.workload_bench import PATTERN, Bench, say, script

PY = sys.executable


def left(bench: Bench) -> list[Any]:
    """Living processes of scripts of this test; other tests have theirs."""
    return list(marked(run_mark(bench.context(Phase.TRAIN)), RUN_MARK))


@pytest.mark.heavy
@pytest.mark.parametrize("shell", [False, True])
@pytest.mark.parametrize("starved", [False, True])
def test_a_line_that_was_killed_is_tried_again(tmp_path, monkeypatch, shell, starved):
    """The program did not fail: the system, a person or a job scheduler ended it."""
    kill = "sh -c 'kill -KILL $$'; exit $?" if shell else ["sh", "-c", "kill -KILL $$"]
    bench = Bench(tmp_path, script([kill], shell=shell, results={"stdout": PATTERN}))
    after = oom_kills() + starved
    monkeypatch.setattr("drillyard.system.kills.oom_kills", lambda: after)
    with pytest.raises(ProcessKilled) as caught:
        bench.train()
    cause = Cause.OUT_OF_MEMORY if starved else Cause.INFRASTRUCTURE
    assert cause_of(caught.value) is cause
    assert RETRIES[cause] > 0


# -- parameters --------------------------------------------------------------------------------


SHOW = "import json, os; json.dump(dict(os.environ), open('env.json', 'w'))"


def parameters(**values: Any) -> dict[str, Any]:
    return {"parameters": {"const_args": values}}


def environment(bench: Bench) -> dict[str, str]:
    bench.train()
    return json.loads((bench.work / "env.json").read_text())


@pytest.mark.heavy
def test_parameters_are_variables_and_a_file(tmp_path):
    values = {"lr": 0.001, "on": True, "text": 'a "b" $(c) ; d', "sizes": [1, 2]}
    tree = script(
        [[PY, "-c", SHOW]],
        environment={"rename": {"lr": "LEARNING_RATE"}},
        parameters_file="in/p.json",
    ) | parameters(**values)
    bench = Bench(tmp_path, tree)
    seen = environment(bench)
    assert seen["LEARNING_RATE"] == "0.001" and "lr" not in seen
    assert (seen["on"], seen["text"], seen["sizes"]) == ("true", values["text"], "[1, 2]")
    assert (seen["experiment_id"], seen["trial_id"]) == ("bench", "1")
    assert seen["DRILLYARD_RUN"] == "t0001-s1" and seen["DRILLYARD_SEED"] == "1"
    stored = json.loads(Path(seen["DRILLYARD_PARAMETERS"]).read_text())
    assert {k: stored[k] for k in values} == values


@pytest.mark.heavy
def test_chosen_parameters_only(tmp_path):
    tree = script([[PY, "-c", SHOW]], environment={"parameters": ["a"]}) | parameters(a=1, bb=2)
    seen = environment(Bench(tmp_path, tree))
    assert seen["a"] == "1" and "bb" not in seen and "trial_id" not in seen


@pytest.mark.parametrize(
    ("more", "values", "words"),
    [
        ({"parameters": ["lrr"]}, {"lr": 1}, "no parameter 'lrr'"),
        ({"rename": {"nothing": "X"}}, {"lr": 1}, "no parameter 'nothing'"),
        ({"rename": {"lr": "size"}}, {"lr": 1, "size": 2}, "both the variable size"),
        ({}, {"PATH": "x"}, "would replace the variable PATH"),
    ],
)
def test_variables_that_do_not_fit(tmp_path, more, values, words):
    bench = Bench(tmp_path, script([say("x")], environment=more) | parameters(**values))
    with pytest.raises(ConfigError, match=words):
        bench.workload.check(bench.spec, bench.code)


# -- commands ----------------------------------------------------------------------------------


@pytest.mark.heavy
def test_no_shell_sees_a_line(tmp_path):
    """Metacharacters are words like any other."""
    lines = [
        "printf '%s=1' a;touch spoilt",
        "echo $$(touch spoilt) | cat > spoilt && touch spoilt",
    ]
    bench = Bench(tmp_path, script(lines))
    bench.train()
    assert not (bench.work / "spoilt").exists()


@pytest.mark.heavy
def test_a_shell_where_it_is_asked_for(tmp_path):
    tree = script(
        ["for i in 1 2 3; do echo n=$i; done | tail -1"], shell=True, results={"stdout": PATTERN}
    )
    assert Bench(tmp_path, tree).metrics() == {"n": 3.0}


@pytest.mark.heavy
def test_python_files_run_with_our_interpreter_in_a_copy_of_the_folder(tmp_path):
    files = {
        "own.py": "import sys; open('who', 'w').write(sys.executable + sys.argv[1])",
        "go.sh": "#!/bin/sh\necho $0 > went\n",
    }
    bench = Bench(tmp_path, script(["own.py 'a b'", "./go.sh"]), files)
    bench.train()
    assert (bench.work / "who").read_text() == f"{PY}a b"
    assert (bench.work / "went").exists()
    assert sorted(p.name for p in bench.code.iterdir()) == ["go.sh", "own.py"]


@pytest.mark.heavy
def test_a_failed_line_ends_the_run_with_its_last_words(tmp_path):
    code = "import sys; print('out'); print('disk is full', file=sys.stderr); sys.exit(3)"
    bench = Bench(
        tmp_path, script([[PY, "-c", code], ["touch", "later"]], teardown=[["touch", "torn"]])
    )
    with pytest.raises(RunFailed, match="ended with code 3") as caught:
        bench.train()
    assert "disk is full" in str(caught.value)
    assert not (bench.work / "later").exists()
    assert (bench.work / "torn").exists(), "teardown follows in any case"


@pytest.mark.heavy
def test_going_on_after_a_failed_line_still_fails(tmp_path):
    bench = Bench(tmp_path, script([["false"], ["touch", "later"]], abort_on_error=False))
    with pytest.raises(RunFailed, match="ended with code 1"):
        bench.train()
    assert (bench.work / "later").exists()


@pytest.mark.heavy
def test_a_failed_setup_is_torn_down_and_nothing_runs(tmp_path):
    bench = Bench(
        tmp_path,
        script([["touch", "ran"]], setup=[["false"]], teardown=[["false"], ["touch", "torn"]]),
    )
    with pytest.raises(RunFailed, match="`false` in `setup`"):
        bench.train()
    assert not (bench.work / "ran").exists()
    assert (bench.work / "torn").exists(), "each line of teardown has its turn"


@pytest.mark.heavy
def test_a_failed_teardown_alone_fails(tmp_path):
    bench = Bench(tmp_path, script([["true"]], teardown=[["false"]]))
    with pytest.raises(RunFailed, match="in `teardown`"):
        bench.train()


@pytest.mark.heavy
def test_a_program_that_is_not_there(tmp_path):
    bench = Bench(tmp_path, script(["no-such-program --fast"]))
    with pytest.raises(RunFailed, match="does not start"):
        bench.train()
    found = bench.workload.check(bench.spec, bench.code)
    assert any("'no-such-program' is not on this machine" in f.message for f in found)


SPAWN = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                         start_new_session={new})
open("child", "w").write(str(child.pid))
time.sleep({stay})
"""


@pytest.mark.heavy
@pytest.mark.parametrize("new", [False, True])
def test_a_time_limit_ends_everything_that_was_started(tmp_path, new):
    files = {"spawn.py": SPAWN.format(new=new, stay=600)}
    bench = Bench(
        tmp_path, script(["spawn.py"], max_time_s=1.5, teardown=[["touch", "torn"]]), files
    )
    with pytest.raises(TimedOut, match=r"not done after 1\.5 s"):
        bench.train()
    assert (bench.work / "child").exists() and not left(bench)
    assert (bench.work / "torn").exists()


@pytest.mark.heavy
def test_a_server_of_setup_lives_until_teardown(tmp_path):
    """A process in the background survives its line, serves `run`, and is gone afterwards."""
    files = {"spawn.py": SPAWN.format(new=False, stay=0)}
    look = "import os; os.kill(int(open('child').read()), 0); print('alive=1')"
    bench = Bench(
        tmp_path,
        script([[PY, "-c", look]], setup=["spawn.py"], results={"stdout": PATTERN}),
        files,
    )
    assert bench.metrics() == {"alive": 1.0}
    assert not left(bench)


@pytest.mark.heavy
def test_a_stop_ends_the_line_and_tears_down(tmp_path):
    files = {"spawn.py": SPAWN.format(new=True, stay=600)}
    bench = Bench(tmp_path, script(["spawn.py"], teardown=[["touch", "torn"]]), files)

    def stop() -> None:
        until(lambda: (bench.work / "child").exists())
        bench.stop.set(Cause.CANCELLED, "enough")

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Stopped, match="enough"):
        bench.train()
    thread.join()
    assert (bench.work / "torn").exists() and not left(bench)


class LateStop(StopSignal):
    """A stop that is requested only after some looks for it."""

    @property
    def requested(self) -> bool:
        if self.looks > 5:
            self.set(Cause.PREEMPTION, "SIGTERM: taken away")
        return super().requested


@pytest.mark.heavy
@pytest.mark.parametrize("how", ["kill -TERM $$", "sh -c 'kill -TERM $$'; exit $?"])
def test_a_line_that_dies_of_sigterm_before_the_stop_arrives_is_stopped(
    tmp_path, monkeypatch, how
):
    """A machine that is taken away sends SIGTERM to all processes, in any order."""
    monkeypatch.setattr("drillyard.workloads.commands.LATE_STOP_S", 60.0)
    bench = Bench(tmp_path, script([["sh", "-c", how]]))
    bench.stop = LateStop()
    with pytest.raises(Stopped, match="taken away") as caught:
        bench.train()
    claim = bench.context(Phase.TRAIN).claim
    ending = of_error(claim, SYSTEM, caught.value, bench.stop, bench.scratch)
    assert ending.cause is Cause.PREEMPTION


@pytest.mark.heavy
@pytest.mark.parametrize("abort", [False, True])
def test_a_line_that_fails_after_a_stop_was_requested_is_stopped(tmp_path, monkeypatch, abort):
    """The program has its own way to end at SIGTERM, with any code."""
    monkeypatch.setattr("drillyard.workloads.commands._POLL_S", 60.0)
    bench = Bench(tmp_path, script([["sh", "-c", "exit 3"]], abort_on_error=abort))
    bench.stop.set(Cause.PREEMPTION, "SIGTERM: taken away")
    with pytest.raises(Stopped, match="taken away"):
        bench.train()
