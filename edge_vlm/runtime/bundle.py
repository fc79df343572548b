# SPDX-License-Identifier: Apache-2.0
"""A model bundle: a folder sealed by bundle.json, read and checked before anything of it is used.

bundle.json (UTF-8)::

    {"format": "edge_vlm.bundle", "version": 1, "name": str, "variant": str,
     "files": {name: {"sha256": hex, "bytes": int}},       # every file but bundle.json itself
     "image": {...}, "vision": {...}, "text": {...},       # the fields of ImageInfo, VisionInfo, TextInfo
     "prompt": {...}, "generation": {...},                 # PromptInfo, GenerationInfo
     "sttf": object | null, "router": object | null,       # read by edge_vlm.sttf and edge_vlm.anc; null: defaults
     "created_by": str}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_vlm.errors import BundleError
from edge_vlm.files import sha256_of
from edge_vlm.runtime.bundle_fields import read_fields

FORMAT = "edge_vlm.bundle"
VERSION = 1
BUNDLE_JSON, REPORT_FILE, TOKENIZER_FILE = "bundle.json", "report.json", "tokenizer.json"
VISION_FILE, TEXT_FILE = "vision.tflite", "text.tflite"
VOCABULARY_FILE = "vocabulary.bin"  # where the tokenizer spells in bytes
BUNDLE_FILES = (VISION_FILE, TEXT_FILE, TOKENIZER_FILE, REPORT_FILE, BUNDLE_JSON)
MAX_JSON_BYTES = 16 << 20
HASHING_THREADS = 2

EXPORT_AGAIN = "copy the bundle again, or export it again with edge-vlm-compress export"


@dataclass(frozen=True)
class FileInfo:
    sha256: str
    bytes: int


@dataclass(frozen=True)
class ImageInfo:
    """Images are squashed to ``size`` x ``size`` RGB, scaled to 0..1, then (x - mean) / std per channel."""

    size: int
    patch_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class VisionInfo:
    """``tokens`` = ``grid`` x ``grid`` patches; MACs are multiply-accumulates.

    ``encode_macs_per_token`` patch embedding and the matrices of all blocks, ``shallow_macs_per_token`` of the
    first ``shallow_layers``; ``attention_macs_per_pair`` for one query and one key in one block;
    ``project_macs`` of the connector, which always projects all ``image_tokens``.
    """

    tokens: int
    grid: int
    hidden_size: int
    layers: int
    shallow_layers: int
    image_tokens: int
    encode_macs_per_token: int
    shallow_macs_per_token: int
    attention_macs_per_pair: int
    project_macs: int

    def encoder_macs(self, active_tokens: int, shallow: bool = False) -> int:
        """Multiply-accumulates of one encoder call on ``active_tokens`` tokens; 0 where there are none."""
        if active_tokens == 0:
            return 0
        layers = self.shallow_layers if shallow else self.layers
        per_token = self.shallow_macs_per_token if shallow else self.encode_macs_per_token
        attention = layers * self.tokens * self.attention_macs_per_pair
        return active_tokens * (per_token + attention) + self.project_macs


@dataclass(frozen=True)
class TextInfo:
    """``context_length`` positions fit the KV cache: prompt, image tokens and caption together."""

    hidden_size: int
    layers: int
    vocab_size: int
    context_length: int
    image_token_id: int
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    macs_per_token: int

    def macs(self, first: int, tokens: int, head_rows: int) -> int:
        """Multiply-accumulates of ``tokens`` tokens from position ``first`` on, each of which attends to itself and all
        before it, where ``head_rows`` of them ask for the next token.

        Attention is as wide as the model. What a prefill leaves out of the last block for all but its last token is
        counted all the same.
        """
        head = self.vocab_size * self.hidden_size
        attended = tokens * first + tokens * (tokens + 1) // 2
        attention = 2 * self.layers * self.hidden_size * attended  # a product with a key, one with its value
        return tokens * (self.macs_per_token - head) + head_rows * head + attention


@dataclass(frozen=True)
class PromptInfo:
    """``template`` holds {image} and {question}; ``image`` replaces the first, ``question`` is the default one."""

    template: str
    image: str
    question: str


@dataclass(frozen=True)
class GenerationInfo:
    max_new_tokens: int


@dataclass(frozen=True)
class BundleInfo:
    """All that bundle.json says."""

    name: str
    variant: str
    files: Mapping[str, FileInfo]
    image: ImageInfo
    vision: VisionInfo
    text: TextInfo
    prompt: PromptInfo
    generation: GenerationInfo
    sttf: dict | None
    router: dict | None
    created_by: str

    @property
    def weight_bytes(self) -> int:
        """Bytes of the two graphs together."""
        return self.files[VISION_FILE].bytes + self.files[TEXT_FILE].bytes


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files exist and, where verified, are the ones that were exported."""

    path: Path
    info: BundleInfo

    @staticmethod
    def load(path: Path | str, verify: bool = True) -> Bundle:
        """Read and check a bundle folder. ``verify`` compares the sha256 of every file.

        Raises BundleError that names the file: missing, truncated, altered, foreign, or of another version.
        """
        folder = Path(path)
        if not folder.is_dir():
            problem = "is a file, not a bundle folder" if folder.exists() else "no such bundle folder"
            raise BundleError(f"{folder}: {problem}", "name a folder that edge-vlm-compress export wrote")
        bundle = Bundle(folder, read_info(folder / BUNDLE_JSON))
        files = bundle.info.files.items()
        with ThreadPoolExecutor(HASHING_THREADS) as pool:  # hashing lets go of Python's lock
            for _ in pool.map(lambda entry: check_file(folder / entry[0], entry[1], verify), files):
                pass
        return bundle

    @property
    def image(self) -> ImageInfo:
        return self.info.image

    @property
    def vision(self) -> VisionInfo:
        return self.info.vision

    @property
    def text(self) -> TextInfo:
        return self.info.text

    @property
    def sttf(self) -> dict | None:
        return self.info.sttf

    @property
    def router(self) -> dict | None:
        return self.info.router

    def file(self, name: str) -> Path:
        return self.path / name

    def report(self) -> dict:
        """report.json: what compression did to every layer. Raises BundleError."""
        return read_json(self.file(REPORT_FILE))


def read_info(path: Path) -> BundleInfo:
    """Parse bundle.json. Raises BundleError."""
    if not path.is_file():
        raise BundleError(f"{path}: missing; {path.parent} is no bundle, or an incomplete copy", EXPORT_AGAIN)
    value = read_json(path)
    if value.get("format") != FORMAT:
        found = value.get("format")
        raise BundleError(f"{path}: format {found!r}, not {FORMAT!r}: not a bundle of ours", "name an edge_vlm bundle")
    if value.get("version") != VERSION:
        raise BundleError(
            f"{path}: bundle version {value.get('version')!r}; this edge_vlm reads version {VERSION}",
            "install the matching edge_vlm, or export the bundle again",
        )
    info = read_fields(BundleInfo, {**value, "files": read_files(path, value.get("files"))}, path)
    check_numbers(path, info)
    return info


def read_files(path: Path, value: Any) -> dict[str, FileInfo]:
    """The file table; names that leave the folder are refused before any of them is opened."""
    if not isinstance(value, dict):
        raise BundleError(f"{path}: no table of files", EXPORT_AGAIN)
    for name in value:
        if not name or Path(name).name != name or "\\" in name or "\0" in name or name in (".", ".."):
            raise BundleError(f"{path}: file name {name!r} leaves the bundle", "do not use this bundle")
    for name in BUNDLE_FILES:
        if name != BUNDLE_JSON and name not in value:
            raise BundleError(f"{path}: lists no {name}", EXPORT_AGAIN)
    return {name: read_fields(FileInfo, entry, path, f"files.{name}.") for name, entry in value.items()}


def check_file(path: Path, expected: FileInfo, verify: bool) -> None:
    """Existence and size first, so that a wrong file is found without reading it."""
    if path.is_symlink() and path.resolve().parent != path.parent.resolve():
        raise BundleError(f"{path}: a link that leaves the bundle", "copy the file itself into the bundle")
    if not path.is_file():
        raise BundleError(f"{path}: missing", EXPORT_AGAIN)
    size = path.stat().st_size
    if size != expected.bytes:
        kind = "truncated" if size < expected.bytes else "altered"
        raise BundleError(f"{path}: {kind}: {size} bytes, expected {expected.bytes}", EXPORT_AGAIN)
    try:
        actual = sha256_of(path) if verify else expected.sha256
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})", "check its permissions") from error
    if actual != expected.sha256:
        raise BundleError(f"{path}: damaged: sha256 {actual}, expected {expected.sha256}", EXPORT_AGAIN)


def read_json(path: Path) -> dict:
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise BundleError(f"{path}: {size} bytes, far too large", EXPORT_AGAIN)
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})", EXPORT_AGAIN) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not valid JSON, perhaps cut off ({error})", EXPORT_AGAIN) from error
    if not isinstance(value, dict):
        raise BundleError(f"{path}: not a JSON object", EXPORT_AGAIN)
    return value


def check_numbers(path: Path, info: BundleInfo) -> None:
    """What later code divides by or allocates must make sense."""
    image, vision, text = info.image, info.vision, info.text
    checks = (
        ("image.size", 0 < image.size <= 8192 and image.patch_size > 0 and image.size % image.patch_size == 0),
        ("image.std", all(value > 0 for value in image.std)),
        ("vision.grid", vision.grid == image.size // max(1, image.patch_size)),
        ("vision.tokens", vision.tokens == vision.grid**2),
        ("vision.image_tokens", 0 < vision.image_tokens <= vision.tokens),
        ("vision.shallow_layers", 0 < vision.shallow_layers <= vision.layers),
        ("text.context_length", text.context_length > vision.image_tokens),
        ("text.eos_token_id", 0 <= text.eos_token_id < text.vocab_size),
        ("text.image_token_id", 0 <= text.image_token_id < text.vocab_size),
        ("prompt.template", "{image}" in info.prompt.template),
        ("generation.max_new_tokens", info.generation.max_new_tokens > 0),
    )
    for name, holds in checks:
        if not holds:
            raise BundleError(f"{path}: {name} does not fit the other settings", EXPORT_AGAIN)
