# SPDX-License-Identifier: Apache-2.0
"""Adaptive neural compression: which branch of the encoder a frame is worth."""

from edge_vlm.anc.features import SceneFeatures, scene_features
from edge_vlm.anc.hysteresis import BranchHysteresis, HysteresisConfig
from edge_vlm.anc.router import BRANCHES, FixedRules, MlpRouter, Route, RoutePolicy

__all__ = [
    "BRANCHES",
    "BranchHysteresis",
    "FixedRules",
    "HysteresisConfig",
    "MlpRouter",
    "Route",
    "RoutePolicy",
    "SceneFeatures",
    "scene_features",
]
