# SPDX-License-Identifier: Apache-2.0
"""scene_check.cc: looks at frames and scenes under the address and undefined-behaviour sanitizers, and on Arm.

That what they say is what NumPy says is tested in test/edge_vlm (test_change.py, test_scene_pass.py).
"""

import os
import shutil
from pathlib import Path

import pytest
from native_program import ARM_COMPILER, ARM_EMULATOR, what_it_prints

from custom_ops import build

CHECK = Path(__file__).with_name("scene_check.cc")


def checked(folder, compiler, flags, run=()):
    return what_it_prints(folder, CHECK, "scene", compiler, flags, run)


@pytest.mark.skipif("EDGE_VLM_SANITIZERS" not in os.environ, reason="make test-sanitizers")
def test_no_size_makes_it_read_or_write_beyond_its_arrays(tmp_path):
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    output = checked(tmp_path, build.find_compiler(), flags)
    if output is None:
        pytest.skip("the sanitizers' libraries are not installed")
    assert output == "0 wrong\n"


@pytest.mark.skipif(not shutil.which(ARM_COMPILER), reason=f"{ARM_COMPILER} is not installed: make test-arm")
@pytest.mark.skipif(not shutil.which(ARM_EMULATOR), reason=f"{ARM_EMULATOR} is not installed: make test-arm")
def test_frames_and_scenes_are_seen_on_arm(tmp_path):
    assert checked(tmp_path, [ARM_COMPILER], ["-O2", "-static"], [ARM_EMULATOR]) == "0 wrong\n"
