# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - launch is asked for before it is imported
"""Launch files: all arguments at top level, every parameter of the node among them."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="launch_ros cannot be imported: source a ROS 2 setup file to run these tests")

from launch.actions import OpaqueFunction
from launch.utilities import perform_substitutions
from launch_ros.actions import Node

from edge_vlm.ros.parameters import PARAMETERS
from launch import LaunchContext

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def described(monkeypatch):
    """The launch description of a file, with the checkout in place of an installed package."""
    monkeypatch.setattr("ament_index_python.packages.get_package_share_directory", lambda name: str(ROOT))

    def describe(name: str):
        spec = importlib.util.spec_from_file_location(name.partition(".")[0], ROOT / "launch" / name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.generate_launch_description()

    return describe


@pytest.mark.parametrize("name", ["captioner.launch.py", "replay.launch.py", "demo.launch.py"])
def test_every_parameter_is_an_argument_with_a_description(described, name):
    arguments = {argument.name: argument for argument in described(name).get_launch_arguments()}
    for row in PARAMETERS:
        assert arguments[row.name].description.startswith(row.description)
        assert tuple(arguments[row.name].choices or ()) == row.choices
    assert {"image", "events", "namespace", "params_file", "log_level", "respawn", "use_sim_time"} <= set(arguments)


def test_replay_needs_a_bag_and_nothing_else(described):
    arguments = described("replay.launch.py").get_launch_arguments()
    assert [argument.name for argument in arguments if argument.default_value is None] == ["bag"]


def nodes_of(description, **given) -> list[Node]:
    """With the default of every argument that is not given."""
    context = LaunchContext()
    for argument in description.get_launch_arguments():
        value = argument.default_value
        context.launch_configurations[argument.name] = "" if value is None else perform_substitutions(context, value)
    context.launch_configurations.update(given)
    made = []
    for entity in description.entities:
        made += entity.execute(context) if isinstance(entity, OpaqueFunction) else [entity]
    nodes = [entity for entity in made if isinstance(entity, Node)]
    for node in nodes:
        node._perform_substitutions(context)
    return nodes


@pytest.mark.parametrize("cameras, alone", [("", True), ("front rear", False)])
def test_parameters_reach_the_nodes_of_several_cameras(described, cameras, alone):
    """A node with a name gets parameters that are written for that name alone."""
    (node,) = nodes_of(described("captioner.launch.py"), cameras=cameras)
    assert node.is_node_name_fully_specified() is alone
    assert node.expanded_node_namespace == "/"


def test_nodes_start_executables_that_setup_installs(described):
    scripts = (ROOT / "setup.py").read_text()
    assert "captioner = edge_vlm.ros." in scripts and nodes_of(described("captioner.launch.py"))
    for name in ("replay.launch.py", "demo.launch.py"):
        for entity in described(name).entities:
            if isinstance(entity, Node):
                executable = entity.node_executable
                said = executable if isinstance(executable, str) else executable[0].perform(LaunchContext())
                assert f'"{said} = edge_vlm.ros.' in scripts
