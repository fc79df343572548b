# SPDX-License-Identifier: Apache-2.0
"""Caption a camera: ros2 launch edge_vlm captioner.launch.py image:=/camera/image_raw (--show-args lists arguments).

Several cameras in one process: cameras:='front rear' image:=image_raw listens on front/image_raw and rear/image_raw.
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from edge_vlm.ros.parameters import PARAMETERS
from launch import LaunchContext, LaunchDescription

ARGUMENTS = (
    ("image", "image", "Image topic; its compressed twin is <image>/compressed."),
    ("events", "events", "Event-camera topic; nothing is expected on it where there is no event camera."),
    ("power", "power", "Topic of the power in watts, with energy:=power_topic."),
    ("battery_state", "battery_state", "Topic of the battery, with energy:=battery_topic."),
    ("cameras", "", "Names of several cameras, separated by spaces: one node each, with the name as namespace."),
    ("name", "captioner", "Node name."),
    ("namespace", "", "Namespace of the node and its relative topics."),
    (
        "params_file",
        PathJoinSubstitution([FindPackageShare("edge_vlm"), "config", "captioner.yaml"]),
        "YAML parameters; what it sets wins over the arguments below.",
    ),
    ("log_level", "info", "debug, info, warn, error or fatal."),
    ("respawn", "false", "Start the process again if it dies."),
    ("use_sim_time", "false", "Follow /clock, as with ros2 bag play --clock."),
)


def node_arguments() -> list[DeclareLaunchArgument]:
    """One for every parameter of the node."""
    return [
        DeclareLaunchArgument(
            row.name,
            default_value=str(row.default).lower() if isinstance(row.default, bool) else str(row.default),
            description=row.description,
            choices=list(row.choices) or None,
        )
        for row in PARAMETERS
    ]


def node_parameters() -> dict:
    values = {
        row.name: ParameterValue(LaunchConfiguration(row.name), value_type=type(row.default)) for row in PARAMETERS
    }
    return values | {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}


def captioner(context: LaunchContext) -> list[Node]:
    """With a name launch writes parameters for that node in that namespace alone; those of several cameras lie below
    it, so there the name is a remapping, and parameters are for all nodes of the process."""
    image, name = LaunchConfiguration("image"), LaunchConfiguration("name")
    several = bool(LaunchConfiguration("cameras").perform(context).split())
    node = Node(
        package="edge_vlm",
        executable="captioner",
        name=None if several else name,
        namespace=LaunchConfiguration("namespace"),
        output="both",
        emulate_tty=True,
        parameters=[node_parameters(), LaunchConfiguration("params_file")],
        remappings=[
            ("image", image),
            ("image/compressed", [image, "/compressed"]),
            ("events", LaunchConfiguration("events")),
            ("power", LaunchConfiguration("power")),
            ("battery_state", LaunchConfiguration("battery_state")),
        ],
        arguments=[
            "--cameras",
            LaunchConfiguration("cameras"),
            "--ros-args",
            "--log-level",
            LaunchConfiguration("log_level"),
            *(["-r", ["__node:=", name]] if several else []),
        ],
        respawn=LaunchConfiguration("respawn"),
        respawn_delay=2.0,
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS]
    return LaunchDescription([*declared, *node_arguments(), OpaqueFunction(function=captioner)])
