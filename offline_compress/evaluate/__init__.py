# SPDX-License-Identifier: Apache-2.0
"""What a model is worth: caption metrics, perplexity, memory and speed."""
