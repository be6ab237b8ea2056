"""Uploads to the emulated Cloud Storage, and faults on the way."""

import io
import os

import pytest
import requests

pytest.importorskip("google.cloud.storage")
from google.api_core import exceptions as errors
from google.cloud.storage import transfer_manager
from google.cloud.storage.retry import DEFAULT_RETRY

from tests.helpers.storage_client import put

SOON = DEFAULT_RETRY.with_timeout(10.0)


class TestUploads:
    @pytest.mark.parametrize("size", [0, 1, 256 * 1024, 600_000])
    def test_resumable(self, bucket, size):
        data = os.urandom(size)
        blob = bucket.blob("u", chunk_size=256 * 1024)
        blob.upload_from_file(io.BytesIO(data), size=size)
        assert bucket.blob("u").download_as_bytes() == data

    def test_of_unknown_size(self, bucket):
        with bucket.blob("u").open("wb", chunk_size=256 * 1024) as file:
            file.write(b"a" * 700_000)
        assert bucket.blob("u").download_as_bytes() == b"a" * 700_000

    def test_nothing_is_seen_before_the_end(self, bucket):
        with bucket.blob("u").open("wb", chunk_size=256 * 1024) as file:
            file.write(b"a" * 700_000)
            assert not bucket.blob("u").exists()

    def test_gcsfs_shape(self, cloud, bucket):
        """Another client writes bare line feeds, and gcloud quotes the boundary with '."""
        body = b'--==1==\nContent-Type: application/json\n\n{"name": "g"}\n--==1==\n'
        body += b"Content-Type: a/b\n\nby\r\n\r\ntes\n--==1==--"
        url = f"{cloud.storage_url}/upload/storage/v1/b/{bucket.name}/o?uploadType=multipart"
        headers = {"Content-Type": "multipart/related; boundary='==1=='"}
        assert requests.post(url, data=body, headers=headers).status_code == 200
        assert bucket.blob("g").download_as_bytes() == b"by\r\n\r\ntes"

    def test_in_parallel_parts(self, bucket, tmp_path):
        data = os.urandom(1_000_000)
        (tmp_path / "in").write_bytes(data)
        transfer_manager.upload_chunks_concurrently(
            str(tmp_path / "in"), bucket.blob("mpu"), chunk_size=300_000, worker_type="thread"
        )
        found = bucket.get_blob("mpu")
        assert found is not None and found.md5_hash is None
        transfer_manager.download_chunks_concurrently(
            found, str(tmp_path / "out"), chunk_size=300_000, worker_type="thread"
        )
        assert (tmp_path / "out").read_bytes() == data


class TestFaults:
    """What the client does about them is why the mailbox carries owner tokens."""

    def test_retried(self, cloud, bucket):
        cloud.fault(bucket.name, method="POST", status=503, times=2)
        cloud.fault(bucket.name, method="GET", status=429, times=1)
        assert put(bucket, "x", retry=SOON).download_as_bytes() == b"x"
        assert [rule["played"] for rule in cloud.state()["faults"]] == [2, 1]

    def test_an_upload_goes_on_where_it_was(self, cloud, bucket):
        data = os.urandom(800_000)
        cloud.fault("upload_id", method="PUT", lose=True, after=True, skip=1, times=1)
        blob = bucket.blob("u", chunk_size=256 * 1024)
        blob.upload_from_file(io.BytesIO(data), size=len(data), retry=SOON)
        assert blob.download_as_bytes() == data

    def test_a_lost_answer_comes_back_as_412(self, cloud, bucket):
        cloud.fault(bucket.name, method="POST", lose=True, after=True, times=1)
        with pytest.raises(errors.PreconditionFailed):
            put(bucket, "mine", b"token", if_generation_match=0, retry=SOON)
        assert bucket.blob("mine").download_as_bytes() == b"token"

    def test_a_lost_delete_comes_back_as_404(self, cloud, bucket):
        blob = put(bucket, "x")
        cloud.fault(bucket.name, method="DELETE", lose=True, after=True, times=1)
        with pytest.raises(errors.NotFound):
            blob.delete(retry=SOON)

    @pytest.mark.parametrize("spoil", [{"flip": True}, {"truncate": 100}])
    def test_spoiled_downloads_are_noticed(self, cloud, bucket, spoil):
        blob = put(bucket, "x", os.urandom(1000))
        cloud.fault("alt=media", times=1, **spoil)
        with pytest.raises(Exception) as raised:
            blob.download_as_bytes(retry=None)
        assert not isinstance(raised.value, AssertionError)

    def test_a_bad_rule_is_refused(self, cloud):
        with pytest.raises(Exception, match="statuss"):
            cloud.fault("x", statuss=500)
