# SPDX-License-Identifier: Apache-2.0
"""Vision-language models: loading them, and the small demo model with its rendered scenes."""
