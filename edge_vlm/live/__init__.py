# SPDX-License-Identifier: Apache-2.0
"""Running the pipeline beside a live stream: a one-slot mailbox, a worker thread, running statistics. No ROS here."""
