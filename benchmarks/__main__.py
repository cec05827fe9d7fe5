"""All benchmarks, one after the other: python -m benchmarks [--small] (= make bench)"""

from __future__ import annotations

import subprocess
import sys

MODULES = ("startup", "memory", "images", "captions", "sounds", "search", "device")


def main(argv: list[str]) -> int:
    """Each in a process of its own, so that none starts with what another left in memory. The number that failed."""
    failed = []
    for name in MODULES:
        print(f"\n## {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *argv]).returncode:
            failed.append(name)
    if failed:
        print(f"\nThese did not end well: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
