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
from vl2v_ros.nodes.given import Bundled, Given
from vl2v_ros.nodes.transport import environment

TOPICS = {
    'image': 'Image topic of the camera; <image>/compressed is received as well',
    'depth': 'Depth topic that is registered to the image, for ~/detections_3d',
    'camera_info': 'Topic with the calibration of the image, for ~/detections_3d'}
ARGUMENTS = {  # default value and description
    'checkpoint': ('', 'Student to run, a *.safetensors file; by default the one in the package'),
    'vocabulary': ('', 'Labels separated by commas, or a *.yaml file; by default 307 everyday '
                   'things'),
    'bundle': ('', 'Folder of vl2v_bundle: its student, vocabulary and parameters override '
               'params_file; checkpoint and vocabulary override them'),
    'device': ('', 'Device that runs the student: auto (CUDA if present, else CPU), cpu, cuda, '
               'cuda:N, onnx:cpu, onnx:cuda or onnx:tensorrt; by default auto'),
    'overlay': ('', 'Offer the annotated image on ~/overlay; by default true'),
    'autostart': ('', 'Configure and activate the node at start-up; by default true; false: wait '
                  'for a lifecycle manager'),
    'use_sim_time': ('', 'Take the time from /clock, as of a simulator; by default false'),
    'namespace': ('', 'Namespace of the node'),
    'name': ('classifier', 'Name of the classifier node'),
    'respawn': ('false', 'Start the node again 2 s after it ends'),
    'profile': ('', '*.json file to write the time of each step of a frame into'),
    'fast_transport': ('true', 'Set shared memory and malloc for large images (Fast DDS)')}


def generate_launch_description() -> LaunchDescription:
    """Start the classifier."""
    share = FindPackageShare('vl2v_ros')
    arguments = [
        *(DeclareLaunchArgument(topic, default_value=topic, description=text)
          for topic, text in TOPICS.items()),
        *(DeclareLaunchArgument(name, default_value=default, description=text)
          for name, (default, text) in ARGUMENTS.items()),
        DeclareLaunchArgument(
            'params_file', default_value=PathJoinSubstitution([share, 'config', 'classify.yaml']),
            description='YAML file of parameters; launch arguments that are given override it')]
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
            ParameterFile(Bundled(files=False)),
            ParameterFile(Bundled(files=True)),
            ParameterFile(Given(('checkpoint', 'vocabulary', 'device'),
                                booleans=('overlay', 'autostart', 'use_sim_time')))],
        remappings=[(topic, LaunchConfiguration(topic))
                    for topic in TOPICS])
    return LaunchDescription([*arguments, *transport, classifier])
