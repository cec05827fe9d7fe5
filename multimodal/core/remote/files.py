"""Reads, writes and lists objects with pyarrow. Errors of the store become StorageError, which names the cure.

What tells whether an object has changed is its size with its version. `stat` and `list_files` take the time of the last
write for the version: pyarrow lists no entity tags. S3 and Azure give whole seconds, so an object that was written in
the second of the listing, or shortly before by a clock that differs, may be written again without a trace: its version
is the time of the listing, which no later listing repeats. `stat_source` and `list_sources` take the tag or hash of the
store where it can be had: of S3 with boto3, and of the Hugging Face Hub.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from multimodal.core.errors import InvalidInput, StorageError
from multimodal.core.remote import fsspec_files, s3_etags
from multimodal.core.remote.errors import NO_BUCKET, explain, first_line
from multimodal.core.remote.path import RemotePath, first_of

CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S = 5.0, 30.0
ATTEMPTS = 3
YES = ("true", "1", "yes")
GS_OPTIONS = ("google_base_url", "google_skip_signature")
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
    if fsspec_files.reads(path):
        with errors_of(path):
            return fsspec_files.read(path)
    with errors_of(path), _filesystem(path).open_input_stream(path.key) as file:
        content: bytes = file.read()
        return content


class Ranges(Protocol):
    """An open file of which any part can be read."""

    def size(self) -> int:
        """Size in bytes."""
        ...

    def read_at(self, n_bytes: int, offset: int) -> bytes:
        """Some of its bytes, fewer only at its end. Raises OSError."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


def open_ranges(path: RemotePath) -> Ranges:
    """Opens an object, of which nothing is read yet. Raises FileNotFoundError, StorageError."""
    with errors_of(path):
        if fsspec_files.reads(path):
            return fsspec_files.FsspecRanges(path)
        ranges: Ranges = _filesystem(path).open_input_file(path.key)
        return ranges


def write(path: RemotePath, content: bytes) -> None:
    """Writes an object, which appears complete or not at all. Raises StorageError."""
    with errors_of(path), _filesystem(path).open_output_stream(path.key) as file:
        file.write(content)


def delete(path: RemotePath) -> bool:
    """Deletes an object; whether there was one. Raises StorageError."""
    try:
        with errors_of(path):
            _filesystem(path).delete_file(path.key)
    except FileNotFoundError:
        return False
    return True


def stat(path: RemotePath) -> RemoteFile | None:
    """An object; None if there is none. Raises StorageError."""
    now = time.time_ns()
    with errors_of(path):
        if fsspec_files.reads(path):
            file = fsspec_files.stat(path)
            return None if file is None else _fsspec_file(*file)
        info = _filesystem(path).get_file_info(path.key)
    return _file(path, info, now) if info.is_file else None


def list_files(folder: RemotePath) -> list[RemoteFile]:
    """All objects below a folder, in order of name; none if there is no such folder. Raises StorageError."""
    if fsspec_files.reads(folder):
        try:
            with errors_of(folder):
                return sorted((_fsspec_file(*file) for file in fsspec_files.list_files(folder)), key=_url)
        except FileNotFoundError:
            return []
    now = time.time_ns()
    return sorted(
        (_file(_below(folder, info), info, now) for info in _list(folder, True) if info.is_file), key=_url
    )


def stat_source(path: RemotePath) -> RemoteFile | None:
    """As `stat`, for what is indexed: the version is an entity tag, where there is one."""
    if s3_etags.is_usable(path):
        with contextlib.suppress(s3_etags.Unavailable):  # pyarrow says what is wrong
            tagged = s3_etags.stat_tagged(path)
            return None if tagged is None else _tagged_file(path, tagged)
    return stat(path)


def list_sources(folder: RemotePath) -> list[RemoteFile]:
    """As `list_files`, for what is indexed: the versions are entity tags, where there are any."""
    if s3_etags.is_usable(folder):
        with contextlib.suppress(s3_etags.Unavailable):
            listed = s3_etags.list_tagged(folder)
            return sorted((_tagged_file(_at(folder, tagged.url), tagged) for tagged in listed), key=_url)
    return list_files(folder)


def list_names(folder: RemotePath) -> list[str]:
    """The names of files and folders in a folder; none if there is no such folder. Raises StorageError."""
    return sorted(info.base_name for info in _list(folder, False))


def _list(folder: RemotePath, recursive: bool) -> list[Any]:
    from pyarrow import fs

    try:
        with errors_of(folder):
            # Of a folder that is not there, pyarrow's client of Google raises a bare OSError, and so of a file.
            is_google = folder.scheme == "gs"
            selector = fs.FileSelector(folder.key, allow_not_found=is_google, recursive=recursive)
            if is_google and _filesystem(folder).get_file_info(folder.key).is_file:
                return []
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


def _fsspec_file(url: str, size: int, version: int) -> RemoteFile:
    return RemoteFile(RemotePath(url), size, 0, version)


def _tagged_file(path: RemotePath, tagged: s3_etags.Tagged) -> RemoteFile:
    return RemoteFile(path, tagged.size, tagged.mtime_ns, fsspec_files.version_of(tagged.etag))


def _at(folder: RemotePath, url: str) -> RemotePath:
    return folder / url.removeprefix(folder.url).lstrip("/")


def _url(file: RemoteFile) -> str:
    return file.path.url


@contextlib.contextmanager
def errors_of(path: RemotePath) -> Iterator[None]:
    """Errors of the store in the block become StorageError, except FileNotFoundError for an object."""
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
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=CONNECT_TIMEOUT_S), **_gs_arguments(given))
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


def _gs_arguments(options: dict[str, str]) -> dict[str, Any]:
    """The arguments of pyarrow's GcsFileSystem for options by LanceDB's names. Raises InvalidInput."""
    for name in options:
        if name.startswith(("google_", "service_account")) and name not in GS_OPTIONS:
            raise InvalidInput(
                f"storage_options[{name!r}] is not supported for gs://; name the key file in the environment variable "
                "GOOGLE_APPLICATION_CREDENTIALS"
            )
    arguments: dict[str, Any] = {}
    if (options.get("google_skip_signature") or "").lower() in YES:
        arguments["anonymous"] = True
    if endpoint := options.get("google_base_url"):
        parts = urlsplit(endpoint)
        arguments |= {"endpoint_override": parts.netloc, "scheme": parts.scheme}
    return arguments


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
