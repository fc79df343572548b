# SPDX-License-Identifier: Apache-2.0
"""What ``colcon test`` expects of a package: licence headers, and flake8 as ROS runs it where it is installed."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("custom_ops", "edge_vlm", "offline_compress", "launch", "test", "tools", "bench", "config")
SUFFIXES = {".py", ".cc", ".h", ".sh", ".yaml"}


def test_every_source_file_names_its_licence():
    files = [path for folder in SOURCES for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    silent = [
        str(path.relative_to(ROOT)) for path in files if "SPDX-License-Identifier: Apache-2.0" not in head_of(path)
    ]
    assert not silent, "their first lines lack the SPDX identifier"
    assert len(files) > 100


def head_of(path: Path) -> str:
    return "".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:3])


def test_flake8_as_ros_runs_it():
    lint = pytest.importorskip("ament_flake8.main", reason="ament_flake8 comes with a ROS 2 installation")
    folders = [str(ROOT / name) for name in SOURCES if (ROOT / name).is_dir()]
    status, errors = lint.main_with_errors(argv=["--config", str(ROOT / "setup.cfg"), *folders])
    assert status == 0, "\n".join(errors)
