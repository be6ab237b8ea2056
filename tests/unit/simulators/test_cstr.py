"""The reactor: its physics against scipy, its rules, its state."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
from scipy.integrate import odeint

from drillyard.errors import ConfigError, SimulatorError
from drillyard.simulators import register_gymnasium
from drillyard.simulators.cstr import CstrEnv
from drillyard.simulators.cstr_physics import derivatives, integrate, reference

ZERO = np.zeros(1, np.float32)


def play(env: CstrEnv, actions: np.ndarray, **options: float) -> list[tuple]:
    env.reset(seed=3, options=options)
    rows = []
    for action in actions:
        step = env.step(np.array([action], np.float32))
        rows.append(step)
        if step[2] or step[3]:
            break
    return rows


def test_one_interval_agrees_with_scipy_everywhere_also_in_an_ignition():
    rng = np.random.default_rng(0)
    for _ in range(200):
        cr, tr, tc = rng.uniform(0.5, 9.9), rng.uniform(290, 399), rng.uniform(250, 350)
        span = float(rng.choice([0.25, 0.5, 1.0]))
        exact = odeint(
            lambda y, _t, tc=tc: derivatives(y[0], y[1], tc),
            [cr, tr],
            [0, span],
            rtol=1e-12,
            atol=1e-12,
        )[-1]
        assert integrate(cr, tr, tc, span) == pytest.approx(tuple(exact), abs=1e-6)


def test_the_rates_are_those_of_the_data_sheet():
    cr, tr, tc = 5.0, 350.0, 300.0
    rate = 34_930_800 * math.exp(-11_843 / (1.98588 * 350)) * 5
    d_cr, d_tr = derivatives(cr, tr, tc)
    assert d_cr == pytest.approx(10 - 5 - rate)
    assert d_tr == pytest.approx(298.2 - 350 + 5960 / 500 * rate - 150 / 500 * 50)


@pytest.mark.parametrize("rule", ["held", "first-sub-interval"])
def test_a_whole_episode_agrees_with_scipy_under_both_coolant_rules(rule):
    actions = np.clip(np.random.default_rng(1).normal(0, 0.3, 91), -1, 1).astype(np.float32)
    rows = play(CstrEnv(coolant_rule=rule), actions, Cref_signal=2)  # type: ignore[arg-type]
    state, tc = np.array([8.5698, 311.2612]), 292.0
    for action, (_, _, _, _, info) in zip(actions, rows, strict=False):
        new = tc + float(action) * 10
        for interval in range(2):
            acting = new if rule == "held" or interval == 0 else tc
            state = odeint(
                lambda y, _t, u=acting: derivatives(y[0], y[1], u),
                state,
                [0, 0.5],
                rtol=1e-11,
                atol=1e-11,
            )[-1]
        tc = new
        assert (info["state_Cr"], info["state_Tr"]) == pytest.approx(tuple(state), abs=1e-5)
        assert info["state_Tc"] == pytest.approx(tc)
    assert len(rows) > 20


@pytest.mark.parametrize(
    ("signal", "time", "expected"),
    [
        (0, 0, (2.0, 373.1311)),
        (6, 90, (2.0, 373.1311)),
        (5, 90, (8.5698, 311.2612)),
        (1, 0, (8.5698, 311.2612)),
        (1, 13, (5.2849, 342.19615)),
        (1, 26, (2.0, 373.1311)),
        (2, 20, (8.5698, 311.2612)),
        (2, 33, (5.2849, 342.19615)),
        (3, 53, (5.2849, 342.19615)),
        (4, 60, (8.5698, 311.2612)),
        (4, 73, (5.2849, 342.19615)),
        (4, 90, (2.0, 373.1311)),
    ],
)
def test_references(signal, time, expected):
    assert reference(signal, time) == pytest.approx((expected[0], expected[1]), abs=1e-4)


def test_transition_start_moves_signal_1():
    assert reference(1, 10, transition_start=11) == pytest.approx((8.5698, 311.2612))
    assert reference(1, 23, transition_start=11)[0] == pytest.approx(5.2849)


@pytest.mark.parametrize("signal", range(7))
def test_the_first_observation_is_not_stale(signal):
    env = CstrEnv()
    env.reset(seed=0, options={"Cref_signal": 5})
    env.step(np.ones(1, np.float32))
    observation, info = env.reset(options={"Cref_signal": signal})
    cr, tr = reference(signal, 1.0)
    tc = 305.0348 if signal == 6 else 292.0
    assert observation == pytest.approx([tr / 600, cr / 10, cr / 10, tc / 600], abs=1e-6)
    assert observation.dtype == np.float32
    assert (info["state_Cr"], info["state_Tr"]) == (cr, tr)


def test_an_episode_has_91_steps_and_the_reward_is_that_of_the_error():
    rows = play(CstrEnv(), np.zeros(200), Cref_signal=5)
    assert len(rows) == 91
    assert [r[3] for r in rows] == [False] * 90 + [True]
    for _, reward, terminated, _, info in rows:
        assert not terminated
        assert reward == pytest.approx(math.exp(-abs(info["state_Cr"] - info["state_Cref"])))
    errors = [r[4]["state_Cr"] - r[4]["state_Cref"] for r in rows]
    assert rows[-1][4]["kpi_rms_conc_error"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))


def test_the_reference_of_step_n_is_that_of_time_n_minus_1():
    rows = play(CstrEnv(), np.zeros(91), Cref_signal=2)
    assert [r[4]["state_Cref"] for r in rows] == [reference(2, n)[0] for n in range(91)]


def test_half_steps_take_twice_as_many():
    assert len(play(CstrEnv(), np.zeros(400), Cref_signal=5, step_time=0.5)) == 181


def test_a_runaway_terminates_with_a_penalty():
    rows = play(CstrEnv(), np.ones(91), Cref_signal=5)
    *_, (_, reward, terminated, _, info) = rows
    assert terminated
    assert info["state_Tr"] >= 400
    assert -10 <= reward <= -9


def test_a_coolant_below_50_terminates():
    rows = play(CstrEnv(), -np.ones(91), Cref_signal=5)
    assert rows[-1][2]
    assert len(rows) == 25
    assert rows[-1][4]["state_Tc"] == pytest.approx(42.0)


def test_too_large_a_change_is_capped_with_a_message(caplog):
    env = CstrEnv()
    env.reset(seed=0, options={"step_time": 0.25})
    with caplog.at_level("INFO", logger="drillyard.simulators.cstr"):
        _, _, terminated, _, info = env.step(np.array([-0.9], np.float32))
    assert info["state_Tc_adjust"] == -2.0  # int(10 * 0.25)
    assert not terminated
    assert "capped" in caplog.text


def test_nan_counts_as_no_change():
    env = CstrEnv()
    env.reset(seed=0)
    assert env.step(np.array([np.nan], np.float32))[4]["state_Tc_adjust"] == 0.0


def test_noise_is_on_the_outputs_only_bounded_and_seeded():
    quiet = play(CstrEnv(), np.zeros(91), Cref_signal=5)
    noisy = play(CstrEnv(), np.zeros(91), Cref_signal=5, noise_percentage=5)
    again = play(CstrEnv(), np.zeros(91), Cref_signal=5, noise_percentage=5)
    cr = np.array([n[4]["state_Cr"] - q[4]["state_Cr"] for n, q in zip(noisy, quiet, strict=True)])
    tr = np.array([n[4]["state_Tr"] - q[4]["state_Tr"] for n, q in zip(noisy, quiet, strict=True)])
    assert 0.8 * 0.05 * 6.5698 < np.abs(cr).max() <= 0.05 * 6.5698
    assert 0.8 * 0.05 * 61.8699 < np.abs(tr).max() <= 0.05 * 61.8699
    assert [r[4] for r in noisy] == [r[4] for r in again]
    env = CstrEnv()
    other, _ = env.reset(seed=4, options={"noise_percentage": 5})
    assert not np.array_equal(other, env.reset(seed=5, options={"noise_percentage": 5})[0])


def test_state_goes_on_in_another_process_as_if_nothing_had_happened():
    one, two = CstrEnv(), CstrEnv()
    one.reset(seed=1, options={"Cref_signal": 3, "noise_percentage": 5, "step_time": 0.5})
    for _ in range(40):
        one.step(np.array([0.1], np.float32))
    two.reset(seed=99)
    two.load_state(one.state())
    for number in range(60):
        action = np.array([math.sin(number) / 3], np.float32)
        a, b = one.step(action), two.step(action)
        assert np.array_equal(a[0], b[0])
        assert a[1:] == b[1:]
    a, b = one.reset(options={"noise_percentage": 5}), two.reset(options={"noise_percentage": 5})
    assert np.array_equal(a[0], b[0])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"Cref_sig": 1}, "Cref_sig"),
        ({"Cref_signal": 7}, "0 to 6"),
        ({"Cref_signal": 1.5}, "integer"),
        ({"noise_percentage": float("nan")}, "noise_percentage"),
        ({"step_time": 0}, "step_time"),
        ({"step_time": "1"}, "'1'"),
    ],
)
def test_wrong_reset_keys_are_refused(options, word):
    with pytest.raises(SimulatorError, match=word):
        CstrEnv().reset(options=options)


def test_a_wrong_rule_is_refused():
    with pytest.raises(ConfigError, match=r"coolant_rule.*held, first-sub-interval"):
        CstrEnv(coolant_rule="hold")  # type: ignore[arg-type]


def test_gymnasium_knows_it_and_finds_no_fault():
    from gymnasium.utils.env_checker import check_env

    register_gymnasium()
    register_gymnasium()
    env = gym.make("drillyard/Cstr-v0", coolant_rule="first-sub-interval")
    assert isinstance(env.unwrapped, CstrEnv)
    check_env(env.unwrapped, skip_render_check=True)
