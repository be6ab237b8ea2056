"""Names to objects: who wins, what is refused, what a broken module says."""

import importlib
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from drillyard import registry
from drillyard.errors import ConfigError, PluginError


@pytest.fixture(autouse=True)
def own_registry(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_registrants", {})
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def module(tmp_path, name, text):
    (tmp_path / f"{name}.py").write_text(text)


SELF = "from drillyard import register\nclass A: pass\nclass B: pass\n"


def test_a_module_that_registers_itself_is_imported_for_its_name(tmp_path):
    module(tmp_path, "selfish", SELF + "register('learners', 'mine', 'selfish:A')\n")
    assert registry.load("learners", "selfish:mine").__name__ == "A"
    assert registry.load("learners", "mine").__name__ == "A"
    assert "mine" in registry.names("learners")


def test_a_name_of_another_module_is_not_taken(tmp_path):
    """`other:ppo` is not drillyard's ppo: that would be another algorithm than was asked for."""
    module(tmp_path, "other", "x = 1\n")
    with pytest.raises(PluginError, match="has no 'ppo'"):
        registry.load("learners", "other:ppo")


def test_the_same_object_by_both_ways_is_no_ambiguity(tmp_path):
    module(tmp_path, "both", SELF + "register('learners', 'a', 'both:A')\na = A\n")
    assert registry.load("learners", "both:a").__name__ == "A"


def test_two_objects_by_one_name_are_an_error(tmp_path):
    module(tmp_path, "clash", SELF + "register('learners', 'a', 'clash:A')\na = B\n")
    with pytest.raises(PluginError, match="is ambiguous") as error:
        registry.load("learners", "clash:a")
    assert "clash:A" in error.value.hint
    module(tmp_path, "clash2", SELF + "register('learners', 'b', 'clash2:A')\n")
    assert registry.load("learners", "clash2:B").__name__ == "B"


@pytest.mark.parametrize(
    ("kind", "name", "target", "word"),
    [
        ("learner", "x", "m:X", "no kind"),
        ("learners", "X", "m:X", "illegal name"),
        ("learners", "", "m:X", "illegal name"),
        ("learners", "x/y", "m:X", "illegal name"),
        ("learners", "x", "m.X", "module:Attribute"),
        ("learners", "ppo", "m:X", "already"),
        ("learners", "taken", "m:Y", "already"),
    ],
)
def test_what_cannot_be_registered(kind, name, target, word):
    registry.register("learners", "taken", "m:X")
    registry.register("learners", "taken", "m:X")  # the same again is no news
    with pytest.raises(PluginError, match=word) as error:
        registry.register(kind, name, target)
    assert error.value.hint


def test_unknown_names_come_with_the_nearest():
    with pytest.raises(PluginError, match="unknown learner 'pop'") as error:
        registry.load("learners", "pop")
    assert "'ppo'" in error.value.hint


def test_a_broken_module_is_shown_with_its_traceback(tmp_path):
    module(tmp_path, "torn", "def f():\n    raise RuntimeError('the seal leaks')\nf()\n")
    with pytest.raises(PluginError) as error:
        registry.load("learners", "torn:X")
    text = str(error.value)
    assert "the seal leaks" in text and "Traceback" in text and "torn.py" in text
    with pytest.raises(PluginError) as missing:
        registry.load("learners", "nowhere_at_all:X")
    assert "Traceback" not in str(missing.value)


class Dist:
    def __init__(self, name):
        self.name = name


def point(name, value, package):
    made = EntryPoint(name, value, "drillyard.learners")
    vars(made).update(dist=Dist(package))
    return made


def test_two_packages_with_one_name_are_told(monkeypatch):
    points = [
        point("twin", "a:X", "pack-a"),
        point("twin", "b:X", "pack-b"),
        point("ppo", "c:X", "pack-c"),
        point("ppo", "collections:OrderedDict", "drillyard"),
    ]
    monkeypatch.setattr(registry, "_installed", lambda: EntryPoints(points))
    registry._points.cache_clear()
    try:
        with pytest.raises(PluginError, match=r"pack-a \(a:X\) and pack-b \(b:X\)"):
            registry.load("learners", "twin")
        assert registry.load("learners", "ppo").__name__ == "OrderedDict"
        assert "ignored" in registry.conflict("learners", "ppo", "pack-c")
        assert registry.conflict("learners", "ppo", "drillyard") is None
        assert len(registry.describe("learners")) == 4
    finally:
        monkeypatch.undo()
        registry._points.cache_clear()


def test_a_folder_that_was_imported_does_not_hide_the_users_file(tmp_path, monkeypatch):
    (tmp_path / "outer" / "basin").mkdir(parents=True)
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "basin.py").write_text("class Basin: ...")
    monkeypatch.syspath_prepend(tmp_path / "outer")
    importlib.import_module("basin")
    monkeypatch.syspath_prepend(tmp_path / "user")
    assert registry.load_object("basin:Basin").__name__ == "Basin"


def test_a_file_name_for_a_module_gets_the_name_of_the_module():
    with pytest.raises(PluginError) as raised:
        registry.load_object("tank.py:Tank")
    assert raised.value.hint == "name the module, not its file: tank"


@pytest.mark.parametrize(
    ("more", "allowed", "hint"),
    [
        ({"value": "ridge", "known": ["bridge", "tower"]}, "bridge, tower", "'bridge'"),
        ({"value": 3, "keys": ["widths", "depth"]}, "widths, depth", "'widths'"),
        ({"value": "clip", "known": ["clip_range", "seed"]}, "clip_range, seed", "'clip_range'"),
        ({"value": "x", "known": []}, "none", ""),
        ({"value": "ridge", "known": ["bridge"], "allowed": "a or b"}, "a or b", "'bridge'"),
    ],
)
def test_an_error_says_which_known_name_is_nearest(more, allowed, hint):
    error = ConfigError("is unknown", field="args.width", **more)
    assert error.allowed == allowed and hint in (error.hint or "")
