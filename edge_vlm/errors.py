# SPDX-License-Identifier: Apache-2.0
"""What can go wrong on board, by kind; every error names its file or topic and the remedy."""

from custom_ops.errors import EdgeVlmError, OperatorError

__all__ = ["BundleError", "EdgeVlmError", "InputError", "OperatorError", "OutputError", "SourceError"]


class BundleError(EdgeVlmError):
    """A model bundle is missing, damaged, or not one of ours."""


class SourceError(EdgeVlmError):
    """A bag, video or camera cannot be read, or holds nothing that we can use."""


class InputError(EdgeVlmError):
    """One message or frame is malformed; the stream around it may go on."""


class OutputError(EdgeVlmError):
    """Results cannot be written."""
