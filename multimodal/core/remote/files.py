"""Reads, writes and lists objects with pyarrow. Errors of the store become StorageError, which names the cure.

A listing has no entity tags, and one more request for each object would cost more than reading small ones again. What
tells whether an object has changed is its size with the time of its last write. S3 and Azure give whole seconds, so an
object that was written in the second of the listing, or shortly before by a clock that differs, may be written again
without a trace: its version is the time of the listing, which no later listing repeats. Files of a hub have a hash.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from multimodal.core.errors import InvalidInput, StorageError
from multimodal.core.remote import hub_files
from multimodal.core.remote.errors import NO_BUCKET, explain, first_line
from multimodal.core.remote.path import RemotePath, first_of

CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S = 5.0, 30.0
ATTEMPTS = 3
YES = ("true", "1", "yes")
SECOND_NS = 10**9
SETTLED_NS = 3 * SECOND_NS  # the second of the write, and two by which clocks may differ


class RemoteFile(NamedTuple):
    """An object, with its size in bytes and the time of its last write, by the clock of the store; 0 if there is none.

    version: differs if the object was written since, even where the time does not tell.
    """

    path: RemotePath
    size: int
    mtime_ns: int
    version: int


def read(path: RemotePath) -> bytes:
    """The content of an object. Raises FileNotFoundError, StorageError."""
    if hub_files.is_hub(path):
        with _errors(path):
            return hub_files.read(path)
    with _errors(path), _filesystem(path).open_input_stream(path.key) as file:
        content: bytes = file.read()
        return content


def write(path: RemotePath, content: bytes) -> None:
    """Writes an object, which appears complete or not at all. Raises StorageError."""
    with _errors(path), _filesystem(path).open_output_stream(path.key) as file:
        file.write(content)


def delete(path: RemotePath) -> bool:
    """Deletes an object; whether there was one. Raises StorageError."""
    try:
        with _errors(path):
            _filesystem(path).delete_file(path.key)
    except FileNotFoundError:
        return False
    return True


def stat(path: RemotePath) -> RemoteFile | None:
    """An object; None if there is none. Raises StorageError."""
    now = time.time_ns()
    with _errors(path):
        if hub_files.is_hub(path):
            file = hub_files.stat(path)
            return None if file is None else _hub_file(*file)
        info = _filesystem(path).get_file_info(path.key)
    return _file(path, info, now) if info.is_file else None


def list_files(folder: RemotePath) -> list[RemoteFile]:
    """All objects below a folder, in order of name; none if there is no such folder. Raises StorageError."""
    if hub_files.is_hub(folder):
        try:
            with _errors(folder):
                return sorted((_hub_file(*file) for file in hub_files.list_files(folder)), key=_url)
        except FileNotFoundError:
            return []
    now = time.time_ns()
    return sorted(
        (_file(_below(folder, info), info, now) for info in _list(folder, True) if info.is_file), key=_url
    )


def list_names(folder: RemotePath) -> list[str]:
    """The names of files and folders in a folder; none if there is no such folder. Raises StorageError."""
    return sorted(info.base_name for info in _list(folder, False))


def _list(folder: RemotePath, recursive: bool) -> list[Any]:
    from pyarrow import fs

    try:
        with _errors(folder):
            selector = fs.FileSelector(folder.key, recursive=recursive)
            return list(_filesystem(folder).get_file_info(selector))
    except FileNotFoundError:
        return []


def _below(folder: RemotePath, info: Any) -> RemotePath:
    return folder / info.path.removeprefix(folder.key).lstrip("/")


def _file(path: RemotePath, info: Any, now: int) -> RemoteFile:
    """now: when the listing began, by the clock of this machine."""
    mtime_ns = int(info.mtime_ns)
    is_settled = mtime_ns % SECOND_NS != 0 or mtime_ns < now - SETTLED_NS
    return RemoteFile(path, int(info.size), mtime_ns, mtime_ns if is_settled else now | 1)


def _hub_file(key: str, size: int, version: int) -> RemoteFile:
    return RemoteFile(RemotePath(f"{hub_files.SCHEME}://{key}"), size, 0, version)


def _url(file: RemoteFile) -> str:
    return file.path.url


@contextlib.contextmanager
def _errors(path: RemotePath) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if NO_BUCKET.search(str(error)):
            raise StorageError(explain(path, error)) from error
        raise
    except OSError as error:  # pyarrow's kinds of errors are all OSError
        reason = explain(path, error)
        raise StorageError(reason or f"{path}: {first_line(error)}") from error


def _filesystem(path: RemotePath) -> Any:
    return _open(path.scheme, tuple(sorted(path.storage_options.items())), os.getpid())


@functools.lru_cache(maxsize=8)
def _open(scheme: str, options: tuple[tuple[str, str], ...], pid: int) -> Any:
    """A filesystem of pyarrow. pid: that of the process, since connections do not survive a fork."""
    from pyarrow import fs

    given = dict(options)
    if scheme == "s3":
        return fs.S3FileSystem(**_s3_arguments(given))
    if scheme == "gs":
        if name := next((name for name in given if name.startswith(("google_", "service_account"))), None):
            raise InvalidInput(
                f"storage_options[{name!r}] is not supported for gs://; name the key file in the environment variable "
                "GOOGLE_APPLICATION_CREDENTIALS"
            )
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=CONNECT_TIMEOUT_S))
    account = first_of(given, "account_name", "azure_storage_account_name")
    account = account or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if not account:
        raise InvalidInput("az:// needs the name of the account: set AZURE_STORAGE_ACCOUNT_NAME")
    return fs.AzureFileSystem(
        account,
        first_of(given, "account_key", "azure_storage_account_key")
        or os.environ.get("AZURE_STORAGE_ACCOUNT_KEY"),
        sas_token=first_of(given, "sas_token", "azure_storage_sas_token"),
    )


def _s3_arguments(options: dict[str, str]) -> dict[str, Any]:
    """The arguments of pyarrow's S3FileSystem for options by LanceDB's names."""
    from pyarrow import fs

    arguments: dict[str, Any] = {
        "access_key": first_of(options, "aws_access_key_id", "access_key_id"),
        "secret_key": first_of(options, "aws_secret_access_key", "secret_access_key"),
        "session_token": first_of(options, "aws_session_token", "session_token", "aws_token", "token"),
        "region": first_of(options, "aws_region", "region", "aws_default_region"),
    }
    arguments = {name: value for name, value in arguments.items() if value}
    if (first_of(options, "aws_skip_signature", "skip_signature") or "").lower() in YES:
        arguments["anonymous"] = True
    endpoint = first_of(options, "aws_endpoint", "endpoint", "aws_endpoint_url", "endpoint_url")
    if endpoint:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        arguments |= {"endpoint_override": parts.netloc + parts.path.rstrip("/"), "scheme": parts.scheme}
        virtual = first_of(options, "aws_virtual_hosted_style_request", "virtual_hosted_style_request")
        arguments["force_virtual_addressing"] = (virtual or "").lower() in YES
    return arguments | {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "request_timeout": REQUEST_TIMEOUT_S,
        "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        "allow_delayed_open": True,  # small objects in one request
    }
