# SPDX-License-Identifier: Apache-2.0
"""The subcommands of edge-vlm, one module each: ``add_arguments(parser)`` and ``run(args) -> exit status``."""
