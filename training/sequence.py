"""
Render a camera going round one object after another, as a video with the truth beside it.

python training/sequence.py --meshes MESHES --out SEQUENCE.mp4 --objects 011_banana 025_mug
"""
import argparse
import os
from pathlib import Path

os.environ.setdefault('MUJOCO_GL', 'egl')

import cv2  # noqa: E402
from domains import DOMAINS  # noqa: E402
from meshes import find_meshes, Mesh  # noqa: E402
import numpy as np  # noqa: E402
from scene import Stage  # noqa: E402

RATE = 15.0  # [Hz]
TURN = 140.0  # of the camera round each object [deg]


def orbit(mesh: Mesh, domain_name: str, size: tuple[int, int], frames: int, seed: int
          ) -> list[np.ndarray]:
    """Return (H, W, 3) uint8 RGB frames of a camera going round an object that lies on a table."""
    rng = np.random.default_rng([seed, *mesh.name.encode()])
    domain = DOMAINS[domain_name]
    stage = Stage([mesh], size, falling=True)
    try:
        stage.place(0, np.array([0, 0, 0.12]), np.eye(3))
        stage.settle()
        stage.light_up(domain, rng)
        middle = stage.position(0)
        radius = float(np.linalg.norm(stage.vertices(), axis=1).max())
        stage.scatter(2, middle, 2.6 * radius, 0.8 * radius, rng)
        stage.camera.lookat[:] = middle
        stage.camera.distance, stage.camera.elevation = 3.6 * radius, -rng.uniform(30, 50)
        start = rng.uniform(0, 360)
        pictures = []
        for angle in np.linspace(0, TURN, frames):
            stage.camera.azimuth = start + angle
            # The same draws for each frame: one camera keeps its exposure and white balance.
            pictures.append(stage.look(domain, np.random.default_rng(seed)).rgb)
        return pictures
    finally:
        stage.close()


def main() -> None:
    """Write the video, and `<video>.csv` with the class of each frame."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--meshes', type=Path, required=True, help='folder of <class>/*.obj')
    parser.add_argument('--out', type=Path, required=True, help='video to write, *.mp4')
    parser.add_argument('--objects', nargs='+', required=True, help='classes, in their order')
    parser.add_argument('--domain', choices=DOMAINS, default='tabletop')
    parser.add_argument('--frames', type=int, default=20, help='per object')
    parser.add_argument('--size', type=int, nargs=2, default=(480, 360),
                        metavar=('WIDTH', 'HEIGHT'), help='[px]')
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    size = tuple(options.size)
    found = {mesh.name: mesh for mesh in find_meshes(options.meshes, options.objects)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(options.out), cv2.VideoWriter_fourcc(*'mp4v'), RATE, size)
    truth = []
    for name in options.objects:
        for picture in orbit(found[name], options.domain, size, options.frames, options.seed):
            video.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            truth.append(name)
    video.release()
    options.out.with_suffix('.csv').write_text('\n'.join(['class', *truth]) + '\n')
    print(f'{len(truth)} frames in {options.out}')


if __name__ == '__main__':
    main()
