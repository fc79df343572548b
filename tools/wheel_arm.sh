#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A wheel for 64-bit Arm with the operator library inside, cross-compiled. Usage: tools/wheel_arm.sh PYTHON FOLDER
# Built in a copy: in place it would leave a library for Arm where this machine's belongs.
set -euo pipefail

python=$1 folder=$2
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z | tar --create --null --files-from=- | tar --extract --directory="$copy"
mkdir -p "$folder"
# C++'s own library stays the robot's: with this compiler's inside, a newer C library would be asked for.
CXX=aarch64-linux-gnu-g++ EDGE_VLM_BUILD_MACHINE=aarch64 \
  "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$folder" \
  --config-settings=--build-option=--plat-name=manylinux_2_34_aarch64 "$copy"
ls "$folder"/edge_vlm-*-manylinux_2_34_aarch64.whl
