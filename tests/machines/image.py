"""What ``make-image.sh`` makes: its steps run in a root filesystem as on its own machine."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.conftest import ROOT
from tests.helpers.processes import run_process

SCRIPT = ROOT / "deployments" / "gcp" / "image" / "make-image.sh"
_PLACE = """set -eu
root="$1" wheels="$2" steps="$3"
cp -a "$4" "$root"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp "$wheels"/drillyard-*.whl "$5" "$root/tmp/"
mkdir "$root/wheels"
cp -L "$wheels"/*.whl "$root/wheels"
mount -t proc proc "$root/proc"
mount -t devtmpfs devtmpfs "$root/dev"
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin PIP_NO_INDEX=1 \
  PIP_FIND_LINKS=/wheels DEBIAN_FRONTEND=noninteractive bash -c "$steps"
"""


def make_image(folder: Path, debian: Path, wheels: Path) -> Path:
    """The root filesystem of an image for CPU machines.

    Args:
        folder: Where it is made.
        debian: A plain Debian.
        wheels: Where pip finds everything, instead of an index.
    """
    text = SCRIPT.read_text()
    steps = re.search(r'on "(set -e\n.*?sync)"', text, re.S)
    assert steps is not None, "the script makes its image in another way"
    wheel = next(wheels.glob("drillyard-*.whl")).name
    apt = re.search(r'^apt="(.*)"$', text, re.M)
    assert apt is not None
    words = {"constraint": "-c /tmp/requirements.lock", "name": wheel, "apt": apt[1]}
    body = re.sub(r"\$\{?(\w+)(?::\+[^}]*\})?\}?", lambda m: words.get(m[1], ""), steps[1])
    body = 'sudo() { env "$@"; }\n' + body
    root = folder / "image"
    files = [str(root), str(wheels), body, str(debian), str(ROOT / "requirements.lock")]
    run_process(["unshare", "--mount", "bash", "-c", _PLACE, "bash", *files], check=True)
    shutil.rmtree(root / "wheels")
    return root
