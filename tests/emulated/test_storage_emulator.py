"""Cloud Storage of the emulator, as the real client library meets it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.helpers.processes import run_process

pytest.importorskip("google.cloud.storage")
from google.api_core import exceptions as errors
from google.cloud.storage.exceptions import InvalidResponse

from tests.helpers.storage_client import a_client, names, put


class TestBuckets:
    def test_life(self, cloud):
        client = a_client(cloud)
        asked = client.bucket(f"life-{uuid.uuid4().hex[:8]}")
        asked.labels = {"a": "1"}
        asked.iam_configuration.uniform_bucket_level_access_enabled = True
        asked.add_lifecycle_delete_rule(age=30)
        asked.create(location="europe-west1")
        found = client.get_bucket(asked.name)
        assert (found.location, found.location_type) == ("EUROPE-WEST1", "region")
        assert found.iam_configuration.uniform_bucket_level_access_enabled
        assert [rule["condition"]["age"] for rule in found.lifecycle_rules] == [30]
        found.labels = {"b": "2"}
        found.patch()
        assert client.get_bucket(asked.name).labels == {"b": "2"}
        assert asked.name in [b.name for b in client.list_buckets()]
        put(found, "x")
        with pytest.raises(errors.Conflict):
            found.delete()
        found.delete(force=True)
        assert client.lookup_bucket(asked.name) is None

    def test_a_taken_name_and_a_bad_one(self, cloud, bucket):
        client = a_client(cloud)
        with pytest.raises(errors.Conflict):
            client.create_bucket(bucket.name)
        with pytest.raises(errors.BadRequest):
            client.create_bucket("Not_A_Name")

    def test_somebody_elses(self, cloud):
        cloud.ask("bucket", name="not-ours", owner="somebody else")
        with pytest.raises(errors.Forbidden):
            a_client(cloud).get_bucket("not-ours")
        with pytest.raises(errors.Conflict):
            a_client(cloud).create_bucket("not-ours")

    def test_rights(self, cloud, bucket):
        asked = ["storage.objects.create", "storage.objects.delete"]
        assert bucket.test_iam_permissions(asked) == asked

    def test_retention_holds(self, cloud, bucket):
        policy = {"retentionPolicy": {"retentionPeriod": "3600"}}
        cloud.ask("bucket", name=bucket.name, document=policy)
        blob = put(bucket, "kept")
        with pytest.raises(errors.Forbidden):
            blob.delete()


class TestObjects:
    def test_bytes_and_hashes(self, bucket):
        data = os.urandom(100_000)
        put(bucket, "a/b c/ü%2F#?.bin", data, content_type="x/y")
        found = bucket.get_blob("a/b c/ü%2F#?.bin")
        assert found is not None and found.download_as_bytes() == data
        assert found.md5_hash == base64.b64encode(hashlib.md5(data).digest()).decode()
        assert (found.size, found.content_type) == (len(data), "x/y")

    def test_empty(self, bucket):
        put(bucket, "empty", b"")
        found = bucket.get_blob("empty")
        assert found is not None and (found.size, found.download_as_bytes()) == (0, b"")

    def test_missing(self, bucket):
        assert bucket.get_blob("no") is None
        assert not bucket.blob("no").exists()
        for call in (bucket.blob("no").download_as_bytes, bucket.blob("no").delete):
            with pytest.raises(errors.NotFound):
                call()

    def test_no_such_bucket(self, cloud):
        with pytest.raises(errors.NotFound):
            put(a_client(cloud).bucket("no-such-bucket"), "x")

    def test_ranges(self, bucket):
        blob = put(bucket, "r", b"0123456789")
        assert blob.download_as_bytes(start=2, end=4) == b"234"
        assert blob.download_as_bytes(start=7) == b"789"
        with pytest.raises(errors.RequestRangeNotSatisfiable):
            blob.download_as_bytes(start=10)

    def test_chunked_download(self, bucket):
        data = os.urandom(700_000)
        put(bucket, "big", data)
        target = io.BytesIO()
        bucket.blob("big", chunk_size=256 * 1024).download_to_file(target)
        assert target.getvalue() == data

    def test_metadata(self, bucket):
        blob = put(bucket, "m")
        blob.metadata = {"a": "1", "b": "2"}
        blob.patch()
        blob.metadata = {"a": None, "c": "3"}
        blob.patch()
        found = bucket.get_blob("m")
        assert found is not None and found.metadata == {"b": "2", "c": "3"}
        assert found.metageneration == 3

    def test_copy_rename_move(self, bucket):
        blob = put(bucket, "from", b"content", content_type="x/y")
        copied = bucket.copy_blob(blob, bucket, "copied")
        assert copied.download_as_bytes() == b"content" and copied.content_type == "x/y"
        bucket.rename_blob(blob, "renamed")
        bucket.move_blob(bucket.blob("renamed"), "moved")
        assert names(bucket.list_blobs()) == ["copied", "moved"]

    def test_rewrite(self, bucket):
        source = put(bucket, "s", b"abc")
        token, done, total = bucket.blob("t").rewrite(source)
        assert (token, done, total) == (None, 3, 3)

    def test_compose(self, bucket):
        pieces = [put(bucket, f"p{i}", bytes([i])) for i in range(3)]
        bucket.blob("whole").compose(pieces)
        found = bucket.get_blob("whole")
        assert found is not None and found.download_as_bytes() == b"\0\1\2"
        assert (found.component_count, found.md5_hash) == (3, None)

    def test_versions(self, bucket):
        bucket.versioning_enabled = True
        bucket.patch()
        first = put(bucket, "v", b"1").generation
        put(bucket, "v", b"2")
        bucket.blob("v").delete()
        assert names(bucket.list_blobs()) == []
        assert names(bucket.list_blobs(versions=True)) == ["v", "v"]
        assert bucket.blob("v", generation=first).download_as_bytes() == b"1"

    def test_wrong_hash_is_refused(self, cloud, bucket):
        blob = bucket.blob("h")
        blob.md5_hash = base64.b64encode(hashlib.md5(b"other").digest()).decode()
        with pytest.raises(errors.BadRequest):
            blob.upload_from_string(b"this")
        assert not blob.exists()

    def test_batch(self, bucket):
        blobs = [put(bucket, f"d{i}") for i in range(5)]
        with bucket.client.batch():
            for blob in blobs:
                blob.delete()
        assert names(bucket.list_blobs()) == []

    def test_batch_tells_each_failure(self, bucket):
        put(bucket, "there")
        with pytest.raises(errors.NotFound), bucket.client.batch():
            bucket.blob("not-there").delete()
            bucket.blob("there").delete()
        assert not bucket.blob("there").exists()

    def test_signed_url(self, cloud, bucket):
        """A URL with a signature works without a token, through the real host name."""
        put(bucket, "s", b"signed")
        signature = "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Signature=00"
        url = f"https://storage.googleapis.com/{bucket.name}/s?{signature}"
        answer = requests.get(
            url, proxies={"https": cloud.env["HTTPS_PROXY"]}, verify=cloud.env["SSL_CERT_FILE"]
        )
        assert answer.content == b"signed"


class TestListing:
    @pytest.fixture
    def tree(self, bucket):
        for name in ("a", "b/1", "b/2", "b/c/3", "b0", "d/"):
            put(bucket, name)
        return bucket

    @pytest.mark.parametrize(
        ("asked", "found"),
        [
            ({}, ["a", "b/1", "b/2", "b/c/3", "b0", "d/"]),
            ({"prefix": "b/"}, ["b/1", "b/2", "b/c/3"]),
            ({"prefix": "b"}, ["b/1", "b/2", "b/c/3", "b0"]),
            ({"start_offset": "b/2", "end_offset": "b0"}, ["b/2", "b/c/3"]),
            ({"prefix": "b/", "start_offset": "b/2"}, ["b/2", "b/c/3"]),
            ({"max_results": 2}, ["a", "b/1"]),
            ({"page_size": 1}, ["a", "b/1", "b/2", "b/c/3", "b0", "d/"]),
            ({"prefix": "zz"}, []),
        ],
    )
    def test_names(self, tree, asked, found):
        assert names(tree.list_blobs(**asked)) == found

    @pytest.mark.parametrize("page_size", [None, 1, 2])
    def test_folders(self, tree, page_size):
        listing = tree.list_blobs(delimiter="/", page_size=page_size)
        assert names(listing) == ["a", "b0"]
        assert listing.prefixes == {"b/", "d/"}
        below = tree.list_blobs(delimiter="/", prefix="b/", page_size=page_size)
        assert (names(below), below.prefixes) == (["b/1", "b/2"], {"b/c/"})

    def test_trailing_delimiter(self, tree):
        assert "d/" in names(tree.list_blobs(delimiter="/", include_trailing_delimiter=True))

    def test_more_than_a_page(self, bucket):
        def some(part: int) -> None:
            for i in range(part, 1005, 8):
                put(bucket, f"n{i:04}")

        threads = [threading.Thread(target=some, args=(part,)) for part in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert names(bucket.list_blobs()) == [f"n{i:04}" for i in range(1005)]

    def test_never_stale(self, cloud, bucket):
        put(bucket, "new")
        assert names(a_client(cloud).list_blobs(bucket.name)) == ["new"]
        bucket.blob("new").delete()
        assert names(a_client(cloud).list_blobs(bucket.name)) == []


class TestConditions:
    def test_one_racer_creates(self, cloud, bucket):
        won: list[int] = []
        gate = threading.Barrier(16)

        def race(number: int) -> None:
            blob = bucket.blob("lock")
            gate.wait()
            try:
                blob.upload_from_string(str(number), if_generation_match=0)
                won.append(number)
            except errors.PreconditionFailed:
                pass

        threads = [threading.Thread(target=race, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [str(n).encode() for n in won] == [bucket.blob("lock").download_as_bytes()]

    def test_compare_and_swap(self, bucket):
        blob = put(bucket, "k", b"1")
        first = blob.generation
        blob.upload_from_string(b"2", if_generation_match=first)
        with pytest.raises(errors.PreconditionFailed):
            blob.upload_from_string(b"3", if_generation_match=first)
        with pytest.raises(errors.PreconditionFailed):
            blob.delete(if_generation_match=first)
        assert blob.download_as_bytes() == b"2"

    def test_metageneration(self, bucket):
        blob = put(bucket, "k")
        blob.metadata = {"a": "1"}
        blob.patch(if_metageneration_match=1)
        with pytest.raises(errors.PreconditionFailed):
            blob.patch(if_metageneration_match=1)

    def test_not_modified(self, bucket):
        blob = put(bucket, "k")
        with pytest.raises(errors.NotModified):
            blob.reload(if_generation_not_match=blob.generation)
        with pytest.raises(errors.NotModified):
            blob.download_as_bytes(if_generation_not_match=blob.generation)

    def test_the_end_of_an_upload_counts(self, bucket):
        """A resumable upload that began on an absent key loses to who finished first."""
        with (
            pytest.raises(InvalidResponse, match="412"),
            bucket.blob("k").open("wb", if_generation_match=0, chunk_size=256 * 1024) as file,
        ):
            file.write(os.urandom(300 * 1024))
            put(bucket, "k", b"faster")
        assert bucket.blob("k").download_as_bytes() == b"faster"

    @pytest.mark.parametrize("verb", ["copy", "compose", "move"])
    def test_targets(self, bucket, verb):
        source = put(bucket, "source")
        put(bucket, "target", b"old")
        calls: dict[str, Callable[[], Any]] = {
            "copy": lambda: bucket.copy_blob(source, bucket, "target", if_generation_match=0),
            "compose": lambda: bucket.blob("target").compose([source], if_generation_match=0),
            "move": lambda: bucket.move_blob(source, "target", if_generation_match=0),
        }
        with pytest.raises(errors.PreconditionFailed):
            calls[verb]()
        assert bucket.blob("target").download_as_bytes() == b"old"


def test_by_its_real_name_with_real_tokens(cloud, bucket):
    """An unmodified program sees Google's host, TLS and tokens; no other host is reached."""
    code = """
import json, sys, requests
from google.cloud import storage
bucket = storage.Client().bucket(sys.argv[1])
bucket.blob("k").upload_from_string("v")
try:
    requests.get("https://example.com")
    outside = True
except requests.exceptions.ProxyError:
    outside = False
print(json.dumps([bucket.blob("k").download_as_text(), outside]))
"""
    done = run_process([sys.executable, "-c", code, bucket.name], env=cloud.environ(), check=True)
    assert json.loads(done.stdout) == ["v", False]
    assert "example.com" in cloud.state()["refused_hosts"]
    callers = {entry["caller"] for entry in cloud.log(f"storage.googleapis.com.*{bucket.name}")}
    assert callers == {f"user@{cloud.project}.iam.gserviceaccount.com"}


def test_without_a_token(cloud):
    answer = requests.get(
        "https://storage.googleapis.com/storage/v1/b?project=p",
        proxies={"https": cloud.env["HTTPS_PROXY"]},
        verify=cloud.env["SSL_CERT_FILE"],
    )
    assert answer.status_code == 401
