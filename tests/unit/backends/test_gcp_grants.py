"""The emulator's IAM conditions: what Google's list of resource attributes has, and no more."""

import pytest

from drillyard_backends.gcp.rights import machine_condition
from drillyard_emulators.gcp.grants import Grant, folder_name, object_name

MACHINE = "projects/p/zones/z/instances/"
GROUP = "projects/p/zones/z/instanceGroupManagers/"


@pytest.mark.parametrize(
    ("resource", "allowed"),
    [
        (f"{MACHINE}ours-0123456789-w0-0", True),
        (f"{MACHINE}ours-0123456789-w0-0/setLabels", True),
        (f"{MACHINE}other-0123456789-w0-0", False),
        (f"{MACHINE}oursother-0123456789-w0-0", False),
        (f"{GROUP}other-0123456789", True),  # conditions do not see groups
    ],
)
def test_the_machines_condition_holds_for_names_with_the_prefix(resource, allowed):
    grant = Grant.read({"permissions": ["x"], "condition": machine_condition("ours")})
    assert grant.allows("x", resource) is allowed
    assert not grant.allows("y", resource)


@pytest.mark.parametrize(
    ("resource", "allowed"),
    [
        (object_name("b", "ours/e/a.json"), True),
        (object_name("b", "ours-2/e/a.json"), False),
        (object_name("b2", "ours/e/a.json"), False),
        (folder_name("b", "ours/e"), True),
        (folder_name("b", "ours"), False),  # lists ours-2/, too
        (folder_name("b", ""), False),
    ],
)
def test_a_managed_folder_holds_for_names_and_listings_below_it(resource, allowed):
    grant = Grant.read({"permissions": ["x"], "folder": "b/ours/"})
    assert grant.allows("x", resource) is allowed


def test_a_condition_that_is_not_emulated_is_refused():
    """One that was ignored would make the emulator more generous than Google."""
    with pytest.raises(ValueError, match=r"request\.time"):
        Grant.read({"permissions": ["x"], "condition": 'request.time < timestamp("2030")'})
