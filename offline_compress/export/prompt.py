# SPDX-License-Identifier: Apache-2.0
"""The prompt and the special tokens of a model, as its training saw them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from offline_compress.errors import ExportError

TEMPLATE = "<|im_start|>User:{image}{question}<end_of_utterance>\nAssistant:"
QUESTION = "Describe the scene."
BEGIN, END = "<|im_start|>", "<end_of_utterance>"
LONGEST_CAPTION = 40  # tokens: of bundles, and of the models that they are compared with


@dataclass(frozen=True)
class Prompt:
    """``template`` holds {image} and {question}; ``image`` is what stands for one image, fully expanded."""

    template: str
    image: str
    question: str

    @staticmethod
    def smolvlm(image_tokens: int, question: str = QUESTION) -> Prompt:
        """SmolVLM's chat template for one unsplit image and one question."""
        image = "<fake_token_around_image><global-img>" + "<image>" * image_tokens + "<fake_token_around_image>"
        return Prompt(TEMPLATE, image, question)

    def to_json(self) -> dict[str, str]:
        return {"template": self.template, "image": self.image, "question": self.question}


@dataclass(frozen=True)
class SpecialTokens:
    """Token ids; ``eos`` ends a caption."""

    bos: int
    eos: int
    pad: int


def read_special_tokens(config: dict, tokenizer_json: bytes) -> SpecialTokens:
    """From the tokenizer where it knows SmolVLM's markers, else from the config.

    Checkpoints disagree with themselves here (SmolVLM-256M: config eos 2, captions end with 49279), so the
    marker that the prompt uses decides. Raises ExportError where nothing says how a caption ends.
    """
    ids = added_tokens(tokenizer_json)
    text = config.get("text_config", {})
    bos = ids.get(BEGIN, config.get("bos_token_id", text.get("bos_token_id")))
    eos = ids.get(END, config.get("eos_token_id", text.get("eos_token_id")))
    pad = next((value for value in (config.get("pad_token_id"), text.get("pad_token_id")) if value is not None), eos)
    image = ids.get("<image>")
    if not isinstance(eos, int) or not isinstance(bos, int):
        raise ExportError(f"neither tokenizer.json nor config.json names the ids of {BEGIN} and {END}", "add them")
    if image is not None and image != config.get("image_token_id"):
        raise ExportError(
            f"<image> is {image} in tokenizer.json, {config.get('image_token_id')} in config.json",
            "take both files from the same model",
        )
    return SpecialTokens(bos, eos, pad)


def added_tokens(tokenizer_json: bytes) -> dict[str, int]:
    try:
        tokens = json.loads(tokenizer_json)["added_tokens"]
        return {token["content"]: int(token["id"]) for token in tokens}
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"tokenizer.json cannot be read ({error})", "take the model's own") from error
