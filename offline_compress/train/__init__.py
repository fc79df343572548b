# SPDX-License-Identifier: Apache-2.0
"""Training: the demo model, quantisation-aware training with distillation, the router."""
