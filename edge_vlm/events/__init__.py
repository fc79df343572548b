# SPDX-License-Identifier: Apache-2.0
"""Classification of event streams: event frames, the sparse encoder and the token gate of the captioner, a class."""
