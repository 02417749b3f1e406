"""
Label a camera's images.

ros2 launch vl2v_ros classify.launch.py image:=/camera/color/image_raw \
    checkpoint:=student.safetensors vocabulary:='mug, banana, apple'
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
    'image': 'Image topic of the camera; <image>/compressed is received as well',
    'depth': 'Depth topic that is registered to the image, for ~/detections_3d',
    'camera_info': 'Topic with the calibration of the image, for ~/detections_3d'}


def generate_launch_description() -> LaunchDescription:
    """Start the classifier."""
    share = FindPackageShare('vl2v_ros')
    arguments = [
        *(DeclareLaunchArgument(topic, default_value=topic, description=text)
          for topic, text in TOPICS.items()),
        DeclareLaunchArgument(
            'checkpoint', default_value='',
            description='Student to run, a *.safetensors file; by default the one in the package'),
        DeclareLaunchArgument(
            'vocabulary', default_value='',
            description='Labels separated by commas, or a *.yaml file; by default 307 everyday '
                        'things'),
        DeclareLaunchArgument(
            'device', default_value='',
            description='Device that runs the student: auto (CUDA if present, else CPU), cpu, '
                        'cuda, cuda:N, onnx:cpu, onnx:cuda or onnx:tensorrt; by default auto'),
        DeclareLaunchArgument(
            'overlay', default_value='',
            description='Offer the annotated image on ~/overlay; by default true'),
        DeclareLaunchArgument(
            'autostart', default_value='',
            description='Configure and activate the node at start-up; by default true; false: '
                        'wait for a lifecycle manager'),
        DeclareLaunchArgument(
            'params_file', default_value=PathJoinSubstitution([share, 'config', 'classify.yaml']),
            description='YAML file of parameters; launch arguments that are given override it'),
        DeclareLaunchArgument('namespace', default_value='',
                              description='Namespace of the node'),
        DeclareLaunchArgument('name', default_value='classifier',
                              description='Name of the classifier node'),
        DeclareLaunchArgument('respawn', default_value='false',
                              description='Start the node again 2 s after it ends'),
        DeclareLaunchArgument(
            'profile', default_value='',
            description='*.json file to write the time of each step of a frame into'),
        DeclareLaunchArgument(
            'fast_transport', default_value='true',
            description='Set shared memory and malloc for large images (Fast DDS)'),
    ]
    transport = [SetEnvironmentVariable(name, value,
                                        condition=IfCondition(LaunchConfiguration('fast_transport')))
                 for name, value in environment().items()]
    classifier = Node(
        package='vl2v_ros', executable='classifier_node', name=LaunchConfiguration('name'),
        namespace=LaunchConfiguration('namespace'), output='screen', emulate_tty=True,
        respawn=LaunchConfiguration('respawn'), respawn_delay=2.0,
        arguments=['--profile', LaunchConfiguration('profile')],
        parameters=[
            {'checkpoint': PathJoinSubstitution([share, 'models', 'student.safetensors']),
             'vocabulary': PathJoinSubstitution([share, 'config', 'vocabularies',
                                                 'everyday.yaml'])},
            ParameterFile(LaunchConfiguration('params_file')),
            ParameterFile(Given(('checkpoint', 'vocabulary', 'device'),
                                booleans=('overlay', 'autostart')))],
        remappings=[(topic, LaunchConfiguration(topic))
                    for topic in TOPICS])
    return LaunchDescription([*arguments, *transport, classifier])
