"""vl2v_demo --scene, as a user starts it."""
from pathlib import Path
import re
import sys

import cv2
import pytest
from support.ros_processes import Ros
from training.rendering.scene import FIELD_OF_VIEW as RENDERED
from vl2v_ros.nodes.demo_parts.scenes import FIELD_OF_VIEW, scenes, SMALLEST

DEMO = Path(sys.executable).parent / 'vl2v_demo'


def test_the_scenes_are_those_of_the_renders() -> None:
    shown = list(scenes())
    assert len(shown) == 20 and FIELD_OF_VIEW == RENDERED
    for scene in shown:
        assert scene.bgr.shape[:2] == scene.depth.shape and scene.depth.dtype == 'uint16'
        for name, (left, top, width, height) in scene.objects:
            assert name and min(width, height) >= SMALLEST
            part = scene.depth[int(top):int(top + height), int(left):int(left + width)]
            assert 200 < part[part > 0].mean() < 3000  # millimetres


@pytest.mark.usefixtures('warm_cache')
def test_the_demo_names_what_lies_in_rendered_heaps(ros: Ros, tmp_path: Path) -> None:
    demo = ros.run(DEMO, '--scene', '--out', tmp_path)
    assert demo.wait(180) == 0, demo.output
    boxes = sum(len(scene.objects) for scene in scenes())
    said = re.search(rf'(\d+) of {boxes} boxes named rightly, among \d+ names', demo.output)
    assert said and int(said[1]) > boxes / 2
    assert len(re.findall(r'^  .+, \d\.\d\d m', demo.output, re.MULTILINE)) == boxes
    assert cv2.imread(str(tmp_path / 'scene.jpg')).shape == (5 * 360, 4 * 480, 3)
    assert 'Traceback' not in demo.output
