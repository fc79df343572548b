# SPDX-License-Identifier: Apache-2.0
"""``edge-vlm-compress``: everything that happens before a model goes on board. One module per subcommand."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import warnings
from collections.abc import Sequence

from edge_vlm.errors import EdgeVlmError
from edge_vlm.interrupts import interrupt, interrupted

# Subcommand: module of `add_arguments(parser)` and `run(args) -> int`, imported when it is called.
COMMANDS = {
    "train-demo": ("train_demo", "render scenes and train the demo model on them"),
    "train-photos": ("train_photos", "train a captioner on photographs in the Flickr8k layout"),
    "compress": ("compress", "quantise a Hugging Face folder, train it to recover, write the bundle"),
    "run": ("run", "a recipe: compress, specialise, eliminate redundancy, one after the other"),
    "gather": ("gather", "a user's images or recordings as captioned images, to compress with"),
    "export": ("export", "write a bundle of a model without training"),
    "evaluate": ("evaluate", "perplexity and caption metrics of bundles and models on your images"),
    "compare": ("compare", "several bundles side by side: memory, tokens/s, perplexity, captions"),
    "train-router": ("train_router", "learn the router and the gate's thresholds for a bundle"),
    "train-events": ("train_events", "train the event classifier: N-MNIST, rendered gestures, DVS128 Gesture"),
    "sample-bag": ("sample_bag", "render the sample recording"),
}
_NOT_INSTALLED = "install what compression needs: in a checkout, pip install '.[offboard]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 for an error that was explained, 2 for wrong usage, 130 for Ctrl-C or SIGTERM."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given else ""
    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        if name in COMMANDS:
            return run_command(name, given[1:])
        if name and not name.startswith("-"):
            overview().error(f"unknown command {name}; use one of {', '.join(COMMANDS)}")
        overview().parse_args(given)
        overview().print_help()
        return 2
    except EdgeVlmError as error:
        print(f"edge-vlm-compress {name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"edge-vlm-compress {name}: interrupted; what was finished is kept", file=sys.stderr)
        return interrupted()
    finally:
        signal.signal(signal.SIGTERM, former)


def run_command(name: str, arguments: list[str]) -> int:
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # of its next release, not of ours
    module_name, summary = COMMANDS[name]
    try:
        module = importlib.import_module(f"offline_compress.commands.{module_name}")
        parser = argparse.ArgumentParser(prog=f"edge-vlm-compress {name}", description=summary)
        module.add_arguments(parser)
        return module.run(parser.parse_args(arguments))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("offline_compress", "edge_vlm", "custom_ops"):
            raise
        raise EdgeVlmError(f"{error.name} is not installed", _NOT_INSTALLED) from error


def overview() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:14s} {summary}" for name, (_, summary) in COMMANDS.items())
    return argparse.ArgumentParser(
        prog="edge-vlm-compress",
        usage="edge-vlm-compress COMMAND [options]",
        description=f"commands (each takes --help):\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


if __name__ == "__main__":
    sys.exit(main())
