# SPDX-License-Identifier: Apache-2.0
"""What ``edge-vlm doctor`` looks at, one module a subject."""
