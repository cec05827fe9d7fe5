"""RemotePath: the address of a folder or file on an object store, with what is needed to reach it.

Two clients use one address. LanceDB takes `storage_options` as they are; pyarrow, which reads and lists everything
else, takes arguments that are derived from them. Where an option is missing, both find credentials in the usual
places by themselves (environment variables, profiles, the metadata service of the machine).
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.core.errors import InvalidInput

SCHEMES = ("s3", "gs", "az")
# Read by fsspec, and hold files to be indexed, but no index. "hf" is the Hugging Face Hub, "abfs" Azure.
FSSPEC_SCHEMES = ("hf", "abfs", "ftp", "hdfs", "memory", "oss", "sftp", "smb", "webhdfs")
SOURCE_SCHEMES = (*SCHEMES, *FSSPEC_SCHEMES)
URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://(?P<rest>.*)", re.DOTALL)
ONE_SLASH = re.compile(rf"(?P<scheme>{'|'.join(SCHEMES)}):/(?!/)(?P<rest>.*)", re.DOTALL | re.IGNORECASE)
# Options that may be shown and pickled; all others may be secret.
PUBLIC_OPTIONS = frozenset({
    *("region", "aws_region", "aws_default_region", "endpoint", "endpoint_url", "aws_endpoint", "aws_endpoint_url"),
    *("allow_http", "aws_allow_http", "virtual_hosted_style_request", "aws_virtual_hosted_style_request"),
    *("skip_signature", "aws_skip_signature", "account_name", "azure_storage_account_name"),
    *("timeout", "connect_timeout", "client_max_retries", "client_retry_timeout"),
})  # fmt: skip
GS_EMULATOR_VARIABLE = "STORAGE_EMULATOR_HOST"  # as Google's own clients call it
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class RemotePath:
    """The address of a folder or file on an object store. Immutable.

    It is not a `pathlib.Path`, nor can one be made of it: `Path("s3://bucket")` is the local folder "s3:".

    Attributes:
        url: Such as "s3://bucket/name", without a slash at the end.
        storage_options: Credentials and settings, by the names that LanceDB gives them. They are never stored, and a
            pickled address keeps only those that are not secret.
    """

    __slots__ = ("_options", "url")

    def __init__(self, url: str, storage_options: Mapping[str, str] | None = None) -> None:
        """Raises InvalidInput for a URL of another kind, or options that are not text."""
        match = URL.fullmatch(url)
        if match is None or match["scheme"].lower() not in SOURCE_SCHEMES:
            raise InvalidInput(f"{url!r} is not on an object store; known are {_names()}")
        parts = match["rest"].strip("/").split("/")
        if not parts[0] or any(part in ("", ".", "..") for part in parts) or "\0" in url:
            raise InvalidInput(
                f"{url!r} is not an address such as 's3://bucket/folder'; write bucket and folder"
            )
        self.url = f"{match['scheme'].lower()}://{'/'.join(parts)}"
        self._options = _checked(storage_options)

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0]

    @property
    def bucket(self) -> str:
        return self.key.partition("/")[0]

    @property
    def container(self) -> str:
        """The bucket, or the repository of a hub, "user/name"."""
        return "/".join(self.key.split("/")[1:3]) if self.scheme == "hf" else self.bucket

    @property
    def key(self) -> str:
        """Bucket and path, "bucket/name", as pyarrow names files."""
        return self.url.partition("://")[2]

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        """The address of the folder. Raises InvalidInput for a whole bucket."""
        if "/" not in self.key:
            raise InvalidInput(f"{self.url!r} is a whole bucket, which is in no folder")
        return RemotePath(self.url.rpartition("/")[0], self._options)

    def below(self, relative: str) -> RemotePath:
        """The address of a file by its path relative to this folder, such as "a/1.jpg" or "../1.jpg".

        Raises InvalidInput for a path that leads out of the bucket, or is absolute.
        """
        key = posixpath.normpath(f"{self.key}/{relative}")
        if relative.startswith(("/", "~")) or key.partition("/")[0] != self.bucket:
            raise InvalidInput(
                f"{relative!r} leads out of {self.scheme}://{self.bucket}; give a path relative to the table, or a "
                "whole address"
            )
        return RemotePath(f"{self.scheme}://{key}", self._options)

    @property
    def storage_options(self) -> dict[str, str]:
        """The options given, with the endpoint that the environment names, and with what that implies."""
        options = dict(self._options)
        if self.scheme == "s3":
            endpoint = first_of(options, "endpoint", "endpoint_url", "aws_endpoint", "aws_endpoint_url")
            if endpoint is None:
                endpoint = next(filter(None, (os.environ.get(name) for name in ENDPOINT_VARIABLES)), None)
                if endpoint is not None:
                    options["aws_endpoint"] = endpoint
            if endpoint is not None and endpoint.startswith("http://"):
                options.setdefault("allow_http", "true")
        elif self.scheme == "gs" and (host := os.environ.get(GS_EMULATOR_VARIABLE)):
            options.setdefault("google_base_url", host if "://" in host else f"http://{host}")
            options |= {"google_skip_signature": "true", "allow_http": "true"}
        return options

    def __truediv__(self, name: str) -> RemotePath:
        below = RemotePath.__new__(RemotePath)
        below.url, below._options = f"{self.url}/{name}", self._options
        return below

    def with_name(self, name: str) -> RemotePath:
        """The address of a neighbour."""
        if "/" not in self.key:
            raise InvalidInput(f"{self.url!r} is a whole bucket; name a folder in it")
        return RemotePath(f"{self.url.rpartition('/')[0]}/{name}", self._options)

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemotePath({self.url!r})"  # without its options: they may be secret

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.url == other.url and self._endpoint == other._endpoint

    def __hash__(self) -> int:
        return hash(self.url)

    @property
    def _endpoint(self) -> str | None:
        return first_of(
            self.storage_options,
            "endpoint",
            "endpoint_url",
            "aws_endpoint",
            "aws_endpoint_url",
            "account_name",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        public = {name: value for name, value in self._options.items() if name in PUBLIC_OPTIONS}
        return RemotePath, (self.url, public)


AnyPath = Path | RemotePath  # a folder or file, wherever it is
GivenPath = str | os.PathLike[str] | RemotePath  # as callers may give one


def is_remote(path: object) -> bool:
    """Whether a str names something on an object store that may hold an index."""
    return _has_scheme(path, SCHEMES)


def is_remote_source(path: object) -> bool:
    """Whether a str names files that can be indexed, on an object store, a hub or another file system of fsspec."""
    return _has_scheme(path, SOURCE_SCHEMES)


def _has_scheme(path: object, schemes: tuple[str, ...]) -> bool:
    match = URL.match(path) if isinstance(path, str) else None
    return match is not None and match["scheme"].lower() in schemes


def lacks_a_slash(path: str) -> bool:
    """Whether a path is an address on an object store with one slash missing, which pathlib removes."""
    return ONE_SLASH.match(path) is not None


def refused(url: str) -> InvalidInput:
    """The error for an index at a URL of another kind, or at an address that lacks a slash."""
    lacking = ONE_SLASH.match(url)
    cure = "copy the index to one of these and give its address"
    if lacking is not None:
        cure = f"write it with two slashes, and as a str: '{lacking['scheme'].lower()}://{lacking['rest']}'"
    return InvalidInput(
        f"an index is kept in a local folder, or on an object store at {_names()}, got the URL {url!r}; {cure}"
    )


def any_path(given: str) -> AnyPath:
    """A path, or an address on an object store."""
    return RemotePath(given) if is_remote(given) else Path(given)


def any_source(given: str) -> AnyPath:
    """As any_path, for what is indexed."""
    return RemotePath(given) if is_remote_source(given) else Path(given)


def first_of(options: Mapping[str, str], *names: str) -> str | None:
    """The value of the first of these options that is given."""
    return next((options[name] for name in names if options.get(name)), None)


def _checked(options: object) -> dict[str, str]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise InvalidInput(
            f"storage_options must be a dict such as {{'aws_region': 'eu-west-1'}}, got {type(options).__name__}"
        )
    checked = {}
    for name, value in options.items():
        if not isinstance(name, str) or not isinstance(
            value, str
        ):  # the value is not shown: it may be secret
            raise InvalidInput(
                f"storage_options must have a str for every key, got {type(value).__name__} for {name!r}"
            )
        checked[name.lower()] = value
    return checked


def _names() -> str:
    return "s3://bucket/name, gs://bucket/name and az://container/name"
