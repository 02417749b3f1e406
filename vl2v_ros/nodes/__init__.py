"""ROS 2 nodes: the only place that imports rclpy and message packages."""
import os

# Set before numpy is imported: the similarities of a frame are too little work for several
# threads, and OpenBLAS lets its threads spin between frames, which multiplies the CPU time.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
from vl2v_ros.nodes.transport import check_room

check_room()
