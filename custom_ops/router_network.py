# SPDX-License-Identifier: Apache-2.0
"""The operator library's run of a router: a small network, and what its branches are worth.

    network = load_router_network(layers, mean, std, costs, cost_weight, temperature)   # None where there is no library
    probabilities = network.run(figures)

Some two hundred products, for which Python and NumPy need dozens of calls in caches that the encoder has just emptied.
What it all means is said in edge_vlm/anc/router.py, whose NumPy is the reference.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from custom_ops.array_address import REPORT
from custom_ops.errors import OperatorError
from custom_ops.library import find_function

Floats, Widths = ctypes.POINTER(ctypes.c_float), ctypes.POINTER(ctypes.c_int32)


class _Router(ctypes.Structure):
    """As ``Router`` in src/scene/router_network.h."""

    _fields_ = (
        [("struct_bytes", ctypes.c_int32), ("layers", ctypes.c_int32)]
        + [("widths", Widths), ("packed", Floats), ("costs", Floats)]
        + [("cost_weight", ctypes.c_float), ("temperature", ctypes.c_float)]
    )


class RouterNetwork:
    """The function ``edge_vlm_run_router`` of a loaded library, and one router for it."""

    def __init__(
        self,
        run_router,
        layers: Sequence[tuple[np.ndarray, np.ndarray]],
        mean: np.ndarray,
        std: np.ndarray,
        costs: np.ndarray,
        cost_weight: float,
        temperature: float,
    ) -> None:
        """``layers``: weight ``(out, in)`` and bias ``(out,)`` each; ``mean``, ``std`` of the figures ``(in,)``;
        ``costs`` ``(branches, 2)``, one branch more than the last layer has outputs."""
        widths = [len(mean), *(len(bias) for _, bias in layers)]
        self._router = _Router(
            ctypes.sizeof(_Router),
            len(layers),
            (ctypes.c_int32 * len(widths))(*widths),
            _floats(mean, std, *(part for layer in layers for part in layer)),
            _floats(costs),
            cost_weight,
            temperature,
        )
        self._run_router, self._address = run_router, ctypes.addressof(self._router)
        self._figures, self._probabilities = ctypes.c_float * len(mean), ctypes.c_float * len(costs)
        if len(costs) != widths[-1] + 1:
            raise OperatorError(f"a router of {widths} with costs of {len(costs)} branches: refused", REPORT)

    def run(self, figures: Sequence[float]) -> list[float]:
        """A probability for each branch; the first of the ``figures`` is the active fraction. Raises OperatorError
        where the network is too large or the figures are not as many as its inputs."""
        probabilities = self._probabilities()
        if len(figures) != self._figures._length_ or self._run_router(
            self._address, self._figures(*figures), probabilities
        ):
            raise OperatorError(f"a router for {len(figures)} figures: refused", REPORT)
        return probabilities[:]


def _floats(*parts: np.ndarray):
    packed = np.concatenate([np.asarray(part, np.float32).ravel() for part in parts])
    return (ctypes.c_float * packed.size)(*packed)


def load_router_network(*router) -> RouterNetwork | None:
    """`RouterNetwork` of these by the library that is there; None without one."""
    function = find_function("edge_vlm_run_router", ctypes.c_void_p, Floats, Floats)
    return function and RouterNetwork(function, *router)
