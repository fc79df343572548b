#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Debian's Python for 64-bit Arm and LiteRT's wheel for it, to be run by qemu-user. Usage: tools/arm_python.sh PYTHON FOLDER
# FOLDER/root holds the system, FOLDER/site the packages; nothing is installed on this machine.
set -euo pipefail

python=$1 folder=$2 version=3.11
[ -e "$folder/complete" ] && exit 0
command -v apt-get >/dev/null || { echo "arm_python: needs Debian's apt-get" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] && sudo= || sudo=sudo
mkdir -p "$folder/debs" "$folder/root" "$folder/site" "$folder/wheels"
$sudo dpkg --add-architecture arm64
$sudo apt-get update -qq
packages="python$version-minimal libpython$version-minimal libpython$version-stdlib libc6 libssl3 zlib1g libexpat1 libstdc++6
  libgcc-s1 libbz2-1.0 liblzma5 libffi8 libcrypt1 libuuid1"
(cd "$folder/debs" && apt-get download -qq $(printf '%s:arm64 ' $packages))
for package in "$folder"/debs/*.deb; do dpkg -x "$package" "$folder/root"; done
platforms=$(printf -- '--platform manylinux_2_%s_aarch64 ' 28 27 17)
litert=$("$python" -c 'import importlib.metadata; print(importlib.metadata.version("ai-edge-litert"))')
"$python" -m pip download --quiet --disable-pip-version-check --only-binary=:all: $platforms --python-version $version \
  --dest "$folder/wheels" "ai-edge-litert==$litert" numpy flatbuffers
for wheel in "$folder"/wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$folder/site"; done
touch "$folder/complete"
