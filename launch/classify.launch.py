"""
Label a camera's images.

ros2 launch vl2v_ros classify.launch.py image:=/camera/color/image_raw \
    checkpoint:=student.safetensors vocabulary:='mug, banana, red apple'
"""
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue
from launch_ros.substitutions import FindPackageShare
from vl2v_ros.nodes.transport import environment


def generate_launch_description() -> LaunchDescription:
    """Start the classifier."""
    share = FindPackageShare('vl2v_ros')
    arguments = [
        DeclareLaunchArgument('image', default_value='image',
                              description='Topic of the camera; its /compressed is heard too'),
        DeclareLaunchArgument(
            'checkpoint', default_value=PathJoinSubstitution([share, 'models',
                                                              'student.safetensors']),
            description='Student, a *.safetensors file; by default the one that ships'),
        DeclareLaunchArgument(
            'vocabulary',
            default_value=PathJoinSubstitution([share, 'config', 'vocabularies', 'everyday.yaml']),
            description='Labels separated by commas, or a *.yaml file; by default 307 names'),
        DeclareLaunchArgument('device', default_value='auto',
                              description='auto (CUDA, else CPU), cpu, cuda or cuda:N'),
        DeclareLaunchArgument(
            'params_file', default_value=PathJoinSubstitution([share, 'config', 'classify.yaml']),
            description='All other parameters'),
        DeclareLaunchArgument('namespace', default_value='', description='Of the node'),
        DeclareLaunchArgument('overlay', default_value='true',
                              description='Offer the annotated image on ~/overlay'),
        DeclareLaunchArgument(
            'profile', default_value='',
            description='Measure where the time of a frame goes, into this *.json file'),
        DeclareLaunchArgument(
            'fast_transport', default_value='true',
            description='Shared memory and malloc settings for large images (Fast DDS)'),
    ]
    transport = [SetEnvironmentVariable(name, value,
                                        condition=IfCondition(LaunchConfiguration('fast_transport')))
                 for name, value in environment().items()]
    classifier = Node(
        package='vl2v_ros', executable='classifier_node', name='classifier',
        namespace=LaunchConfiguration('namespace'), output='screen', emulate_tty=True,
        arguments=['--profile', LaunchConfiguration('profile')],
        parameters=[
            ParameterFile(LaunchConfiguration('params_file')),
            {name: ParameterValue(LaunchConfiguration(name), value_type=str)
             for name in ('checkpoint', 'vocabulary', 'device')},
            {'overlay': ParameterValue(LaunchConfiguration('overlay'), value_type=bool)}],
        remappings=[('image', LaunchConfiguration('image'))])
    return LaunchDescription([*arguments, *transport, classifier])
