# SPDX-License-Identifier: Apache-2.0
"""What can go wrong off board, by kind; every error names its file or module and the remedy."""

from custom_ops.errors import EdgeVlmError


class CheckpointError(EdgeVlmError):
    """A Hugging Face folder is missing, damaged or incomplete; names the file."""


class ExportError(EdgeVlmError):
    """The weights or the configuration cannot be written as a bundle; names the module or the setting."""


class QuantizeError(EdgeVlmError):
    """A matrix cannot be quantised, or a plan does not fit the model; names the module or the rule."""
