"""
A robot's eyes in one file: camera, classifier and memory, each started again when it ends.

ros2 launch examples/robot.launch.py camera:=/dev/video0 vocabulary:='mug, banana, apple'

Put your own driver in place of camera_node; docs/integrations.md has the topics of some.
"""
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    SetEnvironmentVariable,
)
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from vl2v_ros.nodes.transport import environment


def ours(name: str) -> GroupAction:
    """Include a launch file of vl2v_ros, in a group: arguments of one must not reach the next."""
    path = PathJoinSubstitution([FindPackageShare('vl2v_ros'), 'launch', f'{name}.launch.py'])
    return GroupAction([IncludeLaunchDescription(path, launch_arguments={
        'namespace': 'robot', 'image': 'camera/image_raw', 'respawn': 'true'}.items())])


def generate_launch_description() -> LaunchDescription:
    """Start all three."""
    source = ParameterValue(LaunchConfiguration('camera'), value_type=str)
    return LaunchDescription([
        DeclareLaunchArgument('camera', default_value='0', description='Webcam, video or folder'),
        DeclareLaunchArgument('vocabulary', default_value='', description='Labels, or a file'),
        *(SetEnvironmentVariable(*setting) for setting in environment().items()),  # for the camera
        Node(package='vl2v_ros', executable='camera_node', namespace='robot', respawn=True,
             respawn_delay=2.0, parameters=[{'source': source}],
             remappings=[('image', 'camera/image_raw')]),
        ours('classify'), ours('memory')])
