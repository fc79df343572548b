# SPDX-License-Identifier: Apache-2.0
"""ament_python package. Dependencies stand in pyproject.toml; name and version again here, for setuptools < 61."""

import sys
from glob import glob
from pathlib import Path

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # colcon runs this file from another folder


class BuildWithOperators(build_py):
    """Put the operator library beside the package; without a compiler the install goes on with the NumPy fallback."""

    def run(self) -> None:
        from custom_ops.build import build_library
        from custom_ops.errors import EdgeVlmError

        try:
            build_library()
        except EdgeVlmError as error:
            print(f"warning: operators not built, the slow NumPy fallback will run: {error}", file=sys.stderr)
        super().run()


class PlainDistribution(Distribution):
    """colcon reads attributes as literals, which the object that setuptools makes of requires-python is not."""

    def parse_config_files(self, *args, **kwargs) -> None:
        super().parse_config_files(*args, **kwargs)
        for owner in (self, self.metadata):
            if getattr(owner, "python_requires", None):
                owner.python_requires = str(owner.python_requires)


def shared(folder: str) -> tuple[str, list[str]]:
    """A folder of the repository as (destination below the prefix, files)."""
    files = sorted(path for path in glob(f"{folder}/*", root_dir=ROOT) if (ROOT / path).is_file())
    return f"share/edge_vlm/{folder}", files


setup(
    name="edge_vlm",
    version="0.1.0",
    packages=find_packages(str(ROOT), include=["custom_ops*", "edge_vlm*", "offline_compress*"]),
    package_data={
        "custom_ops": ["lib/*.so", "src/*/*.h", "src/*/*.cc", "src/*/*.cpp"],
        "offline_compress": ["recipe/defaults/*.yaml"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/edge_vlm"]),
        ("share/edge_vlm", ["package.xml"]),
        *(shared(folder) for folder in ("launch", "config", "bundles/demo", "bags")),
    ],
    tests_require=["pytest"],
    extras_require={"test": ["pytest"]},
    include_package_data=False,  # else setuptools takes the folders of C++ sources for forgotten packages
    zip_safe=False,
    distclass=PlainDistribution,
    cmdclass={"build_py": BuildWithOperators},
    entry_points={
        "console_scripts": [
            "edge-vlm = edge_vlm.cli:main",
            "edge-vlm-compress = offline_compress.cli:main",
            "captioner = edge_vlm.ros.captioner:main",
            "doctor = edge_vlm.commands.doctor:main",
            "replayer = edge_vlm.ros.replayer:main",
        ],
    },
)
