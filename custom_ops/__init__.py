# SPDX-License-Identifier: Apache-2.0
"""The operators of edge_vlm: their contract, their weights' layout, their kernels."""
