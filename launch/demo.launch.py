"""
Label a folder of images, a video or a webcam, without a camera driver.

ros2 launch vl2v_ros demo.launch.py source:=0 checkpoint:=student.safetensors
"""
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    """Start the classifier and the camera node."""
    classify = IncludeLaunchDescription(
        PathJoinSubstitution([FindPackageShare('vl2v_ros'), 'launch', 'classify.launch.py']),
        # The others are passed on by themselves; one without a default has to be named.
        launch_arguments=[('checkpoint', LaunchConfiguration('checkpoint'))])
    camera = Node(
        package='vl2v_ros', executable='camera_node', name='camera',
        namespace=LaunchConfiguration('namespace'), output='screen', emulate_tty=True,
        parameters=[
            {'source': ParameterValue(LaunchConfiguration('source'), value_type=str),
             'rate': ParameterValue(LaunchConfiguration('rate'), value_type=float)}],
        remappings=[('image', LaunchConfiguration('image'))])
    return LaunchDescription([
        DeclareLaunchArgument('checkpoint', description='Student, a *.safetensors file'),
        DeclareLaunchArgument('source', description='Folder of images, video file or webcam'),
        DeclareLaunchArgument('rate', default_value='30.0', description='Frames per second [Hz]'),
        classify,  # declares the rest, and sets the environment of both
        camera])
