"""A process made by fork() encodes, searches and loads, although its parent used many threads before; what LanceDB
cannot do there is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from multimodal.core.backends.fork import ForkGuard
from multimodal.core.errors import EncoderError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

PARENT = """
import multiprocessing, sys, warnings
import numpy as np, torch
import multimodal as mm

warnings.filterwarnings("ignore", message="lancedb fork support")
torch.set_num_threads(4)
space = mm.load("starter", device="cpu")
image = mm.Image(np.full((64, 64, 3), 200, np.uint8))
audio = mm.Audio((np.sin(np.arange(16_000) / 9).astype(np.float32), 16_000))
items = {"text": ["a red apple"] * 40, "image": [image] * 8, "audio": [audio] * 4}
expected = {name: space.encode(values) for name, values in items.items()}
index = mm.Index.create(sys.argv[1], space)
index.add(["a cat", "a dog"])
index.search("a cat")

def torch_alone(): (torch.randn(600, 600) @ torch.randn(600, 600)).sum()
def refused(call):
    try:
        call()
    except mm.errors.IndexStateError as error:
        assert "'spawn'" in str(error)
    else:
        raise AssertionError("not refused")
def open_index(): refused(lambda: mm.Index.open(sys.argv[1], space))
def search(): refused(lambda: index.search("a cat"))
def write(): refused(lambda: index.add(["a bird"]))
def load(): mm.load("starter", device="cpu").encode("a cat")
def encode(name): np.testing.assert_allclose(space.encode(items[name]), expected[name], atol=1e-5)

works = {"torch": torch_alone, "search": search, "open": open_index, "write": write, "load": load}
works |= {name: (lambda name=name: encode(name)) for name in items}
context = multiprocessing.get_context("fork")
for name, work in works.items():
    process = context.Process(target=work)
    process.start()
    process.join(60)
    if process.is_alive():
        process.kill()
        sys.exit(f"{name} hangs")
    if process.exitcode:
        sys.exit(f"{name} fails with exit code {process.exitcode}")
"""

WORKERS = """
import numpy as np, torch
import multimodal as mm

class Vectors(torch.utils.data.Dataset):
    def __len__(self): return 6
    def __getitem__(self, position): return space.encode(mm.Image(np.full((64, 64, 3), 30 * position, np.uint8)))

torch.set_num_threads(4)
space = mm.load("starter", device="cpu")
space.encode(["a red apple"] * 40)
loader = torch.utils.data.DataLoader(Vectors(), batch_size=2, num_workers=2, multiprocessing_context="fork", timeout=60)
assert torch.cat(list(loader)).shape == (6, 256)
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment, check=False)


def test_a_forked_process_does_not_hang(tmp_path: Path) -> None:
    done = run(PARENT, str(tmp_path / "x.lance"))
    assert done.returncode == 0, done.stderr[-2_000:]


def test_the_workers_of_a_data_loader_encode() -> None:
    done = run(WORKERS)
    assert done.returncode == 0, done.stderr[-2_000:]


def test_an_engine_whose_threads_are_gone_says_spawn(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = ForkGuard()
    guard.check("faster-whisper/tiny")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(
        EncoderError, match=r"^'faster-whisper/tiny' was loaded before this process was forked, .*'spawn'"
    ):
        guard.check("faster-whisper/tiny")
