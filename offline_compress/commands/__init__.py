# SPDX-License-Identifier: Apache-2.0
"""Subcommands of edge-vlm-compress, one module each."""
