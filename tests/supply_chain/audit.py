"""``make audit``: known vulnerabilities of the locked packages, by pip-audit.

pip-audit takes a package of which its service knows nothing for one without vulnerabilities, and
ends with "No known vulnerabilities found". So it is asked for its list of packages, and what was
not audited is said. Where the service does not answer, as behind a mirror of the package index
without its JSON API, that is said and the build does not fail: it says nothing about the packages.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LOCK = Path(__file__).parents[2] / "requirements.lock"
ACCEPTED: dict[str, str] = {}
"""Ids of vulnerabilities that do not fail the build -> why drillyard is not affected."""


def main(arguments: Sequence[str]) -> int:
    """Audits the lock file.

    Args:
        arguments: The program pip-audit; then options of it, such as another service.

    Returns:
        1 if a package has a known vulnerability that was not accepted; else 0.
    """
    known = [word for one in ACCEPTED for word in ("--ignore-vuln", one)]
    command = [
        *(arguments[0], "-r", str(LOCK), "--no-deps", "--disable-pip"),
        *("--format", "json", "--progress-spinner", "off", *known, *arguments[1:]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        return _say(f"audit: NOT DONE, the service does not answer: {lines[-1]}")
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    if len(skipped) == len(packages):
        return _say(f"audit: NOT DONE, the service knows none of {len(packages)} packages")
    found = [one for one in packages if one.get("vulns")]
    for one in found:
        for vulnerability in one["vulns"]:
            mended = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            _say(f"{one['name']} {one['version']}: {vulnerability['id']}, fixed in {mended}")
    if skipped:
        _say(f"audit: {len(skipped)} packages are unknown to the service: {', '.join(skipped)}")
    audited = len(packages) - len(skipped)
    _say(f"audit: {len(found)} of {audited} packages have known vulnerabilities")
    return 1 if found else 0


def _say(text: str) -> int:
    print(text, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
