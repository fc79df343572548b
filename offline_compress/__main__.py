# SPDX-License-Identifier: Apache-2.0
import sys

from offline_compress.cli import main

sys.exit(main())
