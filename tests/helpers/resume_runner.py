"""Trains one run as a worker would, in this process; may kill itself at a chosen step."""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

RUN = "t0001-s7"


def experiment(case):
    """An ``ExperimentSpec`` of a case: a mapping with the parts that differ."""
    from drillyard.spec.experiment import ExperimentSpec

    given = {name: value for name, value in case.items() if name != "streams"}
    return ExperimentSpec.model_validate({"schema": 1, "name": "resume", "seeds": [7], **given})


def context(store_url, case, attempt, die_at=None, **more):
    """A ``RunContext`` of the train ticket on a file store."""
    from drillyard.mailbox import Mailbox, open_store
    from drillyard.mailbox.records import STREAMS, Phase, RunRecord
    from drillyard.runs.workload import StopSignal
    from drillyard.workloads.rl import RlWorkload
    from tests.helpers.records import context_of

    class Deadly(StopSignal):
        """Looked at once a step: the process is gone in the middle of one."""

        looks = 0

        @property
        def requested(self):
            Deadly.looks += 1
            if die_at is not None and Deadly.looks == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().requested

    spec = experiment(case)
    mailbox = Mailbox(open_store(str(store_url)), spec.name)
    mailbox.create(
        f"runs/{RUN}/run.json",
        RunRecord(
            run=RUN,
            experiment=spec.name,
            seed=spec.seeds[0],
            device="cpu",
            streams=case.get("streams", STREAMS),
            choices=RlWorkload().freeze(spec, spec.seeds[0]),
        ),
    )
    given = {"stop": Deadly(), "scratch": Path(tempfile.mkdtemp()), "attempt": attempt, **more}
    return context_of(mailbox, spec, mailbox.run(RUN), Phase.TRAIN, **given)


def accept(run_context, outcome):
    """What a worker does with an outcome."""
    from tests.helpers.records import result_of

    mailbox, attempt = run_context.mailbox, run_context.attempt
    told = {"status": outcome.status, "summary": outcome.summary}
    result = result_of(mailbox, RUN, run_context.phase, outcome.files, attempt, **told)
    mailbox.accept(run_context.claim, result)


def train(store_url, case, attempt, die_at=None, run_context=None):
    """Train to the end (or to death), and accept."""
    import shutil

    import torch

    from drillyard.workloads.rl import RlWorkload

    torch.set_num_threads(1)
    run_context = run_context or context(store_url, case, attempt, die_at)
    try:
        accept(run_context, RlWorkload().train(run_context))
    finally:
        shutil.rmtree(run_context.scratch, ignore_errors=True)


def train_and_stop(store_url, case, attempt, at):
    """Train until a stop is requested at the ``at``-th look; exits with 5 if it stopped."""
    from drillyard.errors import Stopped
    from drillyard.testing.phases import CountedStop

    run_context = context(store_url, case, attempt, stop=CountedStop(at))
    try:
        train(store_url, case, attempt, run_context=run_context)
    except Stopped:
        sys.exit(5)


def train_and_die_committing(store_url, case, attempt, nth, moment):
    """Train until the thread that writes the ``nth`` checkpoint is at a moment, and die there.

    At ``manifest`` and ``after`` the training has gone on since it handed over what is written:
    this thread waits for that.
    """
    import threading
    import time

    from drillyard.learners.committing import Committer
    from drillyard.mailbox.file import FileStore

    run_context = context(store_url, case, attempt)
    looks = type(run_context.stop)
    submit, put, replace = Committer.submit, FileStore.put, os.replace
    folders, handed_over = [], []

    def noted_submit(committer, action):
        handed_over.append(looks.looks)
        submit(committer, action)

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def others_go_on():
        deadline = time.monotonic() + 600
        while looks.looks < handed_over[-1] + 20:
            if time.monotonic() > deadline:
                os._exit(3)  # the training waits for the checkpoint
            time.sleep(0.001)

    def deadly_put(store, key, data):
        folder, _, name = key.rpartition("/")
        if "/checkpoints/" not in key:
            return put(store, key, data)
        if threading.current_thread().name != "checkpoint":
            os._exit(4)
        if folder not in folders:
            folders.append(folder)
        if len(folders) < nth:
            return put(store, key, data)
        if name != "manifest.json":
            put(store, key, data)
            if moment == "first file":
                die()
            return None
        if moment in ("manifest", "after"):
            others_go_on()
        if moment == "manifest":
            die()
        if moment == "rename":
            os.replace = lambda *_: die()
        put(store, key, data)
        die()

    Committer.submit, FileStore.put = noted_submit, deadly_put
    try:
        train(store_url, case, attempt, run_context=run_context)
    finally:
        Committer.submit, FileStore.put, os.replace = submit, put, replace


if __name__ == "__main__":
    store_url_, case_, attempt_ = sys.argv[1:4]
    train(store_url_, json.loads(case_), int(attempt_))
