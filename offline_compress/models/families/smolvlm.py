# SPDX-License-Identifier: Apache-2.0
"""SmolVLM (arXiv 2504.05299): the name under which transformers saves 256M, 500M and 2.2B today."""

from offline_compress.models.families.siglip_llama import SiglipLlama

FAMILY = SiglipLlama("smolvlm", "SmolVLMConfig", "SmolVLMForConditionalGeneration")
