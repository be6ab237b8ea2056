"""What of an experiment's folder travels, and what is said about the rest."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from drillyard.errors import ConfigError
from drillyard.findings import Severity
from drillyard.mailbox import Mailbox, open_store
from drillyard.runs import travelling
from drillyard.runs.code_archive import install, upload
from drillyard.spec.load import load

FILE = """
name: plant
simulator: {{id: "plant:Plant"}}
learner: {{algorithm: ppo}}
train: {{steps: 256}}
{}
"""


def experiment(folder, more="", **files):
    folder.mkdir(exist_ok=True)
    (folder / "plant.yaml").write_text(FILE.format(more))
    (folder / "plant.py").write_text("A = 1")
    for name, size in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"1" * size)
    return load(folder / "plant.yaml")


def test_files_of_the_experiment_name_files_folders_and_patterns(tmp_path):
    more = "files: [mesh.bin, 'tables/*.dat', parts]"
    sizes = dict.fromkeys(["mesh_bin", "a_bin", "tables__b_dat", "parts__c_part"], 1)
    packed = travelling.packed(experiment(tmp_path / "p", more, **sizes))
    assert sorted(packed.files) == ["mesh.bin", "parts/c.part", "plant.py", "tables/b.dat"]


@pytest.mark.parametrize("pattern", ["none.bin", "../x.bin", "/etc/passwd", "", ".", "**x"])
def test_files_that_name_nothing_of_the_folder_are_refused(tmp_path, pattern):
    (tmp_path / "x.bin").write_text("1")
    loaded = experiment(tmp_path / "p", f"files: ['{pattern}']")
    with pytest.raises(ConfigError, match="names no file") as refusal:
        travelling.packed(loaded)
    assert refusal.value.field == "files[0]" and refusal.value.hint


@pytest.mark.parametrize("pattern", ["mesh.bin", "tables", "tables/*.dat"])
def test_a_link_that_is_named_is_refused(tmp_path, pattern):
    loaded = experiment(tmp_path / "p", f"files: ['{pattern}']")
    (tmp_path / "p" / "mesh.bin").symlink_to("/etc/passwd")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.dat").write_text("1")
    (tmp_path / "p" / "tables").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigError, match="is a link") as refusal:
        travelling.packed(loaded)
    assert refusal.value.value == pattern.removesuffix("/*.dat")


def test_a_store_in_the_folder_stays_also_if_everything_is_named(tmp_path):
    loaded = experiment(tmp_path / "p", "files: ['*']", mesh_bin=1, runs__a_bin=1)
    packed = travelling.packed(loaded, [tmp_path / "p" / "runs"])
    assert sorted(packed.files) == ["mesh.bin", "plant.py"]


def test_a_warning_names_what_stays_with_its_size_and_documents_are_quiet(tmp_path):
    sizes = {"mesh_bin": 2_500_000, "x_grid": 1200, "README_md": 10, "notes_pdf": 10}
    loaded = experiment(tmp_path / "p", **sizes)
    (tmp_path / "p" / "key.txt").write_text("-----BEGIN RSA PRIVATE KEY-----")
    listed, secret, left = travelling.findings(travelling.packed(loaded), loaded.folder)
    assert listed.severity is Severity.OK and "1 file travels to" in listed.message
    assert "README.md" in listed.message and "mesh.bin" not in listed.message
    assert secret.severity is left.severity is Severity.WARNING
    assert "key.txt holds a private key: never travels" in secret.message
    assert "mesh.bin (2.5 MB), x.grid (1.2 kB)" in left.message
    assert "notes.pdf" not in left.message
    assert "files: [mesh.bin, x.grid]" in str(left.fix)


def test_what_a_trial_opened_travels_while_it_exists_and_adds_up(tmp_path):
    loaded = experiment(tmp_path / "p", mesh_bin=1, x_grid=1, y_grid=1)
    travelling.remember_opened(loaded, ["mesh.bin"])
    travelling.remember_opened(loaded, ["x.grid"])
    assert sorted(travelling.packed(loaded).files) == ["mesh.bin", "plant.py", "x.grid"]
    (tmp_path / "p" / "mesh.bin").unlink()
    assert sorted(travelling.packed(loaded).files) == ["plant.py", "x.grid"]
    (tmp_path / "p" / ".drillyardignore").write_text("x.grid")
    assert sorted(travelling.packed(loaded).files) == ["plant.py"]
    other = experiment(tmp_path / "q", x_grid=1)
    assert sorted(travelling.packed(other).files) == ["plant.py"]


def test_what_came_from_a_store_is_packed_again_under_the_same_name(tmp_path):
    """Otherwise `resume NAME` would be another experiment."""
    sizes = dict.fromkeys(["mesh_bin", "build__a_dat", "z_py", "old__a_csv", "old__b_csv"], 3)
    loaded = experiment(tmp_path / "p", "files: [build, mesh.bin, old/a.csv]", **sizes)
    (tmp_path / "p" / ".drillyardignore").write_text("old/")
    first = travelling.packed(loaded)
    assert list(first.files) == ["build/a.dat", "mesh.bin", "old/a.csv", "plant.py", "z.py"]
    mailbox = Mailbox(open_store(str(tmp_path / "store")), "plant")
    upload(mailbox, first)
    (folder,) = install(mailbox, first.sha256, [], tmp_path / "w")
    fetched = replace(loaded, folder=folder, file=folder / "experiment.json", whole=True)
    assert travelling.packed(fetched).sha256 == first.sha256
    before = (list(sys.path), Path.cwd())
    with travelling.unpacked(mailbox, first.sha256):
        assert Path("build/a.dat").read_bytes() == b"111"
        assert sys.path[0] == str(Path.cwd())
    assert (list(sys.path), Path.cwd()) == before
