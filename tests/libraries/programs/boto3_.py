"""boto3."""

import io
import uuid
from functools import cache
from typing import Any

import boto3
import botocore.exceptions
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from libraries.probe import probe, servers

BUCKET = "bucket"


def make(**options: Any) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=options.pop("address", servers.s3),
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(retries={"max_attempts": 1}, **options),
    )


# Made on the first call, as botocore imports and reads its models then: seconds of work.
@cache
def client() -> Any:
    made = make()
    made.create_bucket(Bucket=BUCKET)
    return made


@cache
def impatient() -> Any:
    return make(read_timeout=0.1)


@cache
def with_nobody_there() -> Any:
    return make(address=f"http://127.0.0.1:{servers.refused}")


@probe
def put_and_get() -> None:
    s3, key = client(), uuid.uuid4().hex
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"x" * 100_000)
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"x" * 100_000
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=key)
    assert [item["Key"] for item in listed["Contents"]] == [key]
    s3.delete_object(Bucket=BUCKET, Key=key)


@probe
def transferred_by_threads() -> None:
    s3, key = client(), uuid.uuid4().hex
    config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    got = io.BytesIO()
    s3.upload_fileobj(io.BytesIO(b"x" * (11 << 20)), BUCKET, key, Config=config)
    s3.download_fileobj(BUCKET, key, got, Config=config)
    assert len(got.getvalue()) == 11 << 20
    s3.delete_object(Bucket=BUCKET, Key=key)


@probe(raises=botocore.exceptions.ClientError)
def error_of_the_server() -> None:
    client().get_object(Bucket=BUCKET, Key="nothing")


@probe(raises=botocore.exceptions.EndpointConnectionError)
def refused() -> None:
    with_nobody_there().list_buckets()


@probe(raises=botocore.exceptions.ReadTimeoutError)
def read_timeout() -> None:
    impatient().list_objects_v2(Bucket="slow")


@probe(slow=True)
def slow() -> None:
    client().put_object(Bucket=BUCKET, Key="slow", Body=b"x")
