# SPDX-License-Identifier: Apache-2.0
"""Caption a camera: ros2 launch edge_vlm captioner.launch.py image:=/camera/image_raw (--show-args lists arguments)."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = (
    ("image", "image", "Image topic; its compressed twin is <image>/compressed."),
    ("events", "events", "Event-camera topic; nothing is expected on it where there is no event camera."),
    ("name", "captioner", "Node name."),
    ("namespace", "", "Namespace of the node and its relative topics."),
    (
        "params_file",
        PathJoinSubstitution([FindPackageShare("edge_vlm"), "config", "captioner.yaml"]),
        "YAML parameters.",
    ),
    ("log_level", "info", "debug, info, warn, error or fatal."),
    ("respawn", "false", "Start the node again if its process dies."),
)
# These override the parameters file; the names are those of the node's parameters.
NODE_PARAMETERS = (
    ("autostart", "true", bool, "Configure and activate at start."),
    ("bundle", "", str, "Folder of the model bundle; empty: the installed demo bundle."),
    ("image_transport", "raw", str, "raw or compressed."),
    ("event_source", "auto", str, "auto, event_packet, event_array or none."),
    ("prompt", "", str, "Question put to the model; empty: the bundle's own."),
    ("reuse", "true", bool, "Reuse visual tokens of unchanged patches."),
    ("route", "auto", str, "auto, full, sparse or shallow."),
    ("use_sim_time", "false", bool, "Follow /clock, as with ros2 bag play --clock."),
)


def generate_launch_description() -> LaunchDescription:
    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS]
    declared += [
        DeclareLaunchArgument(name, default_value=value, description=text) for name, value, _, text in NODE_PARAMETERS
    ]
    image = LaunchConfiguration("image")
    captioner = LifecycleNode(
        package="edge_vlm",
        executable="captioner",
        name=LaunchConfiguration("name"),
        namespace=LaunchConfiguration("namespace"),
        output="both",
        emulate_tty=True,
        parameters=[
            LaunchConfiguration("params_file"),
            {
                name: ParameterValue(LaunchConfiguration(name), value_type=value_type)
                for name, _, value_type, _ in NODE_PARAMETERS
            },
        ],
        remappings=[
            ("image", image),
            ("image/compressed", [image, "/compressed"]),
            ("events", LaunchConfiguration("events")),
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        respawn=LaunchConfiguration("respawn"),
        respawn_delay=2.0,
    )
    return LaunchDescription([*declared, captioner])
