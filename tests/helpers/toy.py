"""A tiny experiment for tests of workers: a workload in a user's folder, without torch."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from pathlib import Path

from drillyard.backend import Order
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.mailbox import run_id, ticket_id
from drillyard.mailbox.records import Phase, RunRecord
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.runs import code_archive
from drillyard.spec import ExperimentSpec
from drillyard.system.processes import ProcessId, marked
from tests.helpers.patience import until
from tests.helpers.records import experiment_record, ticket_of

WORKLOAD = '''
"""Does what the parameters of the run say; a gate is a file that the test creates."""
import os, re, shutil, signal, subprocess, sys, threading, time
from pathlib import Path
from drillyard.mailbox.records import Manifest, Phase
from drillyard.runs.workload import PhaseOutcome
import helper

class Toy:
    kind = "toy"
    def check(self, spec, folder): return []
    def preload(self, spec): return []
    def freeze(self, spec, seed): return {}

    def train(self, context):
        p = context.run.parameters
        print("hello from", context.run.run, "attempt", context.attempt, flush=True)
        context.log.info("logged %s", helper.WORD)
        mark = Path(p["marks"]) / f"{context.run.run}.{context.attempt}"
        mark.write_text(f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')} "
                        f"{'colorsys' in sys.modules}")
        if context.attempt in p.get("die", []):
            os.kill(os.getpid(), signal.SIGKILL)
        if context.attempt in p.get("swept", []):
            shutil.rmtree(context.scratch)  # as a cleaner of temporary files does
            (context.scratch / "notes.txt").write_text("")
        if p.get("raise") == "value":
            raise ValueError("the tank is empty")
        if p.get("raise") == "memory":
            raise MemoryError("buffer")
        if p.get("raise") == "exit":
            sys.exit(3)
        if p.get("child"):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            (Path(p["marks"]) / "child").write_text(str(child.pid))
        if p.get("hang"):
            context.progress(step=1234, total=2000)
            if p["hang"] == "python":
                time.sleep(600)
            while p["hang"] == "prints":
                print("a.token_" * 2800)
            while p["hang"] == "one line":
                print("a.token_" * 2800, end="")
            re.match(r"(a+)+$", "a" * 60 + "b")  # native code that holds the interpreter
        notes = Path("notes.txt")
        notes.write_text(context.run.run)
        gate = p.get("gate")
        step = 0
        while gate and not Path(gate).exists():
            if not p.get("deaf"):
                context.stop.check()
            step += 1
            context.progress(step=step, total=1000, message="waiting")
            time.sleep(0.02)
        assert (notes.read_text(), Path("helper.py").exists()) == (context.run.run, True)
        entry = context.save("result.txt", f"attempt {context.attempt}".encode())
        return PhaseOutcome(files=Manifest(files={"result.txt": entry}), summary={"step": step})

    def evaluate(self, context):
        manifest = context.mailbox.manifest(context.mailbox.accepted(context.run.run, Phase.TRAIN))
        data = context.mailbox.read_file(manifest, "result.txt")
        entry = context.save("seen.txt", b"seen: " + data)
        return PhaseOutcome(files=Manifest(files={"seen.txt": entry}), summary={"ok": True})
'''


class Toys:
    """A store with an experiment of the toy workload, and what tests ask of it."""

    def __init__(self, tmp_path: Path, **spec) -> None:
        self.tmp = tmp_path
        self.marks = tmp_path / "marks"
        self.marks.mkdir()
        folder = tmp_path / "user"
        folder.mkdir()
        (folder / "toy_workload.py").write_text(WORKLOAD)
        (folder / "helper.py").write_text('WORD = "from the user\'s own module"\n')
        # Of this test alone: processes are found by it on the whole machine.
        self.lease = f"dy-{secrets.token_hex(5)}"
        self.url = str(tmp_path / "store")
        self.mailbox = Mailbox(open_store(self.url), "toy")
        self.spec = ExperimentSpec(name="toy", workload="toy_workload:Toy", **spec)
        packed = code_archive.pack(folder)
        code_archive.upload(self.mailbox, packed)
        self.code = packed.sha256
        self.mailbox.create(
            "experiment.json",
            experiment_record("toy", spec=self.spec.model_dump(mode="json"), code=self.code),
        )

    def post(self, seed: int = 1, phases=(Phase.TRAIN,), threads: int = 1, **parameters) -> str:
        run = run_id(1, seed)
        parameters["marks"] = str(self.marks)
        self.mailbox.create(
            f"runs/{run}/run.json",
            RunRecord(
                run=run, experiment="toy", seed=seed, parameters=parameters, threads=threads
            ),
        )
        before: list[str] = []
        for number, phase in enumerate(phases):
            ticket = ticket_id(run, phase)
            self.mailbox.post(ticket_of(run, phase, after=before[-1:], order=seed * 10 + number))
            before.append(ticket)
        return run

    def order(self, **more) -> Order:
        values = {"workers": 2, "idle_s": 0.5, "code": self.code} | more
        return Order(lease_id=self.lease, experiment="toy", store_url=self.url, **values)

    def state(self, ticket: str):
        return ticket_states(self.mailbox)[ticket]

    def until_status(self, ticket: str, status):
        def reached():
            state = self.state(ticket)
            if state.status is not status and state.status.ended:
                raise AssertionError(f"{ticket} is {state.status}: {state.ending}")
            return state if state.status is status else None

        return until(reached, what=f"{ticket} {status}")

    def pid_of(self, run: str, attempt: int) -> int:
        mark = self.marks / f"{run}.{attempt}"
        return int(until(lambda: mark.exists() and mark.read_text()).split()[0])

    def processes(self) -> list[ProcessId]:
        return list(marked(self.lease, DRILLYARD_LOCAL_RUNTIME=str(self.tmp / "runtime")))

    def nothing_left(self) -> None:
        until(lambda: not self.processes(), what="an end of all processes")

    def clean_up(self) -> None:
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def ended(toy, ticket, attempt=1):
    """The ending of an attempt, waited for."""
    return until(lambda: toy.mailbox.ending(ticket, attempt), what=f"ending {attempt} of {ticket}")
