# SPDX-License-Identifier: Apache-2.0
"""Driving the pipeline over a source, and what is kept of it: lines, a Foxglove recording, a summary, a picture."""
