# SPDX-License-Identifier: Apache-2.0
"""PyTorch on single matrices: a Linear of bfloat16, or of int8 weights that quantises its activations itself."""

from __future__ import annotations

import argparse
import warnings

import torch

from bench.peers.matrix import Matrix, Prepared, serve_matrices, unlike_copies

BITS = {"bfloat16": 16, "int8": 8}


def layer(kind: str, weights: torch.Tensor) -> torch.nn.Module:
    outputs, inputs = weights.shape
    linear = torch.nn.Linear(inputs, outputs, bias=False)
    linear.weight.data = weights
    if kind == "bfloat16":
        return linear.to(torch.bfloat16)
    linear.qconfig = torch.ao.quantization.default_dynamic_qconfig
    return torch.ao.nn.quantized.dynamic.Linear.from_float(linear)


def prepare(kind: str, matrix: Matrix) -> Prepared:
    x, copies = torch.from_numpy(matrix.x()), unlike_copies(matrix.codes(), matrix.copies(BITS[kind]))
    layers = [layer(kind, torch.from_numpy(codes).float()) for codes in copies]
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    found = []

    @torch.inference_mode()
    def run() -> None:
        found[:] = [one(x.to(dtype)).float() for one in layers]

    return Prepared(run, len(layers), lambda: found[-1].numpy())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=BITS)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")  # of a quantisation that will go one day
    torch.set_num_threads(args.threads)
    serve_matrices(lambda matrix: prepare(args.kind, matrix))


if __name__ == "__main__":
    main()
