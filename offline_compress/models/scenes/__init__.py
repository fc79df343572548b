# SPDX-License-Identifier: Apache-2.0
"""Rendered robot scenes with captions: the training and test data of the small demo captioner."""

from .captioning import captions
from .renderer import Rendering, render
from .sampling import is_reserved, sample_scene
from .scene import Scene
from .vocabulary import ACTORS, COLOURS, KINDS, SURFACES

__all__ = [
    "ACTORS",
    "COLOURS",
    "KINDS",
    "SURFACES",
    "Rendering",
    "Scene",
    "captions",
    "is_reserved",
    "render",
    "sample_scene",
]
