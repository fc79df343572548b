# SPDX-License-Identifier: Apache-2.0
"""See it work without a camera: the sample recording, over and over, into the captioner with the demo bundle.

ros2 launch edge_vlm demo.launch.py    then, in other terminals: ros2 topic echo /captioner/caption, rqt_image_view
/captioner/annotated, ros2 topic echo /diagnostics
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    share = Path(get_package_share_directory("edge_vlm"))
    sample = share / "bags" / "sample.mcap"
    captioner = PythonLaunchDescriptionSource(str(share / "launch" / "captioner.launch.py"))
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", default_value=str(sample), description="Recording to play."),
            DeclareLaunchArgument("rate", default_value="1.0", description="Times the recorded speed."),
            IncludeLaunchDescription(captioner, launch_arguments={"use_sim_time": "true"}.items()),
            Node(
                package="edge_vlm",
                executable="replayer",
                namespace=LaunchConfiguration("namespace"),
                output="screen",
                remappings=[
                    ("image", LaunchConfiguration("image")),
                    ("events", LaunchConfiguration("events")),
                    ("captioner/step", [LaunchConfiguration("name"), "/step"]),
                ],
                arguments=[
                    LaunchConfiguration("bag"), "--clock", "--raw", "--print", "--loop",
                    "--rate", LaunchConfiguration("rate"),
                ],
            ),
        ]
    )  # fmt: skip
