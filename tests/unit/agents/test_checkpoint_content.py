"""What goes into a checkpoint comes back bit by bit: trees, replay buffers, spaces."""

import random

import numpy as np
import pytest
from gymnasium import spaces

torch = pytest.importorskip("torch")

from drillyard.agents.packing import npz_arrays, npz_bytes, pack, unpack  # noqa: E402
from drillyard.agents.spaces import space_from_json, space_to_json  # noqa: E402
from drillyard.errors import Bug, CorruptObject  # noqa: E402
from drillyard.learners import replay  # noqa: E402
from drillyard.learners.barriers import (  # noqa: E402
    barrier_seeds,
    next_multiple,
    preserved_randomness,
    reseed,
)
from drillyard.runs.checkpoint_formats import examine  # noqa: E402


def test_a_tree_comes_back_with_its_types():
    shared = torch.arange(4.0)
    tree = {
        "none": None,
        "flag": True,
        "big": 2**100,
        "text": "ä",
        "float": 0.1,
        "inf": float("inf"),
        "scalar": np.float32(0.1),
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "empty": {},
        "list": [1, (2.0, np.bool_(True))],
        3: "by number",
        "views": [shared, shared],
        "optimiser": {"state": {0: {"step": torch.tensor(3.0)}}, "betas": (0.9, 0.999)},
        "$odd": 1,
    }
    back = unpack(pack(tree))
    assert list(back) == list(tree)
    for key in ("none", "flag", "big", "text", "float", "inf", "empty", "$odd", 3):
        assert back[key] == tree[key] and type(back[key]) is type(tree[key])
    assert back["scalar"].dtype == np.float32 and back["scalar"] == tree["scalar"]
    assert back["array"].dtype == np.int16 and (back["array"] == tree["array"]).all()
    assert back["list"][1] == (2.0, True) and isinstance(back["list"][1], tuple)
    assert torch.equal(back["views"][1], shared) and back["optimiser"]["betas"] == (0.9, 0.999)
    assert back["optimiser"]["state"][0]["step"].dtype == torch.float32


def test_no_objects_go_in_and_no_pickle_comes_out(tmp_path):
    with pytest.raises(Bug):
        pack({"x": object()})
    with pytest.raises(Bug):
        pack({"x": np.array([object()])})
    files = pack({"x": np.zeros(2)})
    evil = tmp_path / "evil.npz"
    np.savez(evil, a00000=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CorruptObject):
        unpack({**files, "arrays.npz": evil.read_bytes()})
    with pytest.raises(CorruptObject):
        unpack({**files, "state.json": b"{"})


def filled(buffer, first, last):
    for row in range(first, last):
        value = np.full((buffer.n_envs, 2), row, np.float32)
        info = [{"TimeLimit.truncated": row % 5 == 0}] * buffer.n_envs
        buffer.add(value, value + 1, value[:, :1], value[:, 0], value[:, 0] % 3 == 0, info)


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("cuts", [(3, 7), (10, 20), (9, 10, 11), (4, 30), (25, 26, 27, 64)])
def test_a_ring_comes_back_from_its_segments(cuts, lean):
    from stable_baselines3.common.buffers import ReplayBuffer

    def make():
        return ReplayBuffer(
            20,
            spaces.Box(-1, 1, (2,)),
            spaces.Box(-1, 1, (1,)),
            "cpu",
            n_envs=2,
            optimize_memory_usage=lean,
            handle_timeout_termination=not lean,
        )

    one, stored, before = make(), {}, 0
    assert one.buffer_size == 10
    for rows in cuts:
        filled(one, before, rows)
        names = replay.needed(stored, rows, 10)
        segment = replay.new_segment(stored, one, rows)
        stored = {**{n: stored[n] for n in names}, segment[0]: segment[1]}
        before = rows
    two = make()
    replay.restore(two, dict(stored), 2 * before)
    replay.load_head(two, replay.head(one))
    assert (two.pos, two.full) == (one.pos, one.full)
    for field in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        if hasattr(one, field):
            np.testing.assert_array_equal(getattr(two, field), getattr(one, field))
    if len(stored) > 1:
        first = min(stored)
        with pytest.raises(CorruptObject):
            replay.restore(make(), {n: d for n, d in stored.items() if n != first}, 2 * before)
    with pytest.raises(CorruptObject):
        replay.restore(make(), {max(stored): npz_bytes({"x": np.zeros(1)})}, 2 * before)


def test_spaces_come_back():
    for space in (
        spaces.Box(np.array([-1.0, -np.inf]), np.array([1.0, np.inf]), dtype=np.float32),
        spaces.Box(0, 255, (4, 5, 3), np.uint8),
        spaces.Discrete(5, start=-2),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(4),
        spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(0.1, 0.2, (2, 2), np.float64)}),
    ):
        assert space_from_json(space_to_json(space)) == space
    with pytest.raises(CorruptObject):
        space_from_json({"kind": "Box"})


@pytest.mark.parametrize("key", ["z", "tank level", "a/b", "Füllstand", ".."])
def test_the_normalisation_of_a_mapping_is_a_file_of_ours(key):
    kept = {f"obs_{name}.{key}": np.zeros(3) for name in ("mean", "var", "count")}
    data = npz_bytes({**kept, "ret_mean": np.zeros(1)})
    assert list(examine({"best-normalisation.npz": data})) == []
    assert npz_arrays(data).keys() == {*kept, "ret_mean"}


@pytest.mark.parametrize("name", ["../evil", "a.b", "obs_std.z", "obs_mean.", "x" * 65])
def test_other_names_in_an_npz_are_refused(name):
    ((file, problem),) = examine({"any.npz": npz_bytes({name: np.zeros(1)})})
    assert file == "any.npz" and "has a member called" in problem.message


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x0480, 0x0580])
def test_the_length_of_a_header_is_not_taken_for_a_pickle(length):
    """It comes first in a .safetensors, and these lengths have the first bytes of a pickle."""
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    data = length.to_bytes(8, "little") + header + bytes(4)
    assert list(examine({"best.safetensors": data})) == []
    ((_, problem),) = examine({"best.safetensors": data[:2] + bytes(10)})
    assert "pickle" in problem.message


def test_barriers_draw_from_seed_and_number_alone():
    space = spaces.Box(-1, 1, (3,))

    def draw():
        return (random.random(), np.random.rand(), torch.rand(1).item(), *space.sample())

    reseed(barrier_seeds(7, 1), space)
    first = draw()
    with preserved_randomness():
        random.random(), np.random.rand(), torch.rand(3)
    after = draw()
    reseed(barrier_seeds(7, 1), space)
    assert draw() == first and draw() == after
    reseed(barrier_seeds(7, 2), space)
    assert draw()[:3] != first[:3]
    assert [next_multiple(s, 10) for s in (0, 9, 10, 11)] == [10, 10, 20, 20]


def test_arrays_of_a_mapping_have_the_users_keys_in_their_names():
    names = ("observations.a/0", "next_observations.the goal", "obs_mean.a.b", "rewards")
    data = npz_bytes({name: np.zeros(1) for name in names})
    assert list(examine({"replay-0-1.npz": data})) == []
    ((_, problem),) = examine({"replay-0-1.npz": npz_bytes({"../evil": np.zeros(1)})})
    assert "has a member called" in problem.message
