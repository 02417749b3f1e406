"""
Count what a bag shows: python examples/label_bag.py RECORDING.mcap 'banana, mug, power drill'.

Reads MCAP files and rosbag2 folders; no ROS is needed.
"""
from collections import Counter
from pathlib import Path
import sys

from vl2v_ros import Labeller
from vl2v_ros.command.bags import open_bag


def main(bag: str, labels: str) -> None:
    """Print how many images of each topic show what."""
    labeller = Labeller.open()
    words = labeller.vocabulary(labels)
    seen: Counter[tuple[str, str]] = Counter()
    for picture in open_bag(Path(bag), [], print).pictures:
        prediction = labeller.label(picture.frame, words)
        seen[picture.topic, 'unknown' if prediction.unknown else prediction.labels[0]] += 1
    for (topic, label), count in sorted(seen.items()):
        print(f'{topic}: {label} {count}')


if __name__ == '__main__':
    main(*(sys.argv[1:] or sys.exit(__doc__)))
