# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the ROS 2 node. They need a sourced ROS 2; of the off-board side, only its rows of figures."""
