"""The user's folder on its way: what travels, what does not, and what is refused."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from drillyard.errors import CorruptObject, InfrastructureError, UserError
from drillyard.mailbox import Mailbox, open_store
from drillyard.runs import code_archive as bundles
from drillyard.runs import requirements as of_workers
from drillyard.runs.code_archive import install, pack, upload
from drillyard.runs.requirements import install_requirements
from tests.helpers.answering import answering
from tests.helpers.processes import run_process
from tests.helpers.wheel_index import serve, wheel


@pytest.fixture
def mailbox(tmp_path):
    return Mailbox(open_store(str(tmp_path / "store")), "exp")


def project(folder: Path) -> Path:
    """A folder with everything that should and should not travel."""
    files = {
        "world.py": "A = 1\n",
        "nets/big.py": "B = 2\n",
        "data/table.csv": "1,2\n",
        "plant.yaml": "volume: 3\n",
        "exp.yaml": "schema: 1\nname: x\nsimulator: {id: world:World}\n",
        "exp.json": '{"schema": 1, "simulator": {"id": "a"}}',
        "README.md": "no",
        "model.bin": "no",
        ".secret.py": "no",
        ".git/hooks.py": "no",
        "__pycache__/world.py": "no",
        "myenv/pyvenv.cfg": "no",
        "myenv/lib/x.py": "no",
        "results/exp/experiment.json": "no",
        "old/notes.py": "no",
        ".drillyardignore": "# comment\nold/\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_folder_in_which_files_disappear_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "PAUSE_S", 0.001)
    folder = project(tmp_path / "p")
    expected = pack(folder).sha256
    (folder / "build-1").mkdir()
    (folder / "build-1/left.py").write_text("L = 1\n")
    walk, reads = os.scandir, Path.read_bytes

    def scandir(path: Path) -> object:
        if str(path).endswith("build-1"):
            monkeypatch.undo()
            shutil.rmtree(path)
        return walk(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert pack(folder).sha256 == expected
    assert not (folder / "build-1").exists()

    (folder / "swap.py").write_text("S = 1\n")

    def read_bytes(path: Path) -> bytes:
        if path.name == "swap.py":
            path.unlink()
            raise OSError(errno.ESTALE, "Stale file handle", str(path))  # as NFS says it
        return reads(path)

    monkeypatch.setattr(bundles, "PAUSE_S", 0.001)
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert pack(folder).sha256 == expected


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(2, "No such file", "/p/x.py"), "while it is read: /p/x.py disappeared"),
        (PermissionError(13, "Permission denied", "/p/x.py"), "/p/x.py cannot be read"),
    ],
)
def test_a_folder_that_cannot_be_read_is_the_users_to_fix(tmp_path, monkeypatch, error, words):
    monkeypatch.setattr(bundles, "PAUSE_S", 0.001)

    def read_bytes(_: Path) -> bytes:
        raise error

    folder = project(tmp_path / "p")
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(UserError, match=words) as refused:
        pack(folder)
    assert refused.value.hint and ".drillyardignore" in refused.value.hint


def test_what_travels(tmp_path):
    packed = pack(project(tmp_path / "p"))
    assert sorted(packed.files) == ["data/table.csv", "nets/big.py", "plant.yaml", "world.py"]


def test_models_of_plants_and_their_data_travel(tmp_path):
    folder = project(tmp_path / "p")
    names = "plant.fmu office.epJSON office.idf city.epw city.ddy maps.zip run.mat a.h5 b.parquet"
    names += " tank.mo tank.slx tables/pump.xlsx"
    (folder / "tables").mkdir()
    for name in names.split():
        (folder / name).write_text("1")
    assert set(names.split()) <= set(pack(folder).files)


PEM = "-----BEGIN {}PRIVATE KEY-----\nMIIEvQ\n-----END {}PRIVATE KEY-----\n"
SECRETS = {
    "notes.txt": PEM.format("", "").encode(),
    "deploy.yaml": b"key: |\n" + PEM.format("OPENSSH ", "OPENSSH ").encode(),
    "account.json": b'{"private_key": "-----BEGIN PRIVATE KEY-----\\nMII"}',
    "login.csv": b"PuTTY-User-Key-File-3: ssh-ed25519\n",
    "identity.txt": b"AGE-SECRET-KEY-1QQ\n",
    "store.zip": b"\x30\x82\x0a\x5c\x02\x01\x03\x30\x82",
    "old.mat": b"\x30\x82\x04\xa4\x02\x01\x00\x02\x82\x01\x01\x00",
    "new.mat": b"\x30\x82\x04\xbe\x02\x01\x00\x30\x0d\x06\x09\x2a",
    "curve.mat": bytes.fromhex("308187020100301306072a8648ce3d0201"),
    "short.mat": bytes.fromhex("302e020100300506032b657004220420"),
    "sec1.mat": bytes.fromhex("307702010104206b"),
    "mail.txt": b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n",
    "keys.h5": b"\xfe\xed\xfe\xed\x00\x00\x00\x02",
    "variables.txt": b"# for the service\nREGION=eu\nexport API_TOKEN='abc'\n",
    "prod.env": b"REGION=eu\n",
}


@pytest.mark.parametrize("everything", [False, True])
def test_no_private_key_and_no_variables_with_secrets_travel_whatever_their_name(
    tmp_path, everything
):
    folder = project(tmp_path / "p")
    for name, data in SECRETS.items():
        (folder / name).write_bytes(data)
    harmless = {
        "public.txt": b"-----BEGIN PUBLIC KEY-----\nMIIB\n",
        "sizes.txt": b"TOKENS_PER_STEP=\nWIDTH=3\n",
        "constants.py": b"MAX_TOKENS = 20  # of an answer\nUSE_API_TOKEN = False\n",
        "words.txt": b"API_TOKEN=abc\nhere are some words\n",
        "empty.txt": b"",
    }
    for name, data in harmless.items():
        (folder / name).write_bytes(data)
    packed = pack(folder, everything=everything, named=[folder / name for name in SECRETS])
    assert not set(SECRETS) & set(packed.files) and set(harmless) <= set(packed.files)
    assert all(packed.stays[name].startswith("holds ") for name in SECRETS)


def test_what_is_named_travels_whatever_keeps_others_here(tmp_path):
    folder = project(tmp_path / "p")
    named = ["model.bin", "old/notes.py", "build/mesh.dat", ".hidden/a.bin"]
    for name in named[2:]:
        (folder / name).parent.mkdir()
        (folder / name).write_text("1")
    packed = pack(folder, [folder / "exp.yaml"], named=[Path("exp.yaml"), *map(Path, named)])
    assert set(named) <= set(packed.files) and "exp.yaml" not in packed.files
    assert not set(named) & set(packed.stays)


def test_of_a_script_everything_travels_that_git_would_keep(tmp_path, mailbox):
    folder = project(tmp_path / "p")
    more = {
        "solver": "#!/bin/sh\n",
        "mesh.inp": "1",
        "logs/a.log": "no",
        "logs/keep.log": "1",
        "cache/x/deep.dat": "no",
        "sub/only-here": "no",
        "sub/.gitignore": "/only-here\n",
        "only-here": "1",
        "data/big.grid": "1",
        ".gitignore": "*.log\n!keep.log\ncache/\ndata/*.grid\ndata/**/*.tmp\n",
        "data/a/b/x.tmp": "no",
        "secret[1].key": "no",
    }
    for name, text in more.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "solver").chmod(0o755)
    # Ours is read after git's: it may take back what git does not keep.
    (folder / ".drillyardignore").write_text("old/\n!data/big.grid\n*.[jk]ey\n")
    packed = pack(folder, everything=True)
    expected = {"README.md", "model.bin", "solver", "mesh.inp", "logs/keep.log", "only-here"}
    expected |= {"data/big.grid", "data/table.csv", "nets/big.py", "plant.yaml", "world.py"}
    assert set(packed.files) == expected
    assert packed.stays[".gitignore"] == "hidden"
    assert packed.stays["cache"] == ".gitignore:3: cache/"
    assert packed.stays["secret[1].key"] == ".drillyardignore:3: *.[jk]ey"
    assert packed.stays["exp.yaml"] == "an experiment"
    assert pack(folder).stays["solver"] == "its ending"
    upload(mailbox, packed)
    (code,) = install(mailbox, packed.sha256, [], tmp_path / "worker")
    assert os.access(code / "solver", os.X_OK) and not os.access(code / "mesh.inp", os.X_OK)


@pytest.mark.heavy
def test_the_rules_are_those_of_git(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("no git here")
    folder = tmp_path / "p"
    names = ["a.txt", "b/a.txt", "b/c/d.o", "b/c/e.o", "foo/bar/x", "x/foo/bar/y", "#odd", "!bang"]
    names += ["z/y/x/w", "tail ", "a?c", "abc", "k/m.o", "k/keep.o", "star*", "[x]", "q/q", "n-1"]
    names += ["w/keep", "w/u/n", "only/a.py", "only/s/b.py", "only/s/n.csv", "t/v/x.tmp", "t/v/y"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1")
    rules = "\\#odd\n\\!bang\nb/**/d.o\nfoo/bar\nz/**\n/a.txt\ntail\\ \na\\?c\nk/*\n!k/keep.o\n"
    rules += "star\\*\n**/q\nn-[!2-9]\n[[]x]\n\n# note\nq/\nw/**\n!w/keep\n*.tmp\n"
    (folder / ".gitignore").write_text(rules)
    # Folders stay in so that rules for their files can take some back, but not all of their files.
    (folder / "only" / ".gitignore").write_text("*\n!*/\n!*.py\n")
    (folder / "t" / ".gitignore").write_text("!v/\n")
    git = ["git", "-C", str(folder)]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = run_process(
        [*git, "ls-files", "-z", "--others", "--exclude-standard"],
        more={"GIT_CONFIG_GLOBAL": "/dev/null"},
        check=True,
    )
    kept = {name for name in listed.stdout.split("\0") if name and "/." not in f"/{name}"}
    assert {"w/keep", "only/s/b.py", "t/v/y"} <= kept and "t/v/x.tmp" not in kept
    assert set(pack(folder, everything=True).files) == kept


def test_the_same_content_has_the_same_name_and_bytes(tmp_path):
    one = pack(project(tmp_path / "one"))
    two_folder = project(tmp_path / "two")
    os.utime(two_folder / "world.py", (1, 1))
    os.chmod(two_folder / "world.py", 0o755)
    (two_folder / "exp.yaml").write_text("schema: 1\nname: x\nseeds: [1]\nsimulator: {id: a}\n")
    two = pack(two_folder)
    assert (one.sha256, one.data) == (two.sha256, two.data)
    (two_folder / "world.py").write_text("A = 2\n")
    assert pack(two_folder).sha256 != one.sha256


def test_excluded_files_and_folders_stay(tmp_path):
    folder = project(tmp_path / "p")
    packed = pack(folder, [folder / "nets", folder / "plant.yaml"])
    assert sorted(packed.files) == ["data/table.csv", "world.py"]


def test_what_this_machine_remembers_stays(tmp_path, monkeypatch):
    (tmp_path / "home" / "verified").mkdir(parents=True)
    (tmp_path / "home" / "verified" / "a.json").write_text("{}")
    (tmp_path / "mine.py").write_text("x = 1")
    assert sorted(pack(tmp_path).files) == ["home/verified/a.json", "mine.py"]
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    assert sorted(pack(tmp_path).files) == ["mine.py"]


def test_links_are_refused_by_name(tmp_path):
    folder = project(tmp_path / "p")
    (folder / "linked.py").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match=r"linked\.py is a link"):
        pack(folder)


def test_too_large_names_the_biggest(tmp_path, monkeypatch):
    folder = project(tmp_path / "p")
    (folder / "huge.npz").write_bytes(bytes(5000))
    monkeypatch.setattr(bundles, "MAX_BYTES", 4000)
    with pytest.raises(UserError, match=r"too large.*huge\.npz") as caught:
        pack(folder)
    assert ".drillyardignore" in str(caught.value.hint)


def test_install_unpacks_once_and_verifies(tmp_path, mailbox):
    packed = pack(project(tmp_path / "p"))
    upload(mailbox, packed)
    there: list[list[Path]] = []
    racers = [
        threading.Thread(
            target=lambda: there.append(install(mailbox, packed.sha256, [], tmp_path / "w"))
        )
        for _ in range(4)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(there) == 4
    (path,) = there[0]
    assert (path / "nets/big.py").read_text() == "B = 2\n"
    assert {p.name for p in (tmp_path / "w").iterdir()} == {path.name, "code.lock"}
    assert install(mailbox, None, [], tmp_path / "w") == []


@pytest.mark.parametrize("damage", ["missing", "truncated", "other"])
def test_a_damaged_bundle_is_not_used(tmp_path, mailbox, damage):
    packed = pack(project(tmp_path / "p"))
    key = mailbox.key(f"code/{packed.sha256}.tar.gz")
    if damage == "truncated":
        mailbox.store.put(key, packed.data[:-20])
    if damage == "other":
        mailbox.store.put(key, gzip.compress(b"x" * 10240))
    with pytest.raises(CorruptObject):
        install(mailbox, packed.sha256, [], tmp_path / "w")
    assert not list((tmp_path / "w").glob("code-*"))


@pytest.mark.parametrize("kind", ["up", "absolute", "link", "device"])
def test_an_evil_archive_writes_nothing_outside(tmp_path, mailbox, kind):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        entry = tarfile.TarInfo(
            {"up": "../evil.py", "absolute": str(tmp_path / "evil.py")}.get(kind, "evil.py")
        )
        if kind == "link":
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        elif kind == "device":
            entry.type = tarfile.CHRTYPE
        else:
            entry.size = 4
        tar.addfile(entry, io.BytesIO(b"evil"))
    sha = hashlib.sha256(raw.getvalue()).hexdigest()
    mailbox.store.put(mailbox.key(f"code/{sha}.tar.gz"), gzip.compress(raw.getvalue()))
    with pytest.raises(CorruptObject, match="unpacked"):
        install(mailbox, sha, [], tmp_path / "w")
    assert not (tmp_path / "evil.py").exists()
    assert not (tmp_path / "w" / "evil.py").exists()


@pytest.fixture
def index(tmp_path, monkeypatch):
    folder = tmp_path / "wheels"
    wheel(folder, "dy_leaf", "1.5")
    # pytest is there already, and in no index: it must not be fetched again.
    wheel(folder, "dy_root", "2.0", "dy_leaf>=1,<2", "pytest>=7")
    wheel(folder, "dy_broken", "1.0", "dy_nowhere==9")
    serve(folder, monkeypatch)
    return folder


@pytest.mark.heavy
def test_requirements_bring_what_is_missing_and_no_more(tmp_path, index):
    site = install_requirements(["dy_root==2.0"], tmp_path / "w")
    assert sorted(p.name for p in site.glob("*.py")) == ["dy_leaf.py", "dy_root.py"]
    before = (site / "dy_root.py").stat().st_mtime_ns
    assert install_requirements(["dy_root==2.0"], tmp_path / "w") == site
    assert (site / "dy_root.py").stat().st_mtime_ns == before
    pytest_version = pytest.__version__
    none = install_requirements([f"pytest=={pytest_version}"], tmp_path / "w")
    assert list(none.iterdir()) == []


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        ("dy_absent==1.0", "requirement dy_absent==1.0 cannot be found"),
        ("dy_broken==1.0", "requirement dy_nowhere==9 cannot be found"),
        ("dy_root>=1", "not pinned"),
        ("dy_root", "not pinned"),
        ("--index-url=http://evil", "not pinned"),
        ("dy_root @ http://evil/x.whl", "not pinned"),
        ("dy_root==1.*", "not pinned"),
    ],
)
def test_a_requirement_that_fails_is_named(tmp_path, index, requirement, words):
    with pytest.raises(UserError, match=words):
        install_requirements([requirement], tmp_path / "w")
    assert not list((tmp_path / "w").glob("packages-*")) if (tmp_path / "w").exists() else True


def test_versions_for_other_pythons_are_not_the_reason_why_a_requirement_cannot_be_found():
    output = (
        "ERROR: Ignored the following versions that require a different python version: 1.21.2\n"
        "ERROR: Could not find a version (from versions: 1)\n"
        "ERROR: No matching distribution found for dy_a==9"
    )
    message = of_workers._failure(["dy_a==9"], output, "", "").message
    assert message.startswith("requirement dy_a==9 cannot be found: Could not find")


@pytest.mark.heavy
@pytest.mark.parametrize("answer", [503, None, 404])
def test_an_index_that_is_away_is_not_the_users_error(tmp_path, index, monkeypatch, answer):
    with ExitStack() as serving:
        url = serving.enter_context(answering(lambda request: (answer or 500, b"")))
        if answer is None:
            serving.close()  # nobody listens there
        monkeypatch.setenv("PIP_NO_INDEX", "0")
        monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        kind = UserError if answer == 404 else InfrastructureError
        words = "cannot be found" if answer == 404 else "the package index does not answer"
        with pytest.raises(kind, match=words):
            install_requirements(["dy_absent==1.0"], tmp_path / "w")


@pytest.mark.parametrize(
    ("reason", "away"),
    [
        ("connection error: [Errno 111] Connection refused", True),
        ("pypi.org didn't respond within 15.0 seconds (while establishing a connection)", True),
        ("proxy connection error: Tunnel connection failed: 502", True),
        ("404 Client Error: Not Found for url: https://pypi.org/simple/x/", False),
        ("There was a problem confirming the ssl certificate: expired", False),
    ],
)
def test_what_pip_26_logs_when_an_index_is_away(reason, away):
    logged = f"Could not fetch URL https://pypi.org/simple/x/: {reason} - skipping"
    assert bool(of_workers._AWAY.search(logged)) is away


@pytest.mark.heavy
def test_install_returns_code_before_packages(tmp_path, index, mailbox, monkeypatch):
    packed = pack(project(tmp_path / "p"))
    upload(mailbox, packed)
    code, site = install(mailbox, packed.sha256, ["dy_leaf==1.5"], tmp_path / "w")
    monkeypatch.setattr(sys, "path", [str(code), str(site), *sys.path])
    import dy_leaf  # type: ignore[import-not-found]

    assert dy_leaf.VERSION == "1.5"
    assert Path(dy_leaf.__file__).parent == site
