# SPDX-License-Identifier: Apache-2.0
"""Passes over models larger than the memory: a block at a time, hidden states in files."""
