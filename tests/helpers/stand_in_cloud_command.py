"""Plays ``gcloud`` and ``az`` for the pages of the first hour.

It notes each command, prints what the pages' shell reads of it, and gives the emulated cloud what
the command would have given the real one: no right, no API and no bucket is there that the page
does not make. Run as ``python stand_in_cloud_command.py PROGRAM WORD…``, with ``STAND_IN``: the
address of the emulator's control port, and ``STAND_IN_NOTES``: a folder.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

import yaml

OBJECT_ADMIN = ("create", "delete", "get", "list", "update")
NOTES = Path(os.environ["STAND_IN_NOTES"])
OUTPUTS = {
    "config get account": os.environ.get("STAND_IN_ACCOUNT", ""),
    "billing accounts list": "0X0X0X-0X0X0X-0X0X0X",
    **json.loads(os.environ.get("STAND_IN_OUTPUTS", "{}")),
}
"""Beginning of a command -> what it prints."""


def ask(verb: str, **arguments: Any) -> None:
    """Tells the emulator."""
    request = urllib.request.Request(
        f"{os.environ['STAND_IN']}/{verb}",
        json.dumps(arguments).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60):
        pass


class State:
    """Roles and what they were given to, between two commands."""

    def __init__(self) -> None:
        self._path = NOTES / "state.json"
        known = json.loads(self._path.read_text()) if self._path.exists() else {}
        self.roles: dict[str, list[str]] = known.get("roles", {})
        self.granted: dict[str, list[dict[str, object]]] = known.get("granted", {})
        self.apis: list[str] = known.get("apis", [])

    def grant(self, member: str, permissions: list[str], condition: str = "") -> None:
        """Gives permissions to a member."""
        who = member.partition(":")[2] or member
        each = {"permissions": permissions, **({"condition": condition} if condition else {})}
        self.granted.setdefault(who, []).append(each)

    def save(self) -> None:
        """For the next command, and for the emulator."""
        self._path.write_text(json.dumps(vars(self) | {"_path": ""}))


def option(words: list[str], name: str) -> str:
    """The value of an option."""
    return words[words.index(f"--{name}") + 1] if f"--{name}" in words else ""


def google(words: list[str], state: State) -> None:
    """What a command of gcloud does."""
    begin = " ".join(words[:3])
    if words[:2] == ["services", "enable"]:
        state.apis += [word for word in words if word.endswith(".googleapis.com")]
    elif begin == "iam service-accounts create":
        new = f"{words[3]}@{option(words, 'project')}.iam.gserviceaccount.com"
        ask("project", accounts=[new, os.environ["STAND_IN_ACCOUNT"]])
    elif begin == "iam roles create":
        role = yaml.safe_load(Path(option(words, "file")).read_text())
        state.roles[words[3]] = role["includedPermissions"]
    elif words[:2] == ["projects", "add-iam-policy-binding"]:
        condition = option(words, "condition").partition("expression=")[2]
        role = option(words, "role").rpartition("/")[2]
        state.grant(option(words, "member"), state.roles[role], condition)
    elif words[:3] == ["iam", "service-accounts", "add-iam-policy-binding"]:
        assert option(words, "role") == "roles/iam.serviceAccountUser"
        state.grant(option(words, "member"), ["iam.serviceAccounts.actAs"])
    elif begin == "storage buckets create":
        ask("bucket", name=words[3].removeprefix("gs://"))
    elif begin == "storage buckets add-iam-policy-binding":
        objects = [f"storage.objects.{verb}" for verb in OBJECT_ADMIN]
        of_role = {
            "roles/storage.objectAdmin": objects,
            "roles/storage.legacyBucketReader": ["storage.buckets.get", "storage.objects.list"],
        }
        state.grant(option(words, "member"), of_role[option(words, "role")])
    elif "images" in words and "create" in words:
        labels = dict(each.split("=") for each in option(words, "labels").split(","))
        ask("catalogue", images=[option(words, "family")], image_labels=labels)
    elif "modinfo" in words[-1]:
        print("driver 580.126.09")
    if state.apis or state.granted:
        needed = ("compute", "storage", "iam", "cloudresourcemanager", "serviceusage")
        off = [f"{name}.googleapis.com" for name in needed]
        off = [name for name in off if name not in state.apis]
        ask("project", granted=state.granted, disabled=off)


def main() -> None:
    """Plays one command."""
    program, *words = sys.argv[1:]
    with (NOTES / "calls.jsonl").open("a") as notes:
        notes.write(json.dumps([program, *words]) + "\n")
    for begin, output in OUTPUTS.items():
        if " ".join(words).startswith(begin):
            print(output)
    if program == "gcloud":
        state = State()
        google(words, state)
        state.save()


if __name__ == "__main__":
    main()
