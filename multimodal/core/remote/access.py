"""StoreAccess: what a process needs to reach an object store, in a form that another process can take over.

A pickled RemotePath leaves out its secret options, so that none is written by accident. A worker on another machine
needs them, with the credentials in the environment of the process that started the job: it may have none, or others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from multimodal.core.remote.path import AnyPath, RemotePath

# Variables that are replaced together: a key of one machine with the session of another is no valid pair.
GROUPS = (
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    ("AWS_REGION", "AWS_DEFAULT_REGION"),
    ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ALLOW_HTTP"),
    ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN"),
    ("STORAGE_EMULATOR_HOST",),
    ("HF_TOKEN",),
    ("HF_ENDPOINT",),
)


class StoreAccess:
    """Options and environment variables by which this process reaches object stores.

    Its `repr` shows none of them. Pickling it includes them: send it to workers only, and never write it to a file.
    Variables that name a file, such as GOOGLE_APPLICATION_CREDENTIALS, are left out, since the file is not sent.
    """

    __slots__ = ("_environment", "_options")

    def __init__(self, options: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self._options, self._environment = dict(options), dict(environment)

    @classmethod
    def of(cls, path: AnyPath) -> StoreAccess:
        """The access that this process has to a path."""
        options = path.storage_options if isinstance(path, RemotePath) else {}
        names = [name for group in GROUPS for name in group]
        return cls(options, {name: os.environ[name] for name in names if os.environ.get(name)})

    def take_over(self, path: AnyPath) -> AnyPath:
        """Sets the variables in the environment of this process -> the path with its options."""
        for group in GROUPS:
            given = {name: self._environment[name] for name in group if name in self._environment}
            if given:
                for name in group:
                    os.environ.pop(name, None)
                os.environ.update(given)
        return RemotePath(path.url, self._options) if isinstance(path, RemotePath) else path

    def __repr__(self) -> str:
        return "StoreAccess()"

    def __reduce__(self) -> tuple[Any, ...]:
        return StoreAccess, (self._options, self._environment)
