# SPDX-License-Identifier: Apache-2.0
import sys

from edge_vlm.cli import main

sys.exit(main())
