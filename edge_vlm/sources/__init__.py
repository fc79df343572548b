# SPDX-License-Identifier: Apache-2.0
"""Where observations come from: recordings, videos, cameras; and the decoders of their messages."""
