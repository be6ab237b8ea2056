"""The store over SFTP keeps the contract against a real OpenSSH server."""

import errno
import getpass
import os
import subprocess
import sys

import pytest

from drillyard.errors import ConfigError, StoreUnavailable, UserError
from drillyard.mailbox import open_store
from drillyard.mailbox.file import FileStore
from drillyard.system.redaction import has_userinfo, redact
from drillyard.testing.store_suite import StoreSuite
from drillyard_backends.ssh.connection import Connection
from drillyard_backends.ssh.store import split
from tests.helpers.no_hard_links import refusing_links
from tests.helpers.sshd import SSHD, Sshd

pytestmark = pytest.mark.skipif(SSHD is None, reason="no sshd (Debian: openssh-server)")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    one = Sshd(tmp_path_factory.mktemp("sshd")).start()
    yield one
    Connection.close_all()
    one.stop()


@pytest.fixture
def log_in(server, monkeypatch):
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "the folder there"


@pytest.fixture
def store(server, folder, log_in):
    return open_store(f"sftp://{server.address}{folder}")


class TestSftpStore(StoreSuite):
    """The suite; both clients in this process share a connection."""

    @pytest.fixture
    def other(self, store):
        return open_store(store.url)


class TestSftpAndFolder(StoreSuite):
    """A driver over SFTP and a worker on the machine itself are two clients of one place."""

    test_many_objects = None  # a listing is no other one here

    @pytest.fixture
    def other(self, store, folder):
        return FileStore(str(folder))


def test_a_writer_that_is_killed_leaves_the_old_bytes_or_the_new(store, folder):
    store.put("a/k", b"old")
    program = (
        "import sys; from drillyard.mailbox import open_store\n"
        "s = open_store(sys.argv[1]); s.stat('a/k'); print('go', flush=True)\n"
        "while True: s.put('a/k', b'new' * 300_000)\n"
    )
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", program, store.url], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "go\n"
        before = folder.joinpath("a/k").stat().st_mtime_ns
        while folder.joinpath("a/k").stat().st_mtime_ns == before:
            pass
        child.kill()
        child.wait()
        child.stdout.close()
        assert store.get("a/k") in (b"old", b"new" * 300_000)
        assert [info.key for info in store.list("")] == ["a/k"]


def test_what_killed_writers_left_is_swept_after_a_day(store, folder):
    store.put("exp/a/k", b"1")
    old, young = folder / "exp/a/.tmp-sftp-1-x", folder / "exp/a/.tmp-sftp-2-x"
    for path in (old, young):
        path.write_bytes(b"")
    # A worker on that machine knows no process 1-x or 2-x, and must leave both alone.
    assert FileStore(str(folder)).sweep("exp") == 0
    os.utime(old, (1, 1))
    assert store.sweep("exp") == 1
    assert not old.exists() and young.exists() and store.get("exp/a/k") == b"1"


def test_a_server_that_comes_back_costs_no_call(store, server):
    store.put("k", b"1")
    server.stop()
    server.start()
    assert store.get("k") == b"1"
    assert not store.put_if_absent("k", b"2")


def test_a_forked_process_opens_its_own_connection(store):
    store.put("k", b"from the parent")
    pid = os.fork()
    if pid == 0:
        try:
            store.put("child", store.get("k"))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert store.get("child") == b"from the parent"


def test_a_folder_that_may_not_be_written(server, log_in):
    store = open_store(f"sftp://{server.address}/proc/nothing")
    with pytest.raises(StoreUnavailable) as error:
        store.put("k", b"x")
    assert str(server.port) in str(error.value) and error.value.hint
    assert list(store.list("")) == []


def test_under_the_home_of_the_user_there(server, log_in):
    store = open_store(f"sftp://{server.address}/~/runs")
    assert store.put_if_absent("exp/k", b"x")
    assert (server.home / "runs/exp/k").read_bytes() == b"x"
    assert open_store(store.url).get("exp/k") == b"x"


@pytest.mark.parametrize(
    "url",
    [
        "sftp://",
        "sftp://host",
        "sftp://host/",
        "sftp://me:s3cret@host/x",
        "sftp://h/a/../b",
        "sftp://host:99999/x",
        "sftp://a b/x",
        "sftp://host/x?y=1",
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url):
    with pytest.raises(UserError) as error:
        split(url)
    assert "s3cret" not in str(error.value)


def test_a_login_name_is_no_secret_and_a_password_is():
    name = getpass.getuser()
    assert not has_userinfo(f"sftp://{name}@host/x")
    assert redact(f"sftp://{name}@host/x") == f"sftp://{name}@host/x"
    assert has_userinfo("sftp://me:s3cret@host/x")
    assert "s3cret" not in redact("sftp://me:s3cret@host/x")
    assert has_userinfo("https://token@host/x")


def test_a_password_in_a_store_url_is_refused_without_showing_it(log_in):
    from drillyard.spec.addresses import check_store_url

    with pytest.raises(ConfigError) as error:
        check_store_url("sftp://me:s3cret@host/x")
    assert "s3cret" not in str(error.value)


REFUSES = """#!{python}
{refusing}
import os
os.execv("{server}", ["sftp-server", "-d", "{home}"])
"""
SFTP_SERVER = "/usr/lib/openssh/sftp-server"


@pytest.mark.skipif(not os.path.exists(SFTP_SERVER), reason="no sftp-server beside sshd")
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_there_without_hard_links_is_said(tmp_path, monkeypatch, error):
    program = tmp_path / "sftp"
    program.write_text(
        REFUSES.format(
            python=sys.executable,
            refusing=refusing_links(error),
            server=SFTP_SERVER,
            home=tmp_path,
        )
    )
    program.chmod(0o755)
    server = Sshd(tmp_path / "sshd", sftp=str(program)).start()
    try:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = open_store(f"sftp://{server.address}{tmp_path}/store")
        store.put("plain", b"works")
        with pytest.raises(StoreUnavailable) as raised:
            store.put_if_absent("claim", b"token")
        assert "hard links" in raised.value.hint
        assert [path.name for path in (tmp_path / "store").iterdir()] == ["plain"]
    finally:
        Connection.close_all()
        server.stop()
