#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Create .venv and install a lock file into it. Usage: tools/venv.sh PYTHON LOCK...
# Whatever is missing on the machine is said in one line, with the command that installs it.
set -euo pipefail

python=$1
shift

fail() {
  echo "edge_vlm: $1" >&2
  exit 1
}

command -v "$python" >/dev/null || fail "no $python found; install it: sudo apt install python3 python3-venv"
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' ||
  fail "$("$python" --version 2>&1 || echo "$python") is not supported; use Python 3.10 to 3.13: make PYTHON=python3.12 demo"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  fail "$python cannot make virtual environments; install: sudo apt install python3-venv"
command -v g++ >/dev/null || command -v c++ >/dev/null || command -v clang++ >/dev/null ||
  fail "no C++ compiler found; install: sudo apt install g++"

[ -x .venv/bin/python ] || "$python" -m venv .venv
for lock in "$@"; do
  echo "edge_vlm: installing $lock into .venv" >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary=:all: --no-binary=pycocoevalcap -r "$lock" ||
    fail "a dependency of $lock has no wheel for $("$python" --version) on $(uname -m), or the package index cannot be reached; see the lines above"
done
