# SPDX-License-Identifier: Apache-2.0
"""What the tests of several layers share."""

import signal
from pathlib import Path

import pytest

# A shell that starts the tests in the background ignores Ctrl-C for them, and so for processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float bundle of the tiny model. Read only: copy it before you damage it."""
    from tiny_model import random_weights, write_bundle

    return write_bundle(tmp_path_factory.mktemp("tiny") / "bundle", random_weights())


@pytest.fixture
def shared_data() -> Path:
    """The folder of real recordings, videos and networks beside the repository."""
    path = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"real data is not here: {path}")
    return path
