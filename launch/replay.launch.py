# SPDX-License-Identifier: Apache-2.0
"""Play a recording with sim time into the captioner, and write down what it says.

ros2 launch edge_vlm replay.launch.py bag:=my_bag out:=out/my_bag    ends with the recording; captions.jsonl is in out
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, RegisterEventHandler, Shutdown
from launch.conditions import IfCondition, UnlessCondition
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription

ARGUMENTS = (
    ("out", "out/replay", "Folder for captions.jsonl, one line a frame, as edge-vlm replay writes it."),
    ("rate", "1.0", "Times the recorded speed; frames that come too fast are dropped and counted."),
    ("lockstep", "false", "Wait for the captioner after each image, so that it misses none, whatever the speed."),
)


def replayer(lockstep: bool) -> Node:
    words = ["--clock", "--raw", "--print", "--rate", LaunchConfiguration("rate"), "--out", LaunchConfiguration("out")]
    return Node(
        package="edge_vlm",
        executable="replayer",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        arguments=[LaunchConfiguration("bag"), *words, *(["--lockstep"] if lockstep else [])],
        remappings=[
            ("image", LaunchConfiguration("image")),
            ("events", LaunchConfiguration("events")),
            ("captioner/step", [LaunchConfiguration("name"), "/step"]),
        ],
        condition=(IfCondition if lockstep else UnlessCondition)(LaunchConfiguration("lockstep")),
    )


def generate_launch_description() -> LaunchDescription:
    captioner = Path(get_package_share_directory("edge_vlm")) / "launch" / "captioner.launch.py"
    players = [replayer(lockstep=True), replayer(lockstep=False)]
    over = [
        RegisterEventHandler(OnProcessExit(target_action=player, on_exit=[Shutdown(reason="the recording has ended")]))
        for player in players
    ]
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2 folder, .mcap, .db3 or ROS 1 .bag file."),
            *(DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(captioner)), launch_arguments={"use_sim_time": "true"}.items()
            ),
            *players,
            *over,
        ]
    )
