"""Entity tags of objects on Amazon S3, by boto3 (the extra `s3`): pyarrow lists sizes and times only.

The tag of an object differs when its content does, and stays when the same content is written again. Everything else is
read by pyarrow, so that boto3 is never needed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from multimodal.core.remote.path import RemotePath, first_of

N_CONNECTIONS = 16
NS = 10**9


class Tagged(NamedTuple):
    """url, size in bytes, time of the last write, and entity tag of an object."""

    url: str
    size: int
    mtime_ns: int
    etag: str


class Unavailable(Exception):
    """The store does not answer boto3, or boto3 is not installed."""


def list_tagged(folder: RemotePath) -> list[Tagged]:
    """All objects below a folder. Raises Unavailable."""
    bucket, _, key = folder.key.partition("/")
    prefix = f"{key}/" if key else ""
    with _unavailable():
        pages = _client(folder).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [
            _tagged(f"s3://{bucket}/{entry['Key']}", entry, entry["Size"])
            for page in pages
            for entry in page.get("Contents", ())
            if not entry["Key"].endswith("/")  # stands for a folder
        ]


def stat_tagged(path: RemotePath) -> Tagged | None:
    """An object; None if there is none. Raises Unavailable."""
    from botocore.exceptions import ClientError

    bucket, _, key = path.key.partition("/")
    if not key:
        return None
    with _unavailable():
        try:
            head = _client(path).head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return None
            raise
        return _tagged(path.url, head, head["ContentLength"])


def is_usable(path: RemotePath) -> bool:
    """Whether objects below a path have tags that can be read."""
    return path.scheme == "s3" and importlib.util.find_spec("boto3") is not None


def _tagged(url: str, entry: Mapping[str, Any], size: int) -> Tagged:
    return Tagged(url, int(size), int(entry["LastModified"].timestamp()) * NS, entry["ETag"].strip('"'))


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError, KeyError, ValueError) as error:
        raise Unavailable(str(error)) from error


def _client(path: RemotePath) -> Any:
    return _new_client(tuple(sorted(path.storage_options.items())), os.getpid())


@functools.lru_cache(maxsize=8)
def _new_client(options: tuple[tuple[str, str], ...], pid: int) -> Any:
    """pid: that of the process, since connections do not survive a fork."""
    from boto3.session import Session
    from botocore import UNSIGNED
    from botocore.config import Config

    given = dict(options)
    yes = ("true", "1", "yes")
    is_anonymous = (first_of(given, "aws_skip_signature", "skip_signature") or "").lower() in yes
    virtual = first_of(given, "aws_virtual_hosted_style_request", "virtual_hosted_style_request")
    endpoint = first_of(given, "aws_endpoint", "endpoint", "aws_endpoint_url", "endpoint_url")
    if endpoint is not None and "://" not in endpoint:
        endpoint = f"https://{endpoint}"
    is_virtual = endpoint is None or (virtual or "").lower() in yes
    config = Config(
        connect_timeout=5,
        read_timeout=30,
        retries={"max_attempts": 3},
        max_pool_connections=N_CONNECTIONS,
        s3={"addressing_style": "auto" if is_virtual else "path"},
        **({"signature_version": UNSIGNED} if is_anonymous else {}),
    )
    session = Session(
        first_of(given, "aws_access_key_id", "access_key_id"),
        first_of(given, "aws_secret_access_key", "secret_access_key"),
        first_of(given, "aws_session_token", "session_token", "aws_token", "token"),
        first_of(given, "aws_region", "region", "aws_default_region") or os.environ.get("AWS_REGION"),
    )
    return session.client("s3", endpoint_url=endpoint, config=config)
