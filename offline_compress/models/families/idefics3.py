# SPDX-License-Identifier: Apache-2.0
"""Idefics3 (arXiv 2408.12637): the name that the published SmolVLM checkpoints bear."""

from offline_compress.models.families.siglip_llama import SiglipLlama

FAMILY = SiglipLlama("idefics3", "Idefics3Config", "Idefics3ForConditionalGeneration")
