# SPDX-License-Identifier: Apache-2.0
"""Off board: load, compress, train, export and evaluate vision-language models."""
