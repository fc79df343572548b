# SPDX-License-Identifier: Apache-2.0
"""edge-vlm: caption recordings, videos and cameras on board."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys

from edge_vlm import __version__
from edge_vlm.errors import EdgeVlmError
from edge_vlm.interrupts import interrupt, interrupted

COMMANDS = {
    "replay": "caption a recording frame by frame",
    "watch": "caption a video or a live camera",
    "classify-events": "classify a recording of an event camera",
    "make-bag": "turn a video into a recording, with simulated events",
    "report": "draw a finished run as one picture",
    "doctor": "check this machine and the model bundle",
}
EPILOG = """\
examples:
  edge-vlm replay bags/sample.mcap --out out/demo   caption the sample recording
  edge-vlm report out/demo                          look at the result: out/demo/timeline.png
  edge-vlm watch 0                                  caption the first camera
  edge-vlm doctor                                   is everything in place?

exit status: 0 done, 1 error (the message says what to do), 2 wrong arguments, 130 interrupted
"""


def parser(wanted: str | None = None) -> argparse.ArgumentParser:
    """The command line. Only the module of the command ``wanted`` is imported, so that help is there at once and
    doctor runs where other commands cannot."""
    top = argparse.ArgumentParser(
        "edge-vlm", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"edge_vlm {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == wanted:
            module = importlib.import_module(f"edge_vlm.commands.{name.replace('-', '_')}")
            sub.description, sub.epilog = module.__doc__, module.EPILOG
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    wanted = next((word for word in argv if word in COMMANDS), None)
    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        args = parser(wanted).parse_args(argv)
        return args.run(args)
    except EdgeVlmError as error:
        return _fail(wanted, str(error))
    except ModuleNotFoundError as error:
        remedy = f"in a checkout, {sys.executable} -m pip install ."
        return _fail(wanted, f"Python package {error.name} is missing\n  remedy: {remedy}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return interrupted()
    except BrokenPipeError:  # the reader of a pipe (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        signal.signal(signal.SIGTERM, former)


def _fail(command: str | None, message: str) -> int:
    print(f"edge-vlm {command}: {message}", file=sys.stderr)
    return 1
