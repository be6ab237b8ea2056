"""The first command of every page that trains is killed, and repeats less than 15 percent."""

import argparse
import os
import random
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from drillyard.checks.numbers import checkpoints
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from drillyard.spec.load import load
from drillyard_flows.without_file import short_of
from tests.helpers import documents, resume_runner
from tests.helpers.resumed import train

RUN = resume_runner.RUN
ROOT = Path(__file__).parents[2]
WITHOUT_TRAINING = ("studies.md", "workloads.md")
"""Their commands run no learner: a script, which keeps its own state, and a stand-in."""


def first_commands():
    """Page -> its first command that runs an experiment."""
    found = {}
    for page in documents.pages(ROOT):
        lines = [
            command.line
            for block in documents.blocks(page.read_text())
            if block.language == "console"
            for command in documents.commands(block.body)
        ]
        runs = [line for line in lines if line.startswith("drillyard run ")]
        if runs and page.name not in WITHOUT_TRAINING:
            found[page] = runs[0]
    return found


COMMANDS = first_commands()
each_page = pytest.mark.parametrize("page", COMMANDS, ids=lambda page: page.name)


@pytest.fixture
def loaded(page, tmp_path, monkeypatch):
    """The experiment of a page's command, with the files that the page gives."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    for block in documents.blocks(page.read_text()):
        if block.file:
            path = tmp_path / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body)
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?")
    for option in ("-a", "-s", "--steps", "--seeds", "--name", "--set"):
        parser.add_argument(option)
    given, _ = parser.parse_known_args(shlex.split(COMMANDS[page])[2:])
    if given.file is not None:
        return load(Path(given.file))
    short = short_of(given.a, given.s, name=given.name, steps=given.steps, seeds=given.seeds)
    with short.written() as path:
        return load(path)


def test_there_are_pages_that_train():
    assert {"README.md", "tutorial.md"} <= {page.name for page in COMMANDS}


@each_page
def test_a_kill_costs_less_than_15_percent_by_the_file(page, loaded):
    text = checkpoints(loaded)
    assert text is not None
    share = int(text.rpartition("(")[2].partition("%")[0])
    assert 0 < share < 15, text


@pytest.mark.heavy
@each_page
def test_a_killed_training_repeats_less_than_15_percent(page, loaded, processes, tmp_path):
    spec = loaded.spec
    parts = spec.model_dump(mode="json", include={"simulator", "learner", "train"})
    case = {**parts, "tracking": {"tensorboard": False}}
    seed = random.randrange(1000)
    print(f"seed {seed}")
    looks = random.Random(seed).randint(1, spec.train.steps // spec.train.n_envs)
    store = tmp_path / "store"
    assert train(processes, store, case, 1, looks, target=trained) == -9
    assert train(processes, store, case, 2, target=trained) == 0
    done = Mailbox(open_store(str(store)), "resume").accepted(RUN, Phase.TRAIN).summary
    assert looks * spec.train.n_envs - done["resumed_step"] < 0.15 * spec.train.steps


def trained(store, case, attempt, die_at=None):
    """In a fresh process: the modules of the page are beside its store."""
    folder = Path(store).parent
    sys.path[:0] = [str(folder), *(str(path) for path in (folder / "experiments").glob("*/"))]
    os.chdir(folder)
    resume_runner.train(store, case, attempt, die_at)
