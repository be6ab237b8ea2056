"""The report's files: what is in them, for every stage of an experiment."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import gymnasium
import pytest
from matplotlib.figure import Figure
from PIL import Image

from drillyard.errors import StoreUnavailable
from drillyard.mailbox import Mailbox
from drillyard.report import (
    build,
    data,
    html,
    picture_style,
    render,
    training_pictures,
)
from drillyard.report.data import episode_of
from drillyard.results import collect
from drillyard.results.policies import over_seeds
from drillyard.simulators import gymnasium_names
from drillyard.statistics import METHOD
from drillyard.testing.clock import FakeClock
from tests.helpers.fixtures_store import T0, write_experiment

NAMES = {
    f"{n}.{s}" for n in ("learning_curve", "evaluation", "episode") for s in ("svg", "png", "csv")
} | {"index.html"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    box = write_experiment(tmp_path_factory.mktemp("store"))
    return box, build(box, clock=FakeClock(T0 + 500))


class Page(HTMLParser):
    """What a page refers to, and how its elements nest."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input", "use"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.tags: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self._open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "xlink:href", "action", "srcset"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.texts.append(text)


def read(box: Mailbox, name: str) -> bytes:
    return box.store.get(box.key(f"report/{name}"))


def test_every_file_lies_in_the_store(made):
    box, files = made
    prefix = box.key("report/")
    assert {i.key.removeprefix(prefix) for i in box.store.list(prefix)} == NAMES
    assert files.local is not None
    assert files.local.read_bytes() == read(box, "index.html")
    assert files.keys[-1] == "report/index.html"
    assert files.results.report == files.index


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(made):
    text = read(made[0], "index.html").decode()
    page = Page(text)
    assert "script" not in page.tags
    assert len(page.ids) == len(set(page.ids))
    inside = {f"#{i}" for i in page.ids}
    for link in page.links:
        assert link in inside or link in NAMES or link == "data:,", link
    for colour in picture_style.VARIABLES:
        assert colour not in "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "default-src 'none'" in text


def test_the_page_says_the_numbers(made):
    text = " ".join("".join(Page(read(made[0], "index.html").decode()).texts).split())
    for expected in (
        "cstr-ppo",
        "PPO on cstr",
        "72.25 (range of 2 seeds: 71.80 to 72.70) with the best policy of each run, 11.12 above",
        "11.12 above the best baseline, p-controller (61.13)",
        "SUCCEEDED: 2 of 2 runs finished",
        "range of 2 seeds: 71.80 to 72.70",
        "By Cref_signal",
        "kpi_rms_conc_error",
        "t0001-s2 was resumed 1 time; exact.",
        "preset cstr/ppo",
        "cstr.yaml, line 9",
        "With 2 seeds there is no interval over seeds, only their range",
        "range of the 2 seeds",
        "drillyard run cstr.yaml --set train.steps=60000",
        "with uncommitted changes",
        "1 thread on cpu",
        "dy-0123456789",
        "free (your own machine)",
        "provision",
    ):
        assert expected in text, expected


def test_the_same_content_gives_the_same_bytes(made):
    box, _ = made
    first = {name: read(box, name) for name in NAMES}
    build(box, clock=FakeClock(T0 + 500))
    assert {name: read(box, name) for name in NAMES} == first


def test_pictures_are_pictures(made):
    for name in ("learning_curve", "evaluation", "episode"):
        svg = ElementTree.fromstring(read(made[0], f"{name}.svg"))
        assert svg.tag.endswith("svg")
        image = Image.open(io.BytesIO(read(made[0], f"{name}.png")))
        assert image.size[0] == pytest.approx(1408, abs=2)
        colours = {c for _, c in image.convert("RGB").getcolors(1 << 24) or []}
        assert (0, 0x64, 0xA8) in colours  # the agent is there, and blue


def test_the_csv_files_hold_what_the_pictures_show(made):
    results = made[1].results
    rows = list(csv.DictReader(io.StringIO(read(made[0], "learning_curve.csv").decode())))
    of_seed = [r for r in rows if r["of"] == "seed 2" and r["curve"] == "training"]
    assert [(int(r["step"]), float(r["return"])) for r in of_seed] == list(
        results.curves[1].training
    )
    mean = [r for r in rows if r["of"] == "mean over seeds" and r["curve"] == "evaluation"]
    ends = [c.evaluation[-1][1] for c in results.curves]
    assert float(mean[-1]["return"]) == pytest.approx(sum(ends) / 2)
    assert (float(mean[-1]["band_low"]), float(mean[-1]["band_high"])) == pytest.approx(
        (min(ends), max(ends))
    )
    rows = list(csv.DictReader(io.StringIO(read(made[0], "evaluation.csv").decode())))
    assert [r["policy"] for r in rows if not r["option"]] == [p.policy for p in results.policies]
    assert len([r for r in rows if r["option"] == "Cref_signal"]) == 16
    rows = list(csv.DictReader(io.StringIO(read(made[0], "episode.csv").decode())))
    assert {r["policy"] for r in rows} == {"agent", "p-controller"}
    assert len(rows) == 182


def test_panels_have_units_and_references(made):
    found = data.episode(made[0], made[1].results, [])
    assert found is not None
    shown = {p.column: p for p in found.panels}
    assert "state_Cref" not in shown  # drawn with the state that should follow it
    assert (shown["state_Cr"].reference, shown["state_Cr"].unit) == ("state_Cref", "kmol/m³")
    assert (shown["action_0"].kind, shown["action_0"].title) == ("action", "action")
    assert list(shown)[-1] == "reward"


def test_five_seeds_get_a_band_over_seeds(tmp_path):
    results = collect(write_experiment(tmp_path, seeds=(1, 2, 3, 4, 5)))
    training = data.curves(results)[0]
    assert training.band == "95 % interval over 5 seeds"
    last = [points[-1][1] for points in training.seeds.values()]
    assert training.mean[-1] == pytest.approx(sum(last) / 5)
    interval = over_seeds(last)
    assert interval is not None
    assert (training.low[-1], training.high[-1]) == pytest.approx((interval.low, interval.high))
    texts = " ".join(html.method(results, [training]))
    assert "95 % interval of the mean over 5 seeds" in texts
    assert "Over 5 seeds such an interval was measured to hold the truth in 9" in texts


def test_the_method_names_what_was_played_and_by_which_rule(tmp_path):
    found = collect(write_experiment(tmp_path))
    agent, *rest = found.policies
    texts = " ".join(html.method(found, []))
    assert "All policies are evaluated on the same episode seeds" in texts
    assert "an earlier version of drillyard evaluated are Student's t" in texts
    trials = [
        dataclasses.replace(agent, trial=n, role=role)
        for n, role in ((1, "searched"), (2, "searched"), (3, "confirms"))
    ]
    now = [
        dataclasses.replace(p, interval=dataclasses.replace(p.interval, method=METHOD))
        if p.interval is not None
        else p
        for p in rest
    ]
    texts = " ".join(html.method(dataclasses.replace(found, policies=(*trials, *now)), []))
    assert "The winner's second run plays other episodes than those that chose it." in texts
    assert "All other policies are evaluated on the same episode seeds" in texts
    assert "earlier version" not in texts and "A baseline has no interval where" not in texts
    certain = dataclasses.replace(found.baselines[0], interval=None)
    texts = " ".join(html.method(dataclasses.replace(found, policies=(certain,)), []))
    assert "A baseline has no interval where it returns the same in all episodes" in texts


@pytest.mark.parametrize(
    ("changes", "missing", "expected"),
    [
        pytest.param(
            {"seeds": (1, 2, 3), "finished": 1},
            set(),
            "1 of 3 runs have finished",
            marks=pytest.mark.heavy,
        ),
        ({"finished": 0}, {"evaluation", "episode"}, "No agent was evaluated yet"),
        ({"finished": 0, "failed": 2}, {"learning_curve", "evaluation", "episode"}, "NaN at step"),
        pytest.param(
            {"evaluations": False, "seeds": (1,)}, set(), "One seed.", marks=pytest.mark.heavy
        ),
    ],
)
def test_every_stage_has_a_report(tmp_path, changes, missing, expected):
    box = write_experiment(tmp_path, **changes)  # type: ignore[arg-type]
    files = render(box, collect(box), made_at=T0)
    assert set(files) == {n for n in NAMES if n.split(".")[0] not in missing}
    page = Page(files["index.html"].decode())
    assert expected in " ".join("".join(page.texts).split())


def test_names_from_users_stay_text(tmp_path):
    evil = '<script>alert("x")</script>'
    box = write_experiment(tmp_path, seeds=(1,))
    results = collect(box)
    policies = tuple(
        dataclasses.replace(
            p,
            policy=f"{evil}&{p.policy}" if p.baseline else p.policy,
            by_option={evil: {evil: 1.0}},
            metrics={evil: 1.0},
        )
        for p in results.policies
    )
    runs = tuple(dataclasses.replace(x, message=evil, hint=evil) for x in results.runs)
    results = dataclasses.replace(
        results,
        name=evil,
        policies=policies,
        runs=runs,
        command=["drillyard", evil],
        warnings=(evil,),
        provenance={"seeds": evil},
        versions={evil: evil},
    )
    text = render(box, results, made_at=T0)["index.html"].decode()
    assert "<script" not in text
    assert "script" not in Page(text).tags
    assert "&lt;script&gt;" in text


def test_a_name_with_dollars_is_no_formula(tmp_path):
    box = write_experiment(tmp_path, seeds=(1,))
    results = collect(box)
    policies = tuple(
        dataclasses.replace(p, policy=f"$\\frac{{{p.policy}$") for p in results.policies
    )
    picture = training_pictures.evaluation(dataclasses.replace(results, policies=policies))
    assert "$\\frac{hold$" in picture.inline


@pytest.mark.heavy
def test_a_damaged_episode_is_said_on_the_page(tmp_path):
    box = write_experiment(tmp_path)
    for run in ("t0001-s1", "t0001-s2"):
        box.store.put(box.key(f"runs/{run}/attempts/evaluate-1/trajectories/agent.csv"), b"t\n1\n")
    files = render(box, collect(box), made_at=T0)
    assert "episode.png" not in files
    text = files["index.html"].decode()
    assert "Some parts are missing" in text
    assert "its evaluation episode cannot be read" in text


@pytest.mark.heavy
def test_also_into_a_local_folder(tmp_path):
    box = write_experiment(tmp_path / "store", seeds=(1,), finished=0)  # one picture is enough
    made = build(box, tmp_path / "out" / "here")
    assert made.index == str(tmp_path / "out" / "here" / "index.html")
    here = {p.name: p.read_bytes() for p in (tmp_path / "out" / "here").iterdir()}
    assert here == {Path(key).name: box.store.get(box.key(key)) for key in made.keys}
    assert {"index.html", "learning_curve.svg"} <= here.keys()


def test_a_store_that_may_only_be_read_still_has_a_report(tmp_path, monkeypatch):
    box = write_experiment(tmp_path / "store", seeds=(1,), finished=0)  # one picture is enough

    def refused(key: str, data: bytes) -> None:
        raise StoreUnavailable(f"no permission at {key}")

    monkeypatch.setattr(box.store, "put", refused)
    made = build(box, tmp_path / "out")
    assert made.local is not None and made.local.read_bytes() and made.keys == ()
    with pytest.raises(StoreUnavailable, match="no permission"):
        build(box)


def test_a_baseline_far_away_does_not_flatten_the_curves(tmp_path):
    results = collect(write_experiment(tmp_path, seeds=(1,)))
    far = tuple(
        dataclasses.replace(p, mean_return=-1e6) if p.policy == "random" else p
        for p in results.policies
    )
    picture = training_pictures.learning_curve(
        data.curves(results), dataclasses.replace(results, policies=far)
    )
    assert ">hold<" in picture.inline
    assert ">random<" not in picture.inline


def test_provenance_of_a_part_counts_for_what_it_holds(tmp_path):
    results = collect(write_experiment(tmp_path, seeds=(1,)))
    results = dataclasses.replace(results, provenance={"simulator": "cstr.yaml, line 4"})
    chosen, defaults = html.configuration(results)
    rows = {row[0]: row[1:] for row in chosen.rows}
    assert rows["simulator.lesson.Cref_signal.values"] == ("[1, 2, 3, 4]", "cstr.yaml, line 4")
    assert "learner.algorithm" in {row[0] for row in defaults.rows}


def test_units_of_the_file_come_before_those_of_the_simulator(tmp_path):
    box = write_experiment(
        tmp_path, seeds=(1,), report={"units": {"Tr": "°R", "reward": "points"}}
    )
    found = data.episode(box, collect(box), [])
    assert found is not None
    units = {p.column: p.unit for p in found.panels}
    assert (units["state_Tr"], units["reward"], units["state_Tc"]) == ("°R", "points", "K")


def test_a_baseline_by_module_and_class_has_its_episode(tmp_path):
    box = write_experiment(tmp_path, seeds=(1,), best_baseline="my_rules:Pid")
    found = data.episode(box, collect(box), [])
    assert found is not None
    assert list(found.policies) == ["agent", "my_rules:Pid"]
    assert found.meta["my_rules:Pid"]["return"] == 61.5


def test_texts_beside_the_axes_are_not_cut(tmp_path):
    results = collect(write_experiment(tmp_path, seeds=(1,)))
    wide = tuple(
        dataclasses.replace(
            p,
            mean_return=-1_234_567.0,
            interval=dataclasses.replace(p.interval, low=-1_300_000.0, high=-1_200_000.0),
        )
        for p in results.policies
        if p.interval
    )
    picture = training_pictures.evaluation(dataclasses.replace(results, policies=wide))
    image = Image.open(io.BytesIO(picture.png)).convert("L")
    edge = image.crop((image.width - 4, 0, image.width, image.height))
    assert edge.getextrema()[0] > 200  # no ink where the picture ends
    assert "-1,300,000 to -1,200,000" in picture.inline


def test_observations_have_the_names_of_the_file():
    columns = {"agent": {"t": [1.0], "state_0": [0.1], "state_1": [0.2], "reward": [1.0]}}
    shown = episode_of(columns, {}, {"state_angle": "rad"}, ["position", "angle"]).panels
    assert [(p.title, p.unit) for p in shown[:2]] == [("position", ""), ("angle", "rad")]
    assert [p.title for p in episode_of(columns, {}, {}).panels[:2]] == ["0", "1"]


def test_observations_of_gymnasium_have_its_documented_names():
    def shown(values: int, simulator: str, names: tuple[str, ...] = ()) -> list[tuple[str, str]]:
        own = {f"state_{i}": [0.1] for i in range(values)}
        columns = {"agent": {"t": [1.0], **own, "reward": [1.0]}}
        found = episode_of(columns, {}, {}, names, simulator=simulator)
        return [(p.title, p.unit) for p in found.panels if p.kind == "state"]

    assert shown(4, "CartPole-v1")[1:3] == [("cart velocity", ""), ("pole angle", "rad")]
    assert shown(2, "MountainCar-v0")[0] == ("position", "m")
    # The file's own names win, and an observation of another size has other values.
    assert shown(2, "MountainCar-v0", ("place", "speed"))[0] == ("place", "m")
    assert [title for title, _ in shown(3, "CartPole-v1")] == ["0", "1", "2"]
    assert shown(1, "FrozenLake-v1") == [("observation", "")]


def test_every_named_observation_has_the_size_of_its_simulator():
    for name, named in gymnasium_names.NAMES.items():
        ids = [spec for key, spec in gymnasium.registry.items() if key.rpartition("-v")[0] == name]
        assert ids, name
        if "box2d" not in str(ids[-1].entry_point) and "mujoco" not in str(ids[-1].entry_point):
            env = gymnasium.make(ids[-1].id)
            assert env.observation_space.shape == (len(named),)
            env.close()
    assert len(gymnasium_names.NAMES["LunarLander"]) == 8
    assert len(gymnasium_names.NAMES["BipedalWalker"]) == 24


def test_each_form_of_a_picture_is_drawn_once(tmp_path, monkeypatch):
    results = collect(write_experiment(tmp_path, seeds=(1,)))
    drawn = []
    real = Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda self, to: (drawn.append(to), real(self, to)))
    picture = training_pictures.evaluation(results)
    assert len(drawn) == len([picture.png, picture.svg, picture.inline, picture.narrow])
    assert picture.narrow
