# SPDX-License-Identifier: Apache-2.0
"""From weights to a bundle: what quantisation hands over, the graph templates, the bundle writer."""
