# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from edge_vlm.errors import InputError
from offline_compress.models.mobilenet_features import FEATURES, MAPS, MobileNetFeatures


def test_maps_of_a_real_network_lie_over_the_picture(shared_data):
    teacher = MobileNetFeatures(shared_data / "weights" / "coral" / "tf2_mobilenet_v2_1.0_224_ptq.tflite")
    plain = np.full((160, 160, 3), 128, np.uint8)
    striped = plain.copy()
    striped[100:140, 100:140:4] = 255
    seen, changed = teacher(plain), teacher(striped)
    for name, (side, channels) in MAPS.items():
        assert seen[name].shape == (side * side, channels) and seen[name].dtype == np.float32
        rows, cols = np.divmod(np.argmax(np.abs(changed[name] - seen[name]).mean(1)), side)
        assert 100 / 160 * side - 1 <= min(rows, cols) <= max(rows, cols) <= 140 / 160 * side
    assert seen[FEATURES].min() >= 0, "behind a ReLU6"
    again = teacher(plain)
    assert all(np.array_equal(seen[name], again[name]) for name in MAPS)


@pytest.mark.parametrize("name", ["cut", "text", "empty", "other", "absent"])
def test_a_file_that_is_no_such_network_is_refused(shared_data, tmp_path, name):
    network = (shared_data / "weights" / "coral" / "tf2_mobilenet_v2_1.0_224_ptq.tflite").read_bytes()
    other = (shared_data / "weights" / "mcunet" / "mcunet-320kb-1mb_imagenet.tflite").read_bytes()
    path = tmp_path / "network.tflite"
    if name != "absent":
        path.write_bytes({"cut": network[:1000], "text": b"hello" * 100, "empty": b"", "other": other}[name])
    with pytest.raises(InputError, match="network.tflite.*\\n.*MobileNetV2"):
        MobileNetFeatures(path)
