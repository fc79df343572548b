# SPDX-License-Identifier: Apache-2.0
"""Which calibration tokens matter, and the statistics of a layer's inputs that they weigh."""
