# SPDX-License-Identifier: Apache-2.0
"""A bundle, encoder and decoder in a few lines of NumPy, and synthetic pictures, for tests of what drives them."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np

from edge_vlm.observation import Frame, Observation
from edge_vlm.runtime.bundle import FileInfo, TextInfo, VisionInfo

GRID = (14, 14)
SIZE = 224
PERIOD_NS = 100_000_000


def fake_bundle(sttf=None, router=None) -> SimpleNamespace:
    vision = VisionInfo(
        tokens=196,
        grid=14,
        hidden_size=192,
        layers=6,
        shallow_layers=2,
        image_tokens=49,
        encode_macs_per_token=1000,
        shallow_macs_per_token=400,
        attention_macs_per_pair=1,
        project_macs=5000,
    )
    text = TextInfo(
        hidden_size=192,
        layers=6,
        vocab_size=512,
        context_length=256,
        image_token_id=3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        macs_per_token=200_000,
    )
    files = {"vision.tflite": FileInfo("", 1_000_000), "text.tflite": FileInfo("", 2_000_000)}
    image, info = SimpleNamespace(size=SIZE, patch_size=16), SimpleNamespace(files=files)
    return SimpleNamespace(vision=vision, text=text, image=image, info=info, sttf=sttf, router=router)


class FakeEncoder:
    """A token is its patch's pixels; full depth adds a residual of them that shallow depth leaves as it was."""

    def __init__(self) -> None:
        self.tokens = np.full((196, 768), np.nan, np.float32)
        self.residual = np.full((196, 768), np.nan, np.float32)
        self.calls: list[tuple[int, bool]] = []

    def resize(self, image, positions=None):
        return cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)

    def patchify(self, resized, positions=None):
        patches = resized.reshape(14, 16, 14, 16, 3).transpose(0, 2, 4, 1, 3).reshape(196, 768)
        chosen = patches if positions is None else patches[positions]
        return chosen.astype(np.float32) / 127.5 - 1.0

    def encode(self, patches, positions, shallow=False):
        self.calls.append((len(positions), shallow))
        if not shallow:
            self.residual[positions] = 0.5 * patches**2
        self.tokens[positions] = patches + self.residual[positions]
        grouped = self.tokens.reshape(7, 2, 7, 2, 48, 16).mean(axis=-1)
        return np.ascontiguousarray(grouped.transpose(0, 2, 1, 3, 4)).reshape(49, 192)


class FakeDecoder:
    """The caption is a hash of what the features say."""

    def __init__(self) -> None:
        self.questions: list[str | None] = []

    def reset(self):
        pass

    def generate(self, image_features, question=None, max_new_tokens=None):
        self.questions.append(question)
        return SimpleNamespace(
            text=f"scene {int(np.abs(image_features).sum() * 1e3)}",
            token_ids=[1, 2],
            score=0.6,
            prompt_tokens=68,
            prefilled_tokens=50,
            prefilled_images=40,
            decoded_tokens=3,
            decode_calls=2,
            prefill_ms=1.0,
            decode_ms=2.0,
        )


def background(seed: int = 0, height: int = 480, width: int = 640) -> np.ndarray:
    """A textured picture, uint8 RGB."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(50, 190, (height // 20, width // 20, 3)).astype(np.float32)
    fine = rng.normal(0, 6, (height, width, 3))
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + fine, 0, 255).astype(np.uint8)


def with_square(image: np.ndarray, x: int, y: int, side: int = 60, colour=(230, 40, 30)) -> np.ndarray:
    image = image.copy()
    image[y : y + side, x : x + side] = colour
    return image


def with_noise(image: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def relit(image: np.ndarray, gain, offset: float) -> np.ndarray:
    return np.clip(image * np.asarray(gain, np.float32) + offset, 0, 255).astype(np.uint8)


def observe(image: np.ndarray, index: int, events=None) -> Observation:
    return Observation(Frame(index * PERIOD_NS, image), events)
