"""Answers that no cloud should give: pages of a proxy, cut or empty documents, missing fields.

What comes from below the clients is replaced, nothing of ours and nothing of the libraries. The
rule: an answer that cannot be read decides nothing. It is an error that may pass, and never a
listing without anything in it, an object with other content, or a bug in drillyard.
"""

import base64
import hashlib
import io
import json

import pytest
import requests
import urllib3

from drillyard.errors import ControlPlaneError, DrillyardError, StoreUnavailable
from drillyard.mailbox.store import ObjectMissing, keys

HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Welcome</body></html>"
NO_DOCUMENTS = {
    "a page of a proxy": HTML,
    "nothing": b"",
    "cut": b'{"items": [{"name": "x/b/one", "si',
    "not UTF-8": b"\xff\xfe\x00{",
    "a list": b"[]",
    "null": b"null",
    "a text": b'"ok"',
    "a number": b"7",
}


@pytest.fixture
def answers(monkeypatch):
    """Every request gets the answer that the test sets: (status, body, headers)."""
    given = {"answer": (200, b"{}", {})}

    def send(_adapter, request, **_):
        status, body, headers = given["answer"]
        made = requests.Response()
        made.status_code, made._content = status, body
        made.headers.update({"Content-Type": "application/json", **headers})
        made.raw = urllib3.HTTPResponse(
            io.BytesIO(body), headers=made.headers, status=status, preload_content=False
        )
        made.url, made.request, made.encoding, made.reason = request.url, request, "utf-8", "said"
        made.connection = _adapter
        return made

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", send)
    return lambda body, status=200, **headers: given.update(answer=(status, body, headers))


# -- Google Cloud Storage and Azure Blob Storage -------------------------------------------------


@pytest.fixture
def gcs(monkeypatch):
    pytest.importorskip("google.cloud.storage")
    from google.auth.credentials import AnonymousCredentials

    from drillyard_backends.gcp.store import GcsStore

    monkeypatch.setattr("google.auth.default", lambda **_: (AnonymousCredentials(), "p"))
    monkeypatch.setattr("drillyard_backends.gcp.store.PATIENCE_S", 0.01)
    return GcsStore("gs://bucket/x")


class _Token:
    def get_token(self, *_, **__):
        from azure.core.credentials import AccessToken

        return AccessToken("t", 10**11)


@pytest.fixture
def blobs(monkeypatch):
    pytest.importorskip("azure.storage.blob")
    from drillyard_backends.azure.store import BlobStore

    monkeypatch.setattr("drillyard_backends.azure.store.credential", _Token)
    monkeypatch.setattr("drillyard_backends.azure.store.RETRIES", 0)
    return BlobStore("az://account/container/x")


@pytest.fixture
def store(request, kind):
    return request.getfixturevalue(kind)


def listing(*items):
    return json.dumps({"kind": "storage#objects", "items": list(items)}).encode()


def blobs_of(properties):
    inner = f"<Blob><Name>x/b/one</Name>{properties}</Blob>"
    return f"<EnumerationResults><Blobs>{inner}</Blobs><NextMarker/></EnumerationResults>".encode()


GOOD = {"name": "x/b/one", "size": "3", "updated": "2026-11-01T10:00:00.000Z"}
KIND = "<BlobType>BlockBlob</BlobType>"
TIME = "<Last-Modified>Sun, 01 Nov 2026 10:00:00 GMT</Last-Modified>"
SIZE = "<Content-Length>3</Content-Length>"
FINE = {
    "gcs": listing(GOOD),
    "blobs": blobs_of(f"<Properties>{KIND}{TIME}{SIZE}</Properties>"),
}
PROXY = {"gcs": {}, "blobs": {"Content-Type": "application/xml"}}
OURS = {"gcs": {}, "blobs": {**PROXY["blobs"], "x-ms-request-id": "0"}}
"""Headers of a proxy's answer, and of the service's own."""
NO_LISTINGS = {
    "gcs": {
        **NO_DOCUMENTS,
        "an empty document": b"{}",
        "an error with status 200": b'{"error": {"code": 503, "message": "later"}}',
    },
    "blobs": {
        **NO_DOCUMENTS,
        "a page that is XML": b"<html><body>Welcome</body></html>",
        "a listing with nothing in it": b"<EnumerationResults><Blobs/></EnumerationResults>",
    },
}
STRANGE = {
    "gcs": {
        "no time": listing({**GOOD, "updated": None}),
        "a time that is none": listing({**GOOD, "updated": "soon"}),
        "no name": listing({**GOOD, "name": None}),
        "a size that is none": listing({**GOOD, "size": "big"}),
        "objects that are none": listing(GOOD, None, 7),
        "an object of another folder": listing({**GOOD, "name": "y/other"}),
        "another kind of list": json.dumps({"kind": "storage#objects", "items": GOOD}).encode(),
    },
    "blobs": {
        "no properties": blobs_of(""),
        "no time": blobs_of(f"<Properties>{KIND}{SIZE}</Properties>"),
        "no size": blobs_of(f"<Properties>{KIND}{TIME}</Properties>"),
        "a time that is none": blobs_of(
            f"<Properties>{KIND}<Last-Modified>soon</Last-Modified>{SIZE}</Properties>"
        ),
        "cut": FINE["blobs"][:90],
        "nothing": b"",
        "not UTF-8": b"\xff\xfe\x00<",
    },
}


def cases(lies):
    return [(kind, lie) for kind in lies for lie in sorted(lies[kind])]


@pytest.mark.parametrize(("kind", "lie"), cases(NO_LISTINGS))
@pytest.mark.parametrize("verb", ["list", "contents", "keys", "folders"])
def test_what_is_no_listing_decides_nothing(answers, store, kind, verb, lie):
    answers(NO_LISTINGS[kind][lie], **PROXY[kind])
    with pytest.raises(StoreUnavailable):
        list(keys(store, "b/") if verb == "keys" else getattr(store, verb)("b/"))


@pytest.mark.parametrize(("kind", "lie"), cases(STRANGE))
@pytest.mark.parametrize("verb", ["list", "contents"])
def test_a_listing_with_a_strange_object_decides_nothing(answers, store, kind, verb, lie):
    answers(FINE[kind], **OURS[kind])
    assert len(list(getattr(store, verb)("b/"))) == 1
    answers(STRANGE[kind][lie], **OURS[kind])
    with pytest.raises(StoreUnavailable):
        list(getattr(store, verb)("b/"))


@pytest.mark.parametrize("kind", ["gcs", "blobs"])
@pytest.mark.parametrize(
    ("content", "copy"), [(b"new", None), (b"old", b"old"), (None, None)], ids=str
)
def test_a_copy_counts_only_if_it_is_what_the_object_contains(answers, store, kind, content, copy):
    """Metadata outlive the content, where another program writes one of the two.

    An object that is composed of parts has no sum.
    """
    sent = base64.b64encode(b"old").decode()
    md5 = content and base64.b64encode(hashlib.md5(content).digest()).decode()
    if kind == "gcs":
        sums = {"md5Hash": md5} if md5 else {}
        answers(listing({**GOOD, **sums, "metadata": {"drillyard_copy": sent}}))
    else:
        sums = f"<Content-MD5>{md5}</Content-MD5>" if md5 else ""
        kept = f"<Metadata><drillyard_copy>{sent}</drillyard_copy></Metadata>"
        inner = f"<Properties>{KIND}{TIME}{SIZE}{sums}</Properties>"
        answers(blobs_of(inner + kept), **OURS[kind])
    assert [listed for _, listed in store.contents("b/")] == [copy]


def test_a_write_that_a_proxy_answers_is_not_done(answers, gcs, tmp_path):
    (tmp_path / "file").write_bytes(b"data")
    for lie in (HTML, b"{}", b"[]", b""):
        answers(lie)
        with pytest.raises(StoreUnavailable):
            gcs.put("b/one", b"data")
        with pytest.raises(StoreUnavailable):
            gcs.put_if_absent("b/one", b"data")
        with pytest.raises(StoreUnavailable):
            gcs.upload("b/one", tmp_path / "file")


@pytest.mark.parametrize("kind", ["gcs", "blobs"])
def test_what_a_proxy_does_not_find_is_not_missing(answers, store, kind):
    answers(HTML, 404)
    for ask in (
        lambda: store.get("b/one"),
        lambda: store.stat("b/one"),
        lambda: store.put("b/one", b"data"),
    ):
        with pytest.raises(StoreUnavailable):
            ask()


@pytest.mark.parametrize("kind", ["gcs", "blobs"])
@pytest.mark.parametrize("lie", sorted(NO_DOCUMENTS))
def test_an_object_that_a_proxy_answers_for_is_not_read(answers, store, kind, lie, tmp_path):
    answers(NO_DOCUMENTS[lie])
    with pytest.raises(StoreUnavailable):
        store.get("b/one")
    with pytest.raises(StoreUnavailable):
        store.download("b/one", tmp_path / "one")
    assert not list(tmp_path.iterdir())
    with pytest.raises(StoreUnavailable):
        store.stat("b/one")


# -- Azure ML -------------------------------------------------------------------------------------


@pytest.fixture
def workspace(monkeypatch):
    pytest.importorskip("azure.core")
    from drillyard_backends.azure.service import Service
    from drillyard_backends.azure.settings import AzureConfig

    monkeypatch.setattr("drillyard_backends.azure.rest.credential", _Token)
    config = AzureConfig(
        subscription_id="01234567-89ab-cdef-0123-456789abcdef",
        resource_group="group",
        workspace="work",
    )
    return Service(config)


PAGES = {
    **NO_DOCUMENTS,
    "no list": b"{}",
    "null for a list": b'{"value": null}',
    "elements that are none": b'{"value": [null, "job"]}',
    "an error with status 200": b'{"error": {"code": "ServerBusy", "message": "later"}}',
    "another kind of list": b'{"value": {"name": "x"}}',
    "a section that is a text": b'{"value": [{"name": "c", "properties": "gone"}]}',
}


@pytest.mark.parametrize("lie", sorted(PAGES))
def test_a_listing_of_azure_ml_that_cannot_be_read_is_not_an_empty_one(answers, workspace, lie):
    answers(PAGES[lie])
    from drillyard_backends.azure.jobs import Job

    with pytest.raises(ControlPlaneError):
        [Job.of(one) for one in workspace.jobs("dy-0123456789")]
    with pytest.raises(ControlPlaneError):
        list(workspace.computes())


@pytest.mark.parametrize("lie", sorted(NO_DOCUMENTS))
def test_a_document_of_azure_ml_that_cannot_be_read_is_an_error(answers, workspace, lie):
    answers(NO_DOCUMENTS[lie])
    for ask in (workspace.workspace, workspace.datastore, lambda: workspace.job("j")):
        with pytest.raises(ControlPlaneError):
            ask()


def test_a_job_that_a_proxy_does_not_find_is_not_missing(answers, workspace):
    from drillyard_backends.azure.errors import Missing

    for lie in (HTML, b"", b"{}", b"404 page not found"):
        answers(lie, 404)
        with pytest.raises(ControlPlaneError):
            workspace.job("j")
    answers(b'{"error": {"code": "ResourceNotFound", "message": "no job"}}', 404)
    with pytest.raises(Missing):
        workspace.job("j")


# -- Compute Engine -------------------------------------------------------------------------------


@pytest.fixture
def compute(monkeypatch):
    pytest.importorskip("google.cloud.compute_v1")
    from google.auth.credentials import AnonymousCredentials

    from drillyard_backends.gcp.groups import Groups
    from drillyard_backends.gcp.operations import Compute

    monkeypatch.setattr("google.auth.default", lambda **_: (AnonymousCredentials(), "p"))
    return Groups(Compute("project", patience_s=0.0), "dy")


AGGREGATED = NO_LISTINGS["gcs"]


@pytest.mark.parametrize("lie", sorted(AGGREGATED))
def test_a_listing_of_compute_engine_that_cannot_be_read_is_not_an_empty_one(
    answers, compute, lie
):
    answers(AGGREGATED[lie])
    for listing in (compute.listed, compute.templates, lambda: compute.instances("labels.a=b")):
        with pytest.raises(DrillyardError) as raised:
            list(listing())
        assert raised.value.retryable and not isinstance(raised.value, ObjectMissing)


NOT_FOUND = b'{"error": {"code": 404, "message": "not found"}}'
LISTED = b'{"managedInstances": [{"name": "dy-0123456789-w0-0", "id": "1"}]}'
GROUP = {"kind": "compute#instanceGroupManager", "name": "dy-0123456789"}
EMPTY = json.dumps({**GROUP, "targetSize": 1, "currentActions": {"none": 0}}).encode()
FULL = json.dumps({**GROUP, "targetSize": 1, "currentActions": {"none": 1}}).encode()
PROXIES = {**AGGREGATED, "a group that is another one": b'{"name": "other"}', "counts one": FULL}


@pytest.fixture
def here():
    from drillyard_backends.gcp.zones import Place

    return Place.parse("zones/a")


@pytest.mark.parametrize("lie", sorted(PROXIES))
def test_a_group_without_listed_machines_is_empty_only_if_it_says_so(answers, compute, here, lie):
    """This listing has no `kind`: any document without machines looks like one."""
    answers(LISTED)
    assert len(compute.machines(here, "dy-0123456789")) == 1
    answers(EMPTY)
    assert compute.machines(here, "dy-0123456789") == []
    answers(PROXIES[lie])
    with pytest.raises(ControlPlaneError):
        compute.machines(here, "dy-0123456789")


def test_a_group_that_a_proxy_does_not_find_is_not_missing(answers, compute, here):
    from drillyard_backends.gcp.errors import Missing

    for lie in (HTML, b"", b"{}", b"404 page not found"):
        answers(lie, 404)
        with pytest.raises(ControlPlaneError):
            compute.machines(here, "dy-0123456789")
    answers(NOT_FOUND, 404)
    with pytest.raises(Missing):
        compute.machines(here, "dy-0123456789")


@pytest.fixture
def own_group(monkeypatch):
    pytest.importorskip("google.auth")
    from google.auth.credentials import AnonymousCredentials

    from drillyard_backends.gcp.instance_group_self import InstanceGroupSelf

    monkeypatch.setattr("google.auth.default", lambda **_: (AnonymousCredentials(), "p"))
    return InstanceGroupSelf("project", "zones/a/dy-0123456789", "a", patience_s=0.0)


@pytest.mark.parametrize("lie", sorted(AGGREGATED))
def test_a_machine_takes_nothing_for_an_empty_group(answers, own_group, lie):
    """It runs, so that its group has a machine. It deleted the group as the last one."""
    answers(LISTED)
    assert [member.name for member in own_group.members()] == ["dy-0123456789-w0-0"]
    answers(AGGREGATED[lie])
    with pytest.raises(ControlPlaneError):
        own_group.members()
    with pytest.raises(ControlPlaneError):
        own_group.incarnation()


def test_a_machine_whose_group_a_proxy_does_not_find_learns_nothing(answers, own_group):
    answers(HTML, 404)
    with pytest.raises(ControlPlaneError):
        own_group.members()
    answers(NOT_FOUND, 404)
    assert own_group.members() is None
