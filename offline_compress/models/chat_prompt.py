# SPDX-License-Identifier: Apache-2.0
"""The prompt as the model's own chat template writes it."""

from __future__ import annotations

from pathlib import Path

from offline_compress.export.checkpoint import read_config
from offline_compress.export.model_shape import read_vision_shape
from offline_compress.export.prompt import QUESTION, Prompt
from offline_compress.models.folder_tokenizer import open_tokenizer

IMAGE = "<image>"


def chat_prompt(tokenizer, image_tokens: int, question: str = QUESTION) -> Prompt:
    """One unsplit image and one question, through the chat template of ``tokenizer``; where it has none, or none that
    places an image, through SmolVLM's."""
    standard = Prompt.smolvlm(image_tokens, question)
    if not getattr(tokenizer, "chat_template", None):
        return standard
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    if text.count(IMAGE) != 1 or text.count(question) != 1 or "{" in text.replace(question, ""):
        return standard
    template = text.replace(IMAGE, "{image}").replace(question, "{question}")
    return Prompt(template, standard.image, question)


def folder_prompt(folder: Path, question: str = QUESTION) -> Prompt:
    """`chat_prompt` of the model in ``folder``. Raises CheckpointError for a file that is missing or damaged."""
    return chat_prompt(open_tokenizer(folder), read_vision_shape(read_config(folder)).image_tokens, question)
