# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 side: a lifecycle node around the pipeline that replays bags. rclpy is imported only below this folder."""
