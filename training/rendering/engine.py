"""MuJoCo, which renders without a screen, in one thread per process."""
import os

os.environ.setdefault('MUJOCO_GL', 'egl')
os.environ.setdefault('LP_NUM_THREADS', '1')

WANTED = ('OpenGL without a screen: apt-get install -y libegl1 libgl1 libgl1-mesa-dri, or install '
          'libosmesa6 and set MUJOCO_GL=osmesa')

try:
    import mujoco
except (AttributeError, ImportError, OSError) as error:  # of the library that it is missing
    raise ImportError(f'rendering: expected {WANTED} ({error})') from error

__all__ = ['mujoco', 'WANTED']
