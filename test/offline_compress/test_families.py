# SPDX-License-Identifier: Apache-2.0
"""The registry agrees with transformers about every parameter of the published sizes, without making one."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_vlm import tiny_config  # noqa: E402

from offline_compress.models.families import FAMILIES, family_of  # noqa: E402

CONFIGS = Path(__file__).resolve().parents[2].parent / "shared/data/vlm_configs"


def shapes_of(skeleton, tied):
    shapes = {name: tuple(value.shape) for name, value in skeleton.named_parameters(remove_duplicate=False)}
    if tied:
        del shapes["model.text_model.embed_tokens.weight"]
    return shapes


def small(model_type, tied):
    config = json.loads(tiny_config(tied=tied).to_json_string(use_diff=False))
    return {**config, "model_type": model_type}


@pytest.mark.parametrize("model_type", list(FAMILIES))
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_transformers(model_type, tied):
    config = small(model_type, tied)
    skeleton = family_of(config).skeleton(config)
    assert all(value.device.type == "meta" for value in skeleton.parameters())
    assert family_of(config).parameter_shapes(config, tied) == shapes_of(skeleton, tied)


def test_the_published_256m():
    if not CONFIGS.is_dir():
        pytest.skip(f"no published configurations here: {CONFIGS}")
    config = json.loads((CONFIGS / "SmolVLM-256M-Instruct/config.json").read_text())
    skeleton = family_of(config).skeleton(config)
    shapes = shapes_of(skeleton, False)
    assert family_of(config).parameter_shapes(config, False) == shapes
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 256_484_928
