# SPDX-License-Identifier: Apache-2.0
"""Pin the dependency ranges of pyproject.toml for every supported Python: writes requirements/*.lock (needs uv)."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {"onboard.lock": [], "test.lock": ["--extra", "offboard", "--extra", "test"]}
# torch pins its own CUDA packages; naming them here would force them on CPU builds, which need none.
OWNED_BY_TORCH = re.compile(r"^(nvidia-|cuda-|triton)")


def main() -> int:
    for name, options in LOCKS.items():
        lock = ROOT / "requirements" / name
        command = [sys.executable, "-m", "uv", "pip", "compile", "--universal", "--python-version", "3.10"]
        command += ["--no-header", "--no-annotate", "--no-python-downloads", "--upgrade", *options]
        command += ["--constraint", "requirements/constraints.txt"]
        command += ["pyproject.toml", "-o", str(lock.relative_to(ROOT))]
        print(" ".join(command), flush=True)
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        kept = [line for line in lock.read_text().splitlines(keepends=True) if not OWNED_BY_TORCH.match(line)]
        lock.write_text("".join(kept))
    return 0


if __name__ == "__main__":
    sys.exit(main())
