"""ROS 2 nodes: the only place that imports rclpy and message packages."""
import os

# Before numpy is imported: a frame's similarities are too little work for several threads, and
# OpenBLAS lets its own spin between frames, at several times the CPU time of all the rest.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
