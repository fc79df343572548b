# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from edge_vlm.errors import InputError  # noqa: E402
from offline_compress.models.dinov2 import IMAGENET_MEAN, IMAGENET_STD, read_dinov2, vision_state  # noqa: E402
from offline_compress.models.onnx_tensors import read_onnx_weights  # noqa: E402
from offline_compress.models.photo_model import build_photo_model, photo_config  # noqa: E402


def small_config(vocabulary):
    config = photo_config(vocabulary)
    vision, text = config.vision_config, config.text_config
    vision.hidden_size, vision.intermediate_size, vision.num_attention_heads, vision.num_hidden_layers = 32, 64, 2, 2
    vision.image_size = 56  # 4 x 4 patches
    text.hidden_size, text.intermediate_size, text.num_hidden_layers, text.head_dim = 32, 48, 2, 8
    return config


def dinov2_tensors(blocks=2, width=32, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {
        "embeddings.patch_embeddings.projection.weight": (width, 3, 14, 14),
        "embeddings.patch_embeddings.projection.bias": (width,),
        "embeddings.position_embeddings": (1, 17, width),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
    }
    for index in range(blocks):
        block = f"encoder.layer.{index}"
        for name in ("attention.attention.query", "attention.attention.key", "attention.attention.value",
                     "attention.output.dense"):  # fmt: skip
            shapes |= {f"{block}.{name}.weight": (width, width), f"{block}.{name}.bias": (width,)}
        shapes |= {f"{block}.mlp.fc1.weight": (64, width), f"{block}.mlp.fc1.bias": (64,)}
        shapes |= {f"{block}.mlp.fc2.weight": (width, 64), f"{block}.mlp.fc2.bias": (width,)}
        for name in ("norm1", "norm2"):
            shapes |= {f"{block}.{name}.{part}": (width,) for part in ("weight", "bias")}
        shapes |= {f"{block}.layer_scale{i}.lambda1": (width,) for i in (1, 2)}
    return {name: (0.2 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


def test_dinov2_weights_compute_what_dinov2_computes_but_for_its_class_token():
    from transformers import Dinov2Config
    from transformers.models.dinov2.modeling_dinov2 import Dinov2Layer

    tensors = dinov2_tensors()
    model = build_photo_model(small_config(512)).model.vision_model.eval()
    model.load_state_dict(vision_state(tensors, 2, 4))
    pixels = torch.rand(2, 3, 56, 56)
    with torch.no_grad():
        ours = model(pixels * 2 - 1).last_hidden_state
        source = {name: torch.from_numpy(value) for name, value in tensors.items()}
        mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        name = "embeddings.patch_embeddings.projection"
        hidden = torch.nn.functional.conv2d(
            (pixels - mean) / std, source[f"{name}.weight"], source[f"{name}.bias"], stride=14
        )
        hidden = hidden.flatten(2).transpose(1, 2) + source["embeddings.position_embeddings"][:, 1:]
        config = Dinov2Config(hidden_size=32, num_attention_heads=2, mlp_ratio=2)
        config._attn_implementation = "eager"
        for index in range(2):
            layer = Dinov2Layer(config).eval()
            prefix = f"encoder.layer.{index}."
            block = {n.removeprefix(prefix): v for n, v in source.items() if n.startswith(prefix)}
            layer.load_state_dict({renamed(n, layer): v for n, v in block.items()})
            output = layer(hidden)
            hidden = output[0] if isinstance(output, tuple) else output
        theirs = torch.nn.functional.layer_norm(
            hidden, (32,), source["layernorm.weight"], source["layernorm.bias"], 1e-6
        )
    torch.testing.assert_close(ours, theirs, atol=3e-3, rtol=3e-3)  # tanh instead of erf in the activation


def renamed(name: str, layer) -> str:
    """transformers 5 calls the projections otherwise than the files do."""
    if name in layer.state_dict():
        return name
    for theirs, ours in (("attention.query", "q_proj"), ("attention.key", "k_proj"), ("attention.value", "v_proj"),
                         ("output.dense", "o_proj")):  # fmt: skip
        name = name.replace(theirs, ours)
    return name


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def onnx_file(tensors: dict[str, np.ndarray]) -> bytes:
    """Matrices as exporters write them: transposed, under a number, used by a MatMul named after its module."""
    graph = b""
    for number, (name, value) in enumerate(tensors.items()):
        stored, stem = name, name.removesuffix(".weight")
        if value.ndim == 2 and name.endswith(".weight"):
            stored, value = f"onnx::MatMul_{number}", value.T
            node = (
                message(1, b"hidden")
                + message(1, stored.encode())
                + message(3, f"/{stem}/MatMul".replace(".", "/").encode())
            )
            graph += message(1, node.replace(b"layer/", b"layer.") + message(4, b"MatMul"))
        elif name.endswith("position_embeddings"):
            stored, value = "onnx::Reshape_9", value[:, 1:]
        dims = b"".join(varint(1 << 3) + varint(size) for size in value.shape)
        body = dims + varint(2 << 3) + varint(1) + message(8, stored.encode())
        graph += message(5, body + message(9, np.ascontiguousarray(value).tobytes()))
    return varint(1 << 3) + varint(8) + message(7, graph)


def test_an_onnx_file_gives_the_same_model(tmp_path):
    tensors = dinov2_tensors()
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_file({n if n.startswith("onnx") else f"backbone.{n}": v for n, v in tensors.items()}))
    expected, found = vision_state(tensors, 2, 4), vision_state(read_dinov2(path), 2, 4)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_what_is_no_dinov2_is_named(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(InputError, match="No such file"):
        read_onnx_weights(path)
    path.write_bytes(b"\xff\xff not an onnx file")
    with pytest.raises(InputError, match="not an ONNX model"):
        read_dinov2(path)
    path.write_bytes(onnx_file({"other.weight": np.ones((2, 3), np.float32)}))
    with pytest.raises(InputError, match="no DINOv2"):
        read_dinov2(path)
    with pytest.raises(InputError, match="encoder.layer.2"):
        vision_state(dinov2_tensors(2), 3, 4)
