"""ROS 2 nodes: the only place that imports rclpy and message packages."""
from importlib.util import find_spec
import os

if not find_spec('rclpy'):
    raise ModuleNotFoundError(
        'vl2v_ros.nodes: expected ROS 2, Python finds no rclpy; source '
        '/opt/ros/<name>/setup.bash, or make setup in a checkout of vl2v_ros', name='rclpy')

# Set before numpy is imported: the similarities of a frame are too little work for several
# threads, and OpenBLAS lets its threads spin between frames, which multiplies the CPU time.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
from vl2v_ros.nodes.transport import check_room

check_room()
