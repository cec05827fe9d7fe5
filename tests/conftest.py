"""What holds for every test: a bounded number of threads, no network."""

import ipaddress
import os
import signal
import sys
from typing import Any

import pytest
from hypothesis import settings

# Before anything imports torch or a tokenizer. The models are tiny: more threads only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", str(min(4, os.cpu_count() or 1)))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Child processes do not pass through the hook below: the libraries that fetch are told as well.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1")

# The same examples on every run and machine, so that a failure belongs to the change that shows it; time per example
# says more about the machine than about the code. To look further: pytest --hypothesis-profile=explore
settings.register_profile("multimodal", deadline=None, derandomize=True, max_examples=30)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("multimodal")

# Files of few tests that take long, by what they take. Run by xdist, they are started first: the file that is started
# last runs while the other cores have nothing to do.
LONG = (
    *(
        "tests/page/test_page.py",
        "tests/test_packaging.py",
        "tests/test_readme.py",
        "tests/index/engines/test_ray.py",
    ),
    *("tests/exporting/test_export.py", "tests/page/test_static.py", "tests/encoders/test_openvino.py"),
    *("tests/docs/test_examples.py", "tests/clients/test_clients.py", "tests/index/ingest/test_resume.py"),
)


def _is_local(host: str | bytes | None) -> bool:
    name = host.decode() if isinstance(host, bytes) else host or "localhost"
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _refuse_network(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook, so that every Python library is covered, whatever it imported before us."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        if not isinstance(args[1], tuple):  # a Unix socket, or one connected before
            return
        host = args[1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
    else:
        return
    if not _is_local(host):
        raise RuntimeError(
            f"a test reached for the network ({event}: {host!r}): tests run offline, use a local file"
        )


sys.addaudithook(_refuse_network)


def pytest_configure() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would the processes that tests start and stop by it;
    a handler of our own becomes the default again in those."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # a process of xdist
        ranks = {file: place for place, file in enumerate(LONG)}
        items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(LONG)))
