# SPDX-License-Identifier: Apache-2.0
"""edge_vlm on board: a camera stream in, stamped captions out."""

__version__ = "0.1.0"
