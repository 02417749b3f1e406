"""What comes and goes in a soak: a camera, a detector, watchers, requests, vocabularies."""
from functools import partial
import itertools
import json
from pathlib import Path
from random import Random
import sys
import time
from typing import Any

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from support.detector import to_regions
from support.ros_processes import Process, Ros
from vision_msgs.msg import Detection2DArray
from vl2v_msgs.msg import Embedding, PresenceArray
from vl2v_msgs.srv import ClassifyImage, EncodeText, Forget, SetVocabulary, Teach
from vl2v_ros.labeller import Labeller
from vl2v_ros.nodes.messages import to_image
from vl2v_ros.words.labels import folded

ROOT = Path(__file__).parents[2]
STUDENT = ROOT / 'models/student.safetensors'
CHANGE = 3  # a vocabulary change every so many seconds
OVERLAY = 60, 20, 35  # of each minute, the seconds in which the overlay is watched
REAR = 40, 10, 30  # of each 40 s, those in which the second camera is there
EVERY = 3  # image that the detector looks at: ten boxes for each are the limit of two cores
DETECTOR = 50, 5, 30  # of each 50 s, those in which a detector sends boxes
MAPS = 70, 35, 45  # of each 70 s, those in which maps and presence are watched
DEMAND = 7  # boxes of one image, and a text, on demand every so many seconds
LESSON = 11  # every so many seconds a label is taught by a picture, and forgotten
BOXES = [(x, y, 100, 100, f'{x} {y}') for x in range(60, 640, 120) for y in (120, 360)]  # [px]


class Visitors:
    """What comes and goes: second camera, detector, watchers, requests, new vocabularies."""

    def __init__(self, ros: Ros, rng: Random, frames: Path) -> None:
        self._ros, self._rng = ros, rng
        with np.load(frames) as file:
            self._picture = to_image(file[file.files[0]], 'rgb8', Header())
            self._scenes = frames.with_name('boxes.json')
            self._scenes.write_text(json.dumps(dict.fromkeys(file.files, BOXES)))
        self._detector: Process | None = None
        self._detections: list[Any] = []
        known = Labeller.open(STUDENT).encoder.names  # some differ in their case alone
        self._names = list({folded(name): name for name in known}.values())
        self._transports = itertools.cycle(('raw', 'compressed'))
        self._rear: Process | None = None
        self._watched: list[Any] = []
        self._looked_at: list[Any] = []
        self.counts = {'changes of the vocabulary': 0, 'visits of the second camera': 0,
                       'visits to the overlay': 0, 'overlays': 0, 'visits of the detector': 0,
                       'arrays of boxes answered': 0, 'boxes on demand': 0,
                       'visits to the maps': 0, 'maps': 0, 'arrays of presence': 0,
                       'embeddings': 0, 'lessons': 0}

    def warm(self) -> None:
        """Look at maps until there are some, for which the student's cells are prepared."""
        watched = self._watch({'heatmap': (Image, 'maps')})
        while not self.counts['maps']:
            time.sleep(0.1)
        self._look_away(watched)

    def act(self, second: int) -> None:
        """Do what is due in this second."""
        if second % CHANGE == 0:
            self._change()
        if second % DEMAND == 0:
            reply = self._ros.call(ClassifyImage, 'classifier/classify', image=self._picture,
                                   regions=to_regions(Header(), BOXES).detections)
            assert reply.success, reply.message
            self.counts['boxes on demand'] += len(reply.detections)
            reply = self._ros.call(EncodeText, 'classifier/encode_text', texts=['a mug'])
            assert reply.success, reply.message
        if second % LESSON == 0:
            self._teach()
        phase = second % OVERLAY[0]
        if phase == OVERLAY[1] and not self._watched:
            self.counts['visits to the overlay'] += 1
            self._watched = self._watch({'overlay': (Image, 'overlays')})
        if phase == OVERLAY[2]:
            self._look_away(self._watched)
        phase = second % MAPS[0]
        if phase == MAPS[1] and not self._looked_at:
            self.counts['visits to the maps'] += 1
            self._looked_at = self._watch({'heatmap': (Image, 'maps'),
                                           'presence': (PresenceArray, 'arrays of presence'),
                                           'embedding': (Embedding, 'embeddings')})
        if phase == MAPS[2]:
            self._look_away(self._looked_at)
        phase = second % REAR[0]
        if phase == REAR[1] and self._rear is None:
            self.counts['visits of the second camera'] += 1
            transport = next(self._transports)
            self._rear = self._ros.start('camera_node', {
                'source': ROOT / 'data/photos_sample/sequence.mp4', 'rate': 10.0,
                'image_transport': transport}, '-r', 'image:=rear/image',
                '-r', 'image/compressed:=rear/image/compressed')
        if phase == REAR[2]:
            self._leave()
        phase = second % DETECTOR[0]
        if phase == DETECTOR[1] and self._detector is None:
            self.counts['visits of the detector'] += 1
            self._detections = self._watch(
                {'detections': (Detection2DArray, 'arrays of boxes answered')})
            self._detector = self._ros.run(sys.executable, ROOT / 'test/support/detector.py',
                                           self._scenes, 'front/image', 'front/regions', EVERY)
        if phase == DETECTOR[2]:
            self._stop_detecting()

    def _change(self) -> None:
        labels = self._rng.sample(self._names, self._rng.choice((2, 10, 50)))
        reply = self._ros.call(SetVocabulary, 'classifier/set_vocabulary', operation=0,
                               labels=labels)
        assert reply.success, reply.message
        self.counts['changes of the vocabulary'] += 1

    def _teach(self) -> None:
        label = 'what the soak has taught'
        taught = self._ros.call(Teach, 'classifier/teach', label=label, images=[self._picture],
                                text_weight=-1.0)
        assert taught.success and taught.count == 1, taught.message
        forgotten = self._ros.call(Forget, 'classifier/forget', labels=[label])
        assert forgotten.success and label not in forgotten.labels, forgotten.message
        self.counts['lessons'] += 1

    def _watch(self, topics: dict[str, tuple[type, str]]) -> list[Any]:
        """Subscribe to topics of the first camera; their messages are counted by these names."""
        return [self._ros.node.create_subscription(
            kind, f'classifier/front/{topic}', partial(self._count, name), 100)
            for topic, (kind, name) in topics.items()]

    def _count(self, name: str, _: object) -> None:
        self.counts[name] += 1

    def _stop_detecting(self) -> None:
        if self._detector is not None:
            self._detector.close()
            self._look_away(self._detections)
            self._detector = None

    def _look_away(self, watched: list[Any]) -> None:
        while watched:
            self._ros.node.destroy_subscription(watched.pop())

    def _leave(self) -> None:
        if self._rear is not None:
            self._rear.close()
            self._rear = None

    def go(self) -> None:
        """Leave, all of them."""
        self._look_away(self._watched)
        self._look_away(self._looked_at)
        self._leave()
        self._stop_detecting()
