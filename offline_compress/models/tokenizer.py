# SPDX-License-Identifier: Apache-2.0
"""The demo model's tokenizer: byte-level BPE of captions, with the special tokens and chat template of SmolVLM."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from offline_compress.export.prompt import QUESTION

PAD, BEGIN, END, IMAGE = "<pad>", "<|im_start|>", "<end_of_utterance>", "<image>"
SPECIAL_TOKENS = (PAD, BEGIN, END, IMAGE, "<fake_token_around_image>", "<global-img>")
VOCABULARY = 512

CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def train_tokenizer(captions: Iterable[str], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Special tokens first, then all 256 bytes, then merges. Same captions in the same order, same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    prompt_words = ["User:", QUESTION, "Assistant:"] * 200  # the prompt is in every sequence: few tokens for it
    tokenizer.train_from_iterator([*prompt_words, *(f" {caption}" for caption in captions)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[token for token in SPECIAL_TOKENS if token not in (PAD, BEGIN, END)],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
