# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between a Hugging Face folder and a bundle."""

from custom_ops.errors import EdgeVlmError


class CheckpointError(EdgeVlmError):
    """A Hugging Face folder is missing, damaged or incomplete; names the file."""


class ExportError(EdgeVlmError):
    """The weights or the configuration cannot be written as a bundle; names the module or the setting."""
