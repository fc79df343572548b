# SPDX-License-Identifier: Apache-2.0
"""Single matrices in PyTorch: bfloat16, or int8 weights with activations quantised on the fly."""

from __future__ import annotations

import argparse
import warnings

import torch
from torch import nn

from bench.peers.matrix_cases import MatrixCase, serve_cases


@torch.inference_mode()
def make_call(case: MatrixCase, kind: str):
    copies = case.copies(16 if kind == "bfloat16" else 8)
    x = torch.randn(case.rows, case.inputs, generator=torch.Generator().manual_seed(0))
    layers = nn.ModuleList(nn.Linear(case.inputs, case.outputs, bias=False) for _ in range(copies)).eval()
    if kind == "bfloat16":
        layers = layers.bfloat16()
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of being deprecated
            layers = torch.ao.quantization.quantize_dynamic(layers, {nn.Linear}, torch.qint8)

    @torch.inference_mode()
    def call() -> None:
        given = x.bfloat16() if kind == "bfloat16" else x
        for layer in layers:
            layer(given).float()

    return call, copies


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["bfloat16", "int8"])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    serve_cases(lambda case: make_call(case, args.kind))


if __name__ == "__main__":
    main()
