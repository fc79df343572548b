# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: one module per `make bench-NAME`. Each prints its figures beside their goals and writes them as JSON."""
