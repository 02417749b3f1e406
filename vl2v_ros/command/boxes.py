"""What `vl2v_classify --boxes` does: name the boxes that somebody else found in pictures."""
from collections.abc import Callable, Iterable, Sequence
import json
from pathlib import Path, PurePosixPath
import sys

import cv2
from vl2v_ros.drawing.boxes import draw_boxes, Mark
from vl2v_ros.files import replacing, shown
from vl2v_ros.images.coco import BoxedImage, CocoBox, read_boxes, upright
from vl2v_ros.images.frame import Frame, to_rgb
from vl2v_ros.images.regions import Box, cut_all
from vl2v_ros.images.sources import Picture
from vl2v_ros.model.prediction import Prediction

MARGIN, SMALLEST = 0.1, 8.0  # as the node's region_margin and region_min_size
BATCH = 64  # boxes that are labelled at a time
DRAWN = ('.jpg', '.jpeg', '.png', '.webp')  # kinds of pictures that are drawn as they are

Label = Callable[[Sequence[Frame]], Sequence[Prediction]]


class Boxed:
    """
    The pictures of a COCO file, and what their boxes show.

    Written are images, categories (the labels) and annotations: each box that is known, with its
    id, its score and the category of its first label. Unknown boxes are left out: a category_id of
    null breaks readers.
    """

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        """Read the boxes; raises ValueError for a file that is not of COCO's format."""
        self._path = path
        self._images = {image.file: image for image in read_boxes(path)}
        self._numbers = {label: number for number, label in enumerate(labels, 1)}
        self._seen: list[BoxedImage] = []
        self._annotations: list[dict[str, object]] = []
        self.count = 0

    def image(self, file: Path) -> BoxedImage | None:
        """Return the picture whose file_name is the longest end of a path."""
        parts = file.absolute().parts
        ends = (PurePosixPath(*parts[start:]) for start in range(1, len(parts)))
        return next((self._images[end] for end in ends if end in self._images), None)

    def add(self, image: BoxedImage, picture: Picture, label: Label
            ) -> list[tuple[Box, Prediction | None]]:
        """
        Label the boxes of a picture.

        :return: each box in the picture as it is seen, and what it shows; None for too little.
        :raises ValueError: for a picture of another size than the file says.
        """
        height, width = picture.frame.pixels.shape[:2]
        seen, places = upright(picture.file, image.size,
                               [box.place for box in image.boxes])
        if seen != (width, height):
            raise ValueError(f'{shown(picture.file)}: expected a picture of {seen[0]} x {seen[1]} '
                             f'px, as {self._path} says, got {width} x {height} px')
        boxes = [Box(left + wide / 2, top + high / 2, wide, high)
                 for left, top, wide, high in places]
        parts = cut_all(picture.frame, boxes, MARGIN, SMALLEST, len(boxes))
        there = [part for part in parts if part]
        found = (prediction for start in range(0, len(there), BATCH)
                 for prediction in label(there[start:start + BATCH]))
        predictions = [next(found) if part else None for part in parts]
        self._seen.append(image)
        self.count += len(boxes)
        for box, prediction in zip(image.boxes, predictions, strict=True):
            if prediction and not prediction.unknown:
                self._annotations.append(self._annotation(image, box, prediction))
        return list(zip(boxes, predictions, strict=True))

    def _annotation(self, image: BoxedImage, box: CocoBox, prediction: Prediction
                    ) -> dict[str, object]:
        return {'id': box.id, 'image_id': image.entry['id'],
                'category_id': self._numbers[prediction.labels[0]], 'bbox': box.place,
                'area': box.place[2] * box.place[3], 'iscrowd': 0,
                'score': round(prediction.scores[0], 6)}

    def write(self, path: Path) -> None:
        """Write what was added; raises OSError."""
        content = {'images': [image.entry for image in self._seen],
                   'categories': [{'id': number, 'name': label}
                                  for label, number in self._numbers.items()],
                   'annotations': self._annotations}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + '\n',
                                 encoding='utf-8')

    def check(self) -> None:
        """Raise ValueError if no picture was added."""
        if not self._seen:
            names = ', '.join(str(name) for name in list(self._images)[:3])
            raise ValueError(f'--boxes {self._path}: expected pictures that it names ({names}) '
                             'among the inputs, found none')

    def said(self) -> str:
        """Return how much was named, as a sentence."""
        return (f'{len(self._annotations)} of {self.count} boxes named in {len(self._seen)} '
                'pictures; the others are unknown')


def run(boxed: Boxed, pictures: Iterable[Picture], label: Label, out: Path | None,
        drawn: Path | None, font: str) -> None:
    """
    Name the boxes of all pictures; print them, write them as COCO JSON, or draw them.

    :param label: returns what frames show.
    :param out: file of the results. Without it, a line is printed per box.
    :param drawn: folder for the pictures with their boxes.
    :raises ValueError: if nothing fits, or a drawn picture would replace a picture.
    """
    for picture in pictures:
        image = boxed.image(picture.file)
        if image is None:
            print(f'skipped {shown(picture.file)}: no boxes', file=sys.stderr)
            continue
        found = boxed.add(image, picture, label)
        if not out:
            for box, prediction in found:
                print(f'{shown(picture.file)}  {_line(box, prediction)}', flush=True)
        if drawn:
            _draw(drawn / image.file, picture, found, font)
    boxed.check()
    if out:
        boxed.write(out)
        print(f'wrote {shown(out)}: {boxed.said()}')
    if drawn:
        print(f'wrote pictures into {shown(drawn)}')


def _line(box: Box, prediction: Prediction | None) -> str:
    left, top, right, bottom = box.upright()
    place = f'{left:.0f}, {top:.0f}, {right - left:.0f} x {bottom - top:.0f} px'
    if not prediction:
        return f'{place}  shows too little'
    label = prediction.labels[0]
    return (f'{place}  similarity {prediction.similarities[0]:5.2f}  score '
            f'{prediction.scores[0]:.2f}  '
            + (f'unknown (nearest: {label})' if prediction.unknown else label))


def _draw(path: Path, picture: Picture, found: Sequence[tuple[Box, Prediction | None]], font: str
          ) -> None:
    if path.suffix.lower() not in DRAWN:
        path = path.with_name(f'{path.name}.png')
    if path.exists() and path.samefile(picture.file):
        raise ValueError(f'--draw: expected another folder than that of the pictures, got {path}')
    rgb = to_rgb(picture.frame)
    draw_boxes(rgb, [Mark(box, prediction.labels[0] if prediction and not prediction.unknown
                          else '') for box, prediction in found], font)
    with replacing(path) as temporary:
        if not cv2.imwrite(str(temporary), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)):
            raise ValueError(f'{shown(path)}: cannot be written by OpenCV')
