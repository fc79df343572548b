# SPDX-License-Identifier: Apache-2.0
"""Sparse temporal token fusion: what changed, which tokens to compute, when to caption again."""

from edge_vlm.sttf.config import SttfConfig
from edge_vlm.sttf.gate import Gate, GateDecision
from edge_vlm.sttf.token_state import TokenState

__all__ = ["Gate", "GateDecision", "SttfConfig", "TokenState"]
