# SPDX-License-Identifier: Apache-2.0
"""A bundle at work: load and check it, run its graphs, encode images, decode captions."""
