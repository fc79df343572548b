# SPDX-License-Identifier: Apache-2.0
"""Benchmarks, one module per `make bench-NAME`: they print figures beside their goals and write out/bench/NAME.json.

They stand beside the layers: they start processes and import from all of them. Modules called *_rows measure a part.
"""
