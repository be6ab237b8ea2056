"""Functional forms of simulators take the steps of their Python forms."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest

from drillyard.errors import CorruptObject
from drillyard.simulators.make import make_env
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.learning import LearnerSpec, SimulatorSpec
from tests.helpers.refusals import refusals

pytest.importorskip("jax", reason="extra `jax`: pip install 'drillyard[jax]'")
import jax

from drillyard.simulators.functional import adder, building, cartpole, cstr, forms

pytestmark = pytest.mark.heavy


def _cstr(env):
    s = env.state()
    return cstr.State(
        *(s[n] for n in ("cr", "tr", "tc", "cref", "measured_cr", "measured_tr", "time")),
        np.int32(s["steps"]),
        s["squares"],
    )


def _building(env):
    s = env.state()["all"]
    names = ("day", "indoor", "steps", "swings", "phases", "clear")
    return building.State(*(s[n][0] for n in names))


def _adder(env):
    return adder.State(env.state()["value"], np.int32(env.state()["steps"]))


def _cartpole(env):
    return cartpole.State(*env.unwrapped.state, np.int32(env._elapsed_steps))


WORLDS = {
    "cstr": ({}, _cstr, [{"Cref_signal": n} for n in range(7)]),
    "cstr, first": ({"coolant_rule": "first-sub-interval"}, _cstr, [{"Cref_signal": 3}]),
    "cstr, parts": ({}, _cstr, [{"step_time": 0.5, "edo_solver_n_its": 3}, {"step_time": 10}]),
    "building": ({}, _building, [{"day": d, "weather": 2} for d in (0, 150, 300)]),
    "building, exact": ({"clock": "exact", "reward": "exponential"}, _building, [{"day": 7}]),
    "simple-adder": ({}, _adder, [{}]),
    "simple-adder, box": ({"actions": "box"}, _adder, [{"start": 3}]),
    "CartPole-v1": ({}, _cartpole, [{}, {"low": -0.2, "high": 0.2}]),
}
NEAR = {"cstr": 1e-9, "building": 1e-9, "simple-adder": 0.0, "CartPole-v1": 1e-9}


def _cast(kind, leaf):
    leaf = np.asarray(leaf)
    return leaf.astype(kind) if leaf.dtype.kind == "f" else leaf


def _actions(space, rng):
    if isinstance(space, gym.spaces.Discrete):
        return int(rng.integers(space.n))
    return rng.uniform(-1, 1, space.shape).astype(np.float32)


@pytest.mark.parametrize("name", WORLDS)
def test_each_step_from_the_python_forms_state_is_its_step(name, record_property):
    args, state_of, lessons = WORLDS[name]
    spec = SimulatorSpec(id=name.partition(",")[0], args=args)
    form, rng = forms.make_form(spec), np.random.default_rng(3)
    env = make_env(spec).unwrapped if spec.id != "CartPole-v1" else gym.make(spec.id)
    with jax.enable_x64(True):
        step = jax.jit(form.step)
        single, off = jax.random.PRNGKey(0), {"float64": 0.0, "float32": 0.0}
        for options in lessons:
            env.reset(seed=int(rng.integers(99)), options=options)
            params = form.params(options)
            for _ in range(40):
                state, action = state_of(env), _actions(env.action_space, rng)
                state = jax.tree.map(np.asarray, state)
                seen, reward, terminated, truncated, _ = env.step(action)
                after = jax.tree.map(np.asarray, state_of(env))
                for kind in off:
                    given = jax.tree.map(partial(_cast, kind), (state, params))
                    looked, new, earned, *over, _ = step(single, given[0], action, given[1])
                    pairs = [*zip(jax.tree.leaves(new), jax.tree.leaves(after), strict=True)]
                    pairs += [(earned, reward)]
                    here = max(np.abs(np.asarray(a) - b).max() for a, b in pairs)
                    off[kind] = max(off[kind], float(here))
                    if kind == "float64":
                        assert [bool(x) for x in over] == [terminated, truncated]
                        assert here <= NEAR[spec.id]
                        parts = [(looked, seen)]
                        if isinstance(seen, dict):
                            parts = [(looked[key], seen[key]) for key in seen]
                        for mine, expected in parts:
                            assert mine.dtype == expected.dtype
                            np.testing.assert_allclose(mine, expected, rtol=2e-7, atol=1e-7)
                if terminated or truncated:
                    break
    env.close()
    record_property("off", off)
    print(f"{name}: off by {off['float64']:.2g}, in float32 by {off['float32']:.2g}")


def copies(lesson=None, wrappers=(), n=3, id_="cstr", **args):
    spec = SimulatorSpec(id=id_, lesson=lesson or {}, wrappers=list(wrappers), args=args)
    venv = make_vec(spec, n, 5, how="compiled", streams=2)
    venv.seed(5)
    return venv


def played(venv, steps=12, seed=1):
    rng = np.random.default_rng(seed)
    return [
        venv.step(np.array([_actions(venv.action_space, rng) for _ in range(venv.num_envs)]))
        for _ in range(steps)
    ]


def test_a_lesson_draws_what_it_draws_for_single_copies():
    lesson = {"start": {"min": 0, "max": 100}}
    compiled = copies(lesson, id_="simple-adder")
    single = make_vec(SimulatorSpec(id="simple-adder", lesson=lesson), 3, 5, streams=2)
    for venv in (compiled, single):
        venv.seed(5)
    assert np.array_equal(compiled.reset()["value"], single.reset()["value"])
    for ours, theirs in zip(played(compiled, 25), played(single, 25), strict=True):
        assert np.array_equal(ours[0]["value"], theirs[0]["value"])
        assert np.array_equal(ours[1], theirs[1]) and np.array_equal(ours[2], theirs[2])
        for mine, expected in zip(ours[3], theirs[3], strict=True):
            if expected.get("episode"):
                assert mine["lesson"] == expected["lesson"]
                assert mine["TimeLimit.truncated"] is True
                assert mine["episode"]["r"] == pytest.approx(expected["episode"]["r"])
                assert mine["episode"]["l"] == expected["episode"]["l"] == 10


def test_another_lesson_holds_from_the_next_episode_on():
    venv = copies({"start": 10}, id_="simple-adder")
    assert np.all(venv.reset()["value"] == 10)
    played(venv, 2)
    venv.set_lesson({"start": 90})
    told = [info for *_, infos in played(venv, 18) for info in infos if "lesson" in info]
    assert [t["lesson"]["start"] for t in told] == [10] * 3 + [90] * 3


def test_a_time_limit_truncates():
    limit = {"name": "time_limit", "args": {"max_episode_steps": 4}}
    venv = copies(wrappers=[limit], id_="simple-adder")
    venv.reset()
    steps = played(venv, 9)
    assert [dones.all() for _, _, dones, _ in steps] == [False, False, False, True] * 2 + [False]
    assert all(info["TimeLimit.truncated"] is True for info in steps[3][3])
    assert venv.max_episode_steps == 4


@pytest.mark.parametrize("id_", ["cstr", "building", "simple-adder", "CartPole-v1"])
def test_a_state_continues_as_the_copies_that_it_is_of(id_):
    lesson = {"noise_percentage": {"min": 0, "max": 3}} if id_ == "cstr" else {}
    one, other = copies(lesson, id_=id_), copies(lesson, id_=id_)
    one.reset(), played(one, 7)
    saved = one.state()
    other.reset()
    other.load_state(saved)
    for ours, theirs in zip(played(one, 95, 2), played(other, 95, 2), strict=True):
        for mine, expected in zip(ours[:3], theirs[:3], strict=True):
            jax.tree.map(np.testing.assert_array_equal, mine, expected)
    with pytest.raises(CorruptObject, match="of version 0 of the functional form of"):
        other.load_state({**saved, "version": 0})
    with pytest.raises(CorruptObject, match="has 3 copies, not 2"):
        copies(n=2, id_=id_).load_state(saved)


def test_seeds_decide_what_is_random():
    first, again, other = (copies({"noise_percentage": 5}) for _ in range(3))
    other.seed(6)
    seen = [venv.reset() for venv in (first, again, other)]
    assert np.array_equal(seen[0], seen[1]) and not np.array_equal(seen[0], seen[2])
    assert len(np.unique(seen[0][:, 0])) == 3


def test_the_weather_of_a_building_is_spread_as_in_python():
    form = forms.make_form(SimulatorSpec(id="building"))
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.PRNGKey(0), 4000)
        params = form.params({"weather": 1})
        _, state = jax.jit(jax.vmap(lambda key: form.reset(key, params)))(keys)
        state = jax.tree.map(np.asarray, state)
    assert np.std(state.swings) == pytest.approx(1.5, rel=0.03)
    assert np.mean(state.phases) == pytest.approx(np.pi, rel=0.03)
    assert np.mean(state.clear) == pytest.approx(0.6, rel=0.03)
    assert np.min(state.clear) > 0.2


REFUSED = [
    ({"id": "cstr"}, {"algorithm": "sac"}, ["train.copies"]),
    ({"id": "cstr"}, {"engine": "sb3"}, ["train.copies"]),
    ({"id": "Pendulum-v1"}, {}, ["train.copies"]),
    (
        {
            "id": "cstr",
            "wrappers": ["normalize", {"name": "history", "args": {"n": 2}}],
            "metrics": {"state_Tr": "max"},
        },
        {},
        ["simulator.wrappers[1]", "simulator.metrics"],
    ),
    (
        {"id": "cstr"},
        {"callbacks": ["stable_baselines3.common.callbacks:StopTrainingOnMaxEpisodes"]},
        ["learner.callbacks[0]"],
    ),
]


@pytest.mark.parametrize(("simulator", "learner", "fields"), REFUSED)
def test_what_has_no_functional_form_is_refused_by_name(simulator, learner, fields):
    spec = SimulatorSpec.model_validate(simulator)
    made = LearnerSpec.model_validate({"algorithm": "ppo", "engine": "jax", **learner})
    errors = refusals(forms.check_compiled, spec, made)
    assert [error.field for error in errors] == fields
    assert all(error.hint for error in errors)


def test_what_has_one_is_accepted():
    spec = SimulatorSpec.model_validate({"id": "building", "wrappers": ["normalize"]})
    forms.check_compiled(spec, LearnerSpec(algorithm="a2c", engine="jax"))
