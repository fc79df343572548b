# SPDX-License-Identifier: Apache-2.0
"""Those that `make bench-model` measures, each a process of its own that captions whenever it is asked to."""
