# SPDX-License-Identifier: Apache-2.0
"""What can go wrong when a model is quantised."""

from custom_ops.errors import EdgeVlmError


class QuantizeError(EdgeVlmError):
    """A matrix cannot be quantised, or a plan does not fit the model; names the module or the rule."""
