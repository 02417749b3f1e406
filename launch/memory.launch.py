"""
Remember what the cameras of a running classifier see, and find it again by text or picture.

ros2 launch vl2v_ros memory.launch.py image:=/camera/color/image_raw
"""
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterFile
from launch_ros.substitutions import FindPackageShare
from vl2v_ros.nodes.given import Given
from vl2v_ros.nodes.transport import environment

TOPICS = {
    'image': 'Image topic of the camera, as the classifier has it; thumbnails are made of it',
    'pose': 'Topic with the pose of robot or camera, geometry_msgs/PoseStamped'}


def generate_launch_description() -> LaunchDescription:
    """Start the memory."""
    arguments = [
        *(DeclareLaunchArgument(topic, default_value=topic, description=text)
          for topic, text in TOPICS.items()),
        DeclareLaunchArgument(
            'file', default_value='',
            description='SQLite file that holds what was seen; by default '
                        '~/.local/share/vl2v_ros/memory.sqlite'),
        DeclareLaunchArgument('classifier', default_value='',
                              description='Name of the classifier node; by default classifier'),
        DeclareLaunchArgument('use_sim_time', default_value='',
                              description='Take the time from /clock, as of a simulator; by '
                                          'default false'),
        DeclareLaunchArgument(
            'params_file', default_value=PathJoinSubstitution([
                FindPackageShare('vl2v_ros'), 'config', 'memory.yaml']),
            description='YAML file of parameters; launch arguments that are given override it'),
        DeclareLaunchArgument('namespace', default_value='',
                              description='Namespace of the node'),
        DeclareLaunchArgument('name', default_value='memory', description='Name of the node'),
        DeclareLaunchArgument('respawn', default_value='false',
                              description='Start the node again 2 s after it ends'),
        DeclareLaunchArgument(
            'fast_transport', default_value='true',
            description='Set shared memory and malloc for large images (Fast DDS)'),
    ]
    transport = [SetEnvironmentVariable(name, value,
                                        condition=IfCondition(LaunchConfiguration('fast_transport')))
                 for name, value in environment().items()]
    memory = Node(
        package='vl2v_ros', executable='memory_node', name=LaunchConfiguration('name'),
        namespace=LaunchConfiguration('namespace'), output='screen', emulate_tty=True,
        respawn=LaunchConfiguration('respawn'), respawn_delay=2.0,
        parameters=[ParameterFile(LaunchConfiguration('params_file')),
                    ParameterFile(Given(('file', 'classifier'), booleans=('use_sim_time',)))],
        remappings=[(topic, LaunchConfiguration(topic)) for topic in TOPICS])
    return LaunchDescription([*arguments, *transport, memory])
