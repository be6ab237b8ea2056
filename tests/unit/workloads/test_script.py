"""The workload `script`: real commands in this process's reach, and what they leave."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from drillyard.errors import (
    ConfigError,
    InfrastructureError,
    ProcessKilled,
    RunFailed,
    Stopped,
    TimedOut,
)
from drillyard.mailbox.records import FileEntry, Phase
from drillyard.mailbox.retries import RETRIES
from drillyard.mailbox.status import Cause
from drillyard.metrics.streams import read_stream
from drillyard.runs.workload import RunContext, StopSignal
from drillyard.system.clock import SYSTEM
from drillyard.system.operating_system import oom_kills
from drillyard.system.processes import marked
from drillyard.worker.endings import cause_of, of_error
from drillyard.workloads import measured
from drillyard.workloads.commands import RUN_MARK, CommandContext
from drillyard.workloads.metrics import from_output
from drillyard.workloads.script import run_mark
from tests.helpers.patience import until
from tests.helpers.workload_bench import Bench, script

PY = sys.executable
PATTERN = r"^(\w+)=(\S+)$"


def say(text: str) -> list[str]:
    return [PY, "-c", f"print({text!r})"]


def printing(folder: Path, text: str) -> Bench:
    """A script that prints a text, with its results in it."""
    return Bench(folder, script([say(text)], results={"stdout": PATTERN}))


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


# -- results --------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_results_from_output(tmp_path):
    """Every line that matches counts, the last of a name wins, and other lines do not matter."""
    lines = "score=1\nnoise\nscore=2.5\nlatency=3e-2\nname=fast"
    bench = printing(tmp_path, lines)
    assert bench.metrics() == {"score": 2.5, "latency": 0.03}
    again = Bench(tmp_path, script([say(lines)], results={"stdout": PATTERN}), attempt=2)
    data = json.loads(bench.read(again.train(), "results.json"))
    assert data["texts"] == {"name": "fast"}


@pytest.mark.heavy
def test_the_last_value_counts_however_long_the_output_is(tmp_path, monkeypatch):
    monkeypatch.setattr("drillyard.workloads.metrics.MAX_BYTES", 1000)
    lines = "\n".join(["score=1", *["x" * 90] * 20, "score=2"])
    bench = printing(tmp_path, lines)
    assert bench.metrics() == {"score": 2.0}


@pytest.mark.heavy
def test_a_line_of_output_that_is_too_long_is_refused(tmp_path, monkeypatch):
    """A part of it could look like a value."""
    monkeypatch.setattr("drillyard.workloads.metrics.MAX_BYTES", 1000)
    lines = "score=1\n" + "x" * 1000 + "y=7"
    bench = printing(tmp_path, lines)
    with pytest.raises(RunFailed, match="line 2 of the output"):
        bench.train()


@pytest.mark.parametrize(
    "text", ["a=1\r\na=2\r\n", "a=1\ra=2\r", "a=1\na=2", "\xff\na=1\na=2\n\n"]
)
def test_every_end_of_a_line_counts(tmp_path, text):
    output = tmp_path / "output.txt"
    output.write_bytes(text.encode("latin-1"))
    assert from_output(output, PATTERN) == {"a": 2.0}


@pytest.mark.heavy
@pytest.mark.parametrize("place", ["/dev/full", "."])
@pytest.mark.parametrize("code", [0, 3])
def test_output_that_cannot_be_kept_is_no_result(tmp_path, place, code):
    """A value that it ends with would be missing, and an older one would count."""
    if not Path(place).exists():
        pytest.skip("this system has no such device")
    commands = CommandContext(
        folder=tmp_path,
        environment=dict(os.environ),
        mark=str(tmp_path),
        stop=None,
        log=lambda line: None,
        output=Path(place),
    )
    with pytest.raises(InfrastructureError, match=r"output of .* cannot be kept") as caught:
        commands.run("run", [[PY, "-c", f"print('score=1'); exit({code})"]], None)
    assert cause_of(caught.value) is Cause.INFRASTRUCTURE


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("r.csv", "metric,value\nscore,0.5\nlatency,7\n", {"score": 0.5, "latency": 7}),
        ("r.csv", "score,0.5\nlatency,7\n", {"score": 0.5, "latency": 7}),
        ("r.csv", "\ufeffscore,latency\n0.5,7\n", {"score": 0.5, "latency": 7}),
        ("r.csv", "a,b,c\r\n1,2,3\r\n\r\n", {"a": 1, "b": 2, "c": 3}),
        ("r.csv", "score\n4\n", {"score": 4}),
        (
            "r.json",
            '{"score": 0.5, "cpu": {"user": 1}, "ok": true}',
            {"score": 0.5, "cpu/user": 1, "ok": 1},
        ),
        ("r.json", '[{"metric": "score", "value": 2}]', {"score": 2}),
    ],
)
def test_results_from_a_file(tmp_path, name, text, wanted):
    write = [PY, "-c", f"open({name!r}, 'w', newline='').write({text!r})"]
    bench = Bench(
        tmp_path,
        script([write, say("score=9\nother=1")], results={"file": name, "stdout": PATTERN}),
    )
    found = bench.metrics()
    assert found.pop("other") == 1.0, "the output counts where the file is silent"
    if "score" not in wanted:
        assert found.pop("score") == 9.0
    assert found == wanted, "the file beats the output"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("r.csv", None, "was not written"),
        ("r.csv", "", "is empty"),
        ("r.csv", "metric,value\n", "no values"),
        ("r.csv", "a,b,c\n1,2,3\n4,5,6\n", "3 lines and no header"),
        ("r.csv", "a,b,c\n1,2\n", "do not match"),
        ("r.csv", "metric,value\na,1\na,2\n", "'a' twice"),
        ("r.csv", "metric,value\na,1,2\n", "is not `metric,value`"),
        ("r.json", "{", "is not JSON"),
        ("r.json", "[1, 2]", "holds no object"),
        ("r.json", "{}", "holds no value"),
        ("r.json", '{"score": NaN}', "is nan"),
        ("r.json", '{"score": 1e999}', "is inf"),
        ("r.json", '{"score": "fast"}', "no result is a number"),
    ],
)
def test_results_that_are_none(tmp_path, name, text, words):
    code = "pass" if text is None else f"open({name!r}, 'w').write({text!r})"
    bench = Bench(tmp_path, script([[PY, "-c", code]], results={"file": name}))
    with pytest.raises(RunFailed, match=words):
        bench.train()


@pytest.mark.heavy
def test_output_without_a_match_fails(tmp_path):
    bench = printing(tmp_path, "nothing")
    with pytest.raises(RunFailed, match=r"no match of script\.results\.stdout"):
        bench.train()


@pytest.mark.heavy
def test_a_results_file_that_came_with_the_code_does_not_count(tmp_path):
    bench = Bench(
        tmp_path,
        script([say("x")], results={"file": "r.csv"}),
        files={"r.csv": "metric,value\nscore,1\n"},
    )
    with pytest.raises(RunFailed, match="was not written"):
        bench.train()


# -- parameters -----------------------------------------------------------------------------------

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


# -- commands -------------------------------------------------------------------------------------


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


# -- telemetry, transfers, files ------------------------------------------------------------------


@pytest.mark.heavy
def test_telemetry_keeps_its_own_times_and_is_followed(tmp_path):
    code = """
import time
with open("t.csv", "w", buffering=1) as file:
    file.write("timestamp,metric,value\\n")
    file.write("2026-03-01T12:00:00Z,cpu,1\\n1772366401,cpu,2\\n")
    file.write("2026-03-01T13:00:02+01:00,mem,7\\n")
    while not __import__("os").path.exists("go"): time.sleep(0.02)
    file.write("2026-03-01T12:00:03,cpu,3")
"""
    bench = Bench(tmp_path, script(["own.py"], telemetry="t.csv"), {"own.py": code})

    def lines() -> list[Any]:
        return read_stream(bench.mailbox, "t0001-s1", "telemetry")

    thread = threading.Thread(target=bench.train)
    thread.start()
    until(lambda: len(lines()) == 3)
    (bench.work / "go").touch()
    thread.join()
    assert [(i["step"], i["time"], i["metrics"]) for i in lines()] == [
        (0, 1772366400.0, {"cpu": 1.0}),
        (1, 1772366401.0, {"cpu": 2.0}),
        (0, 1772366402.0, {"mem": 7.0}),
        (2, 1772366403.0, {"cpu": 3.0}),
    ]


@pytest.mark.heavy
def test_missing_telemetry_is_none_and_broken_telemetry_is_named(tmp_path):
    Bench(tmp_path, script([["true"]], telemetry="t.csv")).train()
    write = [PY, "-c", "open('t.csv', 'w').write('1,cpu,1\\nsoon,cpu,2\\n')"]
    bench = Bench(tmp_path, script([write], telemetry="t.csv"), attempt=2)
    with pytest.raises(RunFailed, match="line 2 of the telemetry"):
        bench.train()


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("last", "wanted"),
    [("kill -KILL $$", ProcessKilled), ("sleep 600", TimedOut), ("exit 3", RunFailed)],
)
@pytest.mark.parametrize("cut", ["1,c", "soon,c,1\\n"])
def test_telemetry_that_ends_within_a_line_does_not_hide_why_the_script_ended(
    tmp_path, monkeypatch, last, wanted, cut
):
    # Read after the end only: a broken line that is found earlier ends the script itself.
    monkeypatch.setattr("drillyard.workloads.script._FOLLOW_S", 600.0)
    line = f"printf '1,c,3\\n{cut}' > t.csv; {last}"
    bench = Bench(tmp_path, script([["sh", "-c", line]], telemetry="t.csv", max_time_s=0.9))
    with pytest.raises(wanted) as caught:
        bench.train()
    assert "telemetry" not in str(caught.value)
    found = read_stream(bench.mailbox, "t0001-s1", "telemetry")
    assert [each["metrics"] for each in found] == [{"c": 3.0}]


@pytest.mark.heavy
def test_uploads_and_downloads(tmp_path):
    """Uploads after setup, downloads before results are read; folders whole."""
    share = tmp_path / "share"
    share.mkdir()
    tree = script(
        [
            [
                PY,
                "-c",
                "import os, sys; p = sys.argv[1]\n"
                "seen = len(os.listdir(p + '/d'))\n"
                "open(p + '/r.csv', 'w').write('metric,value\\nseen,%d\\n' % seen)",
                str(share),
            ]
        ],
        setup=[["mkdir", "d"], ["touch", "d/a"], ["touch", "d/b"]],
        upload=[{"from": "d", "to": f"{share}/d"}],
        download=[{"from": f"{share}/r.csv", "to": "got/"}],
        results={"file": "got/r.csv"},
    )
    assert Bench(tmp_path, tree).metrics() == {"seen": 2.0}


@pytest.mark.heavy
def test_uploads_to_a_store_and_back(tmp_path):
    tree = script(
        [["rm", "-r", "d"]],
        setup=[["mkdir", "d"], [PY, "-c", "open('d/r.csv', 'w').write('metric,value\\nx,4\\n')"]],
        upload=[{"from": "d", "to": f"memory://share{tmp_path}/d"}],
        download=[{"from": f"memory://share{tmp_path}/d", "to": "back"}],
        results={"file": "back/r.csv"},
    )
    assert Bench(tmp_path, tree).metrics() == {"x": 4.0}


@pytest.mark.heavy
def test_a_download_of_nothing_fails(tmp_path):
    tree = script([["true"]], download=[{"from": str(tmp_path / "nothing"), "to": "x"}])
    with pytest.raises(RunFailed, match="there is no"):
        Bench(tmp_path, tree).train()


@pytest.mark.heavy
def test_files_that_are_kept(tmp_path):
    bench = Bench(
        tmp_path, script([["mkdir", "m"], ["touch", "m/a.bin"], ["touch", "junk"]], keep=["m/*"])
    )
    kept = {"results.json", "files/m/a.bin", "files/parameters.json"}
    assert set(bench.train().files.files) == kept


@pytest.mark.heavy
def test_a_file_that_a_background_process_deletes_is_not_kept(tmp_path, monkeypatch):
    """It disappears after it was listed; the run has its result."""
    save = measured.save

    def late(context: RunContext, name: str, data: bytes | Path) -> dict[str, FileEntry]:
        if isinstance(data, Path) and data.name == "lock":
            data.unlink()
        return save(context, name, data)

    monkeypatch.setattr("drillyard.workloads.script.save", late)
    bench = Bench(tmp_path, script([["touch", "a.bin", "lock"]], keep=["*"]))
    kept = {"results.json", "files/a.bin", "files/parameters.json"}
    assert set(bench.train().files.files) == kept


@pytest.mark.heavy
def test_an_attempt_starts_in_a_fresh_folder(tmp_path):
    tree = script(
        [[PY, "-c", "import os; print('n=%d' % len(os.listdir()));open('x','w')"]],
        results={"stdout": PATTERN},
    )
    first = Bench(tmp_path, tree).train()
    second = Bench(tmp_path, tree, attempt=2).train()
    assert first.summary["metrics"] == second.summary["metrics"] == {"n": 1.0}
