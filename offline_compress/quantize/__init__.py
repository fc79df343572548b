# SPDX-License-Identifier: Apache-2.0
"""From float matrices to codes and scales: quantizers, the plan of which layer gets what, fake-quantised modules."""
