#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what cross-compiles to and emulates 64-bit Arm (Debian and Ubuntu), unless it is there.
set -e
if command -v aarch64-linux-gnu-g++ >/dev/null && command -v qemu-aarch64 >/dev/null; then
  exit 0
fi
command -v apt-get >/dev/null || {
  echo "install a cross compiler (aarch64-linux-gnu-g++) and qemu-aarch64 with your system's package manager" >&2
  exit 1
}
if [ "$(id -u)" -ne 0 ]; then sudo=sudo; fi
$sudo apt-get update -qq
$sudo apt-get install -y --no-install-recommends g++-aarch64-linux-gnu qemu-user
