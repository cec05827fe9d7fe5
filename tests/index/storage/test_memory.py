"""Memory does not grow with the number of commits, on systems with glibc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from multimodal.index.storage import memory

ROOT = Path(__file__).parents[3]
COMMITS = """
import sys
from pathlib import Path
import numpy as np
from multimodal.index.storage.memory import release_memory
from multimodal.index.storage.schema import IndexMetadata, Provenance, Row
from multimodal.index.storage.table import ItemTable

def resident_mb():
    release_memory()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024

table = ItemTable.create(Path(sys.argv[1]), IndexMetadata("s", "s", "f", 128, ("text",)))
rng, curve = np.random.default_rng(0), []
for commit in range(360):
    rows = [Row(f"{commit}/{n}", None, "text", "note", {"n": n}) for n in range(50)]
    vectors = rng.standard_normal((50, 128)).astype(np.float32)
    table.upsert(rows, [Provenance(row.id) for row in rows], vectors, are_new=commit % 4 > 0)
    table.documents([row.id for row in rows])
    if commit % 32 == 31:
        table.compact()
    if commit >= 180:
        curve.append(resident_mb())
print(np.polyfit(range(len(curve)), curve, 1)[0])
"""


def has_glibc() -> bool:
    return sys.platform == "linux" and memory._has_glibc()


def run(code: str, *arguments: str, **variables: str) -> str:
    environment = {
        name: value for name, value in os.environ.items() if name not in (memory.ARENAS, memory.IO_BUFFER)
    }
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(not has_glibc(), reason="only glibc has arenas")
def test_memory_does_not_grow_with_commits(tmp_path: Path) -> None:
    """0.004 to 0.044 MB a commit in eight runs, 0.017 to 0.084 with more arenas; 0.002 after 720 commits."""
    mb_per_commit = float(run(COMMITS, str(tmp_path / "i.lance")))
    assert mb_per_commit < 0.06, f"{mb_per_commit:.3f} MB a commit"


@pytest.mark.skipif(not has_glibc(), reason="only glibc has arenas")
def test_the_limit_is_set_before_lancedb_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from multimodal.index.storage import memory\n"
        "set_arenas, order = memory._c_function('mallopt'), []\n"
        "def mallopt(*arguments):\n"
        "    order.append(arguments + ('lancedb' in sys.modules,))\n"
        "    return set_arenas(*arguments)\n"
        "memory._c_function = lambda name: mallopt\n"
        "from pathlib import Path\n"
        "from multimodal.index.storage.connection import connect\n"
        "connect(Path(sys.argv[1])); connect(Path(sys.argv[1]))\n"
        "import os\n"
        "print(order, memory.limit_arenas(), os.environ['LANCE_DEFAULT_IO_BUFFER_SIZE'])\n"
    )
    assert run(code, str(tmp_path / "i.lance")) == f"[({memory.M_ARENA_MAX}, 1, False)] True {64 << 20}"


def test_values_set_by_the_user_are_kept() -> None:
    code = (
        "import os\n"
        "from multimodal.index.storage import memory\n"
        "memory.limit_memory()\n"
        "print(memory.limit_arenas(), os.environ['LANCE_DEFAULT_IO_BUFFER_SIZE'])\n"
    )
    assert run(code, MALLOC_ARENA_MAX="4", LANCE_DEFAULT_IO_BUFFER_SIZE="1000000") == "False 1000000"


@pytest.mark.parametrize("missing", ["glibc", "mallopt"])
def test_other_c_libraries_are_left_alone(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(memory.ARENAS, raising=False)
    if missing == "glibc":
        monkeypatch.setattr(memory, "_has_glibc", lambda: False)
    else:
        monkeypatch.setattr(memory, "_c_function", lambda name: None)
    assert memory.limit_arenas.__wrapped__() is False
    memory.release_memory()
