"""Threads of one process that work in turns: who computes with whom, and what each finds again."""

import os
import random
import threading

import numpy as np
import pytest
import torch

from drillyard.system.turns import Turns, current
from tests.helpers.patience import PATIENCE_S


@pytest.fixture
def of_this_process():
    kept = [os.dup(1), os.dup(2)], os.getcwd(), torch.get_rng_state(), np.random.get_state()
    yield
    for number, descriptor in enumerate(kept[0], 1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(kept[1])
    torch.set_rng_state(kept[2])
    np.random.set_state(kept[3])


def together(folder, bodies):
    """Let each body be a member, and return what it returned, or raised."""
    turns, results = Turns(len(bodies)), {}

    def body(number):
        with turns.member(number, folder / f"{number}.txt", lambda: None):
            try:
                results[number] = bodies[number](current())
            except Exception as error:
                results[number] = error

    threads = [threading.Thread(target=body, args=(n,), daemon=True) for n in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    return results


def test_those_that_leave_are_not_waited_for(tmp_path, of_this_process):
    calls = []

    def work(given):
        calls.append(sorted(given))
        return [10 * each for each in given]

    def body(rounds):
        return lambda me: [me.meet("same", n, work) for n in range(rounds)]

    found = together(tmp_path, [body(1), body(3), body(2)])
    assert found == {0: [0], 1: [0, 10, 20], 2: [0, 10]}
    assert calls == [[0, 0, 0], [1, 1], [2]]


def test_each_finds_its_numbers_its_folder_and_its_output_again(tmp_path, of_this_process):
    def draws(seed):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        while True:
            yield random.random(), float(np.random.rand()), float(torch.rand(()))

    expected = {}
    for seed in (1, 2):
        mine = draws(seed)
        expected[seed - 1] = [next(mine) for _ in range(3)]

    def body(seed):
        def act(me):
            folder = tmp_path / f"of-{seed}"
            folder.mkdir()
            os.chdir(folder)
            mine, found = draws(seed), []
            for _ in range(3):
                found.append(next(mine))
                os.write(1, f"I am {seed}\n".encode())
                me.meet("same", None, lambda given: given)
                assert os.getcwd() == str(folder)
            return found

        return act

    assert together(tmp_path, [body(1), body(2)]) == expected
    for number in range(2):
        assert (tmp_path / f"{number}.txt").read_text() == f"I am {number + 1}\n" * 3


def test_an_error_reaches_the_members_of_its_call_only(tmp_path, of_this_process):
    def bad(given):
        raise ValueError("no memory")

    found = together(
        tmp_path,
        [
            lambda me: me.meet("bad", 0, bad),
            lambda me: me.meet("bad", 1, bad),
            lambda me: me.meet("good", 2, lambda given: [each + 1 for each in given]),
        ],
    )
    assert [type(found[n]) for n in range(3)] == [ValueError, ValueError, int]
    assert found[2] == 3


def test_a_thread_of_its_own_is_no_member():
    assert current() is None
