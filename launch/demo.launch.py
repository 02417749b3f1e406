"""
Label a folder of images, a video or a webcam, without a camera driver.

ros2 launch vl2v_ros demo.launch.py source:=0 vocabulary:='mug, banana, apple'
"""
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    """Start the classifier and the camera node."""
    share = FindPackageShare('vl2v_ros')
    classify = IncludeLaunchDescription(  # launch passes its arguments on
        PathJoinSubstitution([share, 'launch', 'classify.launch.py']))
    camera = Node(
        package='vl2v_ros', executable='camera_node', name='camera',
        namespace=LaunchConfiguration('namespace'), output='screen', emulate_tty=True,
        parameters=[
            {'source': ParameterValue(LaunchConfiguration('source'), value_type=str),
             'rate': ParameterValue(LaunchConfiguration('rate'), value_type=float)}],
        remappings=[('image', LaunchConfiguration('image'))])
    return LaunchDescription([
        DeclareLaunchArgument(
            'source', default_value=PathJoinSubstitution([share, 'data', 'photos_sample',
                                                          'sequence.mp4']),
            description='Images to label: a folder, a video file or a webcam; by default a video '
                        'of photos'),
        DeclareLaunchArgument('rate', default_value='30.0',
                              description='Frames published per second [Hz]'),
        classify,  # declares the other arguments, and sets the environment of both nodes
        camera])
