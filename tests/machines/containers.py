"""Images of containers, built by buildah from our Dockerfiles on bases that are made here."""

from __future__ import annotations

import base64
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from drillyard_emulators.bare.root import Recipe
from tests.helpers.processes import run_process

_LIBRARIES = ("libbz2-1.0", "libffi8", "liblzma5", "libreadline8", "libsqlite3-0", "libuuid1")
"""What the modules of Python need of Debian."""
_SETTINGS = """[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
env = ["REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt"]
volumes = ["/etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
"""A container trusts the emulated services; limits may not be raised where tests run."""
_SIGN_IN = r"""#!/bin/sh
# As Google's program of this name: configures docker, and gives it the machine's token.
case "$1" in
configure-docker)
  mkdir -p "$HOME/.docker"
  printf '{"credHelpers": {"%s": "gcr"}}' "${2#--registries=}" >"$HOME/.docker/config.json" ;;
get)
  where=http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token
  given="$(curl -sf -H 'Metadata-Flavor: Google' "$where")"
  token="$(echo "$given" | sed 's/.*"access_token" *: *"\([^"]*\)".*/\1/')"
  printf '{"Username": "oauth2accesstoken", "Secret": "%s"}' "$token" ;;
esac
"""


def _placed(path: str, text: str) -> str:
    return f"echo {base64.b64encode(text.encode()).decode()} | base64 -d >{path}"


HOST = Recipe(
    packages=("catatonit", "crun", "podman", "podman-docker"),
    steps=(
        _placed("/etc/containers/containers.conf", _SETTINGS),
        _placed("/usr/local/bin/docker-credential-gcr", _SIGN_IN),
        "chmod 755 /usr/local/bin/docker-credential-gcr",
        "touch /etc/containers/nodocker",
    ),
)
"""A system that runs containers and has no Python, as Container-Optimized OS."""
BASE = Recipe(packages=_LIBRARIES)
"""What a base image is made of, beside Python."""


def unable() -> str:
    """Returns why no image can be built here; nothing if one can."""
    return "" if shutil.which("buildah") else "they need buildah"


def python_home(minor: str) -> Path | None:
    """Returns the folder of a Python of this computer that can be copied, or None."""
    homes = [Path(sys.base_prefix), *Path(sys.base_prefix).parent.glob("*")]  # as pyenv has them
    fits = (home for home in homes if (home / f"lib/libpython{minor}.so.1.0").exists())
    return next(fits, None)


class Builder:
    """Builds images; everything is in one folder.

    Args:
        folder: For buildah.
        roots: Builds root filesystems.
        wheels: Where pip finds everything, instead of an index.
    """

    def __init__(self, folder: Path, roots: Callable[[Recipe], Path], wheels: Path) -> None:
        self._folder, self._roots = folder, roots
        self._wheels = folder / "wheels"
        self._wheels.mkdir(parents=True)
        for path in wheels.glob("*.whl"):
            shutil.copy(path, self._wheels)  # links lead out of what a build sees
        (folder / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        self._store = ["--root", str(folder / "store"), "--runroot", str(folder / "run")]

    def build(
        self, dockerfile: Path, files: Iterable[Path], arguments: Mapping[str, str] | None = None
    ) -> str:
        """Builds an image and returns its name.

        Args:
            dockerfile: One of ours.
            files: What lies beside it.
            arguments: For its ``ARG`` lines.
        """
        match = re.search(r"^FROM (\S+)$", dockerfile.read_text(), re.M)
        assert match is not None
        self._base(match[1])
        context = self._folder / "context"
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir()
        for path in (dockerfile, *files):
            shutil.copy(path, context)
        words = [f"--build-arg={name}={value}" for name, value in (arguments or {}).items()]
        mounts = [f"-v={self._wheels}:/wheels:ro", f"-v={self._folder}/pip.conf:/etc/pip.conf:ro"]
        options = ["bud", "--isolation=chroot", "--pull-never", "-q", "-t", "built"]
        self._buildah(*options, *words, *mounts, str(context))
        return "built"

    def foreign(self) -> str:
        """Makes an image without content for another architecture; returns its name."""
        container = self._buildah("from", "--arch", "arm64", "scratch")
        self._buildah("config", "--arch", "arm64", container)
        self._buildah("commit", "-q", "--rm", container, "foreign")
        return "foreign"

    def push(self, image: str, layout: Path) -> str:
        """Writes an image into an OCI layout; returns its digest."""
        self._buildah("push", "-q", "--disable-compression", image, f"oci:{layout}:{image}")
        index = json.loads((layout / "index.json").read_text())
        return str(index["manifests"][-1]["digest"])

    def root(self, image: str, folder: Path) -> tuple[Path, dict[str, str]]:
        """Copies the root filesystem of an image; returns it with the image's environment."""
        container = self._buildah("from", "--pull-never", image)
        mounted = self._buildah("mount", container)
        run_process(["cp", "-a", mounted, str(folder)], check=True)
        config = json.loads(self._buildah("inspect", container))["OCIv1"]["config"]
        self._buildah("rm", container)
        return folder, dict(line.split("=", 1) for line in config["Env"])

    def close(self) -> None:
        """Removes all images."""
        self._buildah("rm", "--all")
        run_process(["umount", str(self._folder / "store/overlay")])
        shutil.rmtree(self._folder)

    def _base(self, name: str) -> None:
        """Makes a base under the name that a Dockerfile has, with a Python of this computer."""
        minor = re.search(r"python:(3\.\d+)", name)
        assert minor is not None
        home = python_home(minor[1])
        assert home is not None, f"no Python {minor[1]} here"
        root = self._folder / "base"
        shutil.rmtree(root, ignore_errors=True)
        run_process(["cp", "-a", str(self._roots(BASE)), str(root)], check=True)
        shutil.rmtree(root / "dev")
        (root / "dev").mkdir()
        _install_python(home, minor[1], root)
        container = self._buildah("from", "scratch")
        self._buildah("copy", "-q", container, str(root), "/")
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self._buildah("config", "--env", f"PATH={path}", container)
        self._buildah("commit", "-q", "--rm", "--disable-compression", container, name)

    def _buildah(self, *words: str) -> str:
        done = run_process(["buildah", *self._store, *words], timeout=1800)
        assert done.returncode == 0, f"buildah {' '.join(words)}:\n{done.stdout}{done.stderr}"
        return done.stdout.strip()


def _install_python(home: Path, minor: str, root: Path) -> None:
    """Copies Python and its pip as the official images have them, below ``/usr/local``."""
    local = root / "usr" / "local"
    leave = shutil.ignore_patterns("__pycache__", "test", "idlelib", "site-packages", "config-*")
    library = local / "lib" / f"python{minor}"
    shutil.copytree(home / "lib" / f"python{minor}", library, symlinks=True, ignore=leave)
    for pip in (home / "lib" / f"python{minor}" / "site-packages").glob("pip*"):
        shutil.copytree(pip, library / "site-packages" / pip.name)
    shutil.copy(home / f"lib/libpython{minor}.so.1.0", local / "lib")
    shutil.copy(home / f"bin/python{minor}", local / "bin")
    for name in ("python", "python3"):
        (local / "bin" / name).symlink_to(f"python{minor}")
    # Microsoft's base has a package manager; what we ask it for is in Debian's smallest system.
    for name, text in (("pip", 'exec python -m pip "$@"'), ("tdnf", ":")):
        (local / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (local / "bin" / name).chmod(0o755)
    run_process(["chroot", str(root), "ldconfig"], check=True)
