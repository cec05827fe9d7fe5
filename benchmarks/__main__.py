"""Runs all benchmarks: python -m benchmarks [--small] (= make bench)"""

from __future__ import annotations

import subprocess
import sys

MODULES = ("startup", "memory", "images", "captions", "audio", "search", "device")


def main(argv: list[str]) -> int:
    """Runs each benchmark in a separate process; returns the number of failures."""
    failed = []
    for name in MODULES:
        print(f"\n## {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *argv]).returncode:
            failed.append(name)
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
