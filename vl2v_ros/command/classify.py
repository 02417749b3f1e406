"""
vl2v_classify: label images, folders, videos and bags with your own labels, without ROS.

For an image on the command line it prints the similarity of each label and of each of its prompts,
which shows the sentence that decided. For other inputs it prints a line per frame. With --out it
writes a table (.csv), an annotated video (.mp4, .avi, ...) or a bag (.mcap, or a folder) instead.
With --html it makes a page of the pictures, with why they got their labels, and when.
With --boxes it names the boxes in images, and writes them as COCO JSON (.json) or draws them.
"""
import argparse
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
import itertools
from pathlib import Path
import sys

from tqdm import tqdm
from vl2v_ros.checks import number
from vl2v_ros.command import bags, boxes, outputs
from vl2v_ros.command.page import MOST_PICTURES, Page
from vl2v_ros.command.program import check_output, ending
from vl2v_ros.drawing.explanation_plot import Explanation, MOST_IMAGES, plot
from vl2v_ros.drawing.text import check_font, missing
from vl2v_ros.files import replacing, share, shown
from vl2v_ros.images import sources
from vl2v_ros.images.folders import IMAGES, is_pipe
from vl2v_ros.images.sources import Picture, Source
from vl2v_ros.labeller import Labeller
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.words import offline
from vl2v_ros.words.cached_text import CachedText
from vl2v_ros.words.explain import Reason, reasons
from vl2v_ros.words.vocabulary import Vocabulary

STILL_RATE = 2.0  # of images that become a video [Hz]


def open_input(path: Path, topics: Sequence[str], skip: sources.Skip, recursive: bool = False
               ) -> Source:
    """
    Open an input: an image, a folder, a video or a bag.

    :raises ValueError: for a path that is none of these.
    """
    if not path.exists():
        raise ValueError(f'{path}: expected an image, a video, a bag or a folder, found none of '
                         'this name')
    if bags.is_bag(path) and not is_pipe(path):
        return bags.open_bag(path, topics, skip)
    if path.is_dir():
        return sources.open_folder(path, skip, recursive)
    if is_pipe(path):
        raise ValueError(f'{path}: expected a file or a folder, got a pipe or a device')
    ending = path.suffix.lower()
    if ending in IMAGES:
        return sources.open_image(path)
    if ending in sources.VIDEOS:
        return sources.open_video(path, skip)
    hint = '; `rosbags-convert` makes a bag of ROS 2 of it' if ending == '.bag' else ''
    raise ValueError(f'{path}: expected an image ({", ".join(IMAGES)}), a video '
                     f'({", ".join(sources.VIDEOS)}), a bag ({", ".join(bags.BAGS)}) or a folder, '
                     f'got a file that ends with {path.suffix!r}{hint}')


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, and check what needs no model."""
    parser = argparse.ArgumentParser(prog='vl2v_classify', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('input', nargs='*', type=Path,
        help='image, folder of images, video, bag file (*.mcap, *.db3) or bag folder')
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument('--labels', help='labels separated by commas: "mug, banana, apple"')
    labels.add_argument('--vocabulary',
                        help='vocabulary file, *.yaml, or labels; by default everyday things')
    add('--checkpoint', type=Path,
        help='student to run, *.safetensors; by default the one in the package')
    add('--known', nargs='?', const='', metavar='WORD', help='only list the names that the '
        'checkpoint knows without a network: all of them, or those near WORD')
    add('--device', default='auto',
        help='device that runs the student: auto (CUDA if present, else CPU), cpu, cuda, '
             'cuda:N; or by ONNX Runtime onnx:cpu, onnx:cuda, onnx:tensorrt')
    add('--top-k', type=number(int, 1, 1000), default=5,
        help='number of labels per picture (default: %(default)s)')
    add('--unknown-threshold', type=number(float, -1, 1), help='cosine similarity below which a '
        'picture is unknown; by default the value stored in the checkpoint')
    add('--score-threshold', type=number(float, 0, 1), default=0.0, help='score below which a '
        'label is left out of the classification in a bag (default: %(default)s)')
    add('--recursive', action='store_true', help='read folders below a folder too')
    add('--topic', action='append', default=[], help='image topic of a bag to read, may be given '
        'several times; by default all image topics')
    add('--out', type=Path, help=f'file to write: {", ".join(outputs.ENDINGS)}; a name without an '
        'ending makes the folder of a new bag; without --out the labels are printed')
    add('--rate', type=number(float, 0.01, 1000), help='frame rate of the video to write [Hz]; '
        f'by default the rate of the input, {STILL_RATE:g} for still images')
    add('--boxes', type=Path, metavar='COCO.json', help='boxes of any detector in the images, as '
        'a file in COCO format, whose categories are ignored; each box is named, and --out '
        'NAME.json writes them as such a file')
    add('--draw', type=Path, metavar='FOLDER', help='folder for the images with their --boxes')
    add('--plot', type=Path, help='PNG to write: similarities of labels and prompts, for at most '
        f'{MOST_IMAGES} images')
    add('--html', type=Path, help='page to write: one HTML file with small pictures, the '
        'sentences that decided, and timelines of videos and bags; it shows each image, and of a '
        f'video or bag a picture for each change of the first label, at most {MOST_PICTURES}, '
        'evenly spread')
    add('--font', default='', help='font file (*.ttf, *.otf, *.ttc) for the labels in a video or '
        'plot; letters that it lacks are drawn in the fonts of the system')
    options = parser.parse_intermixed_args(arguments)
    if options.known is None and not options.input:
        parser.error('expected an image, a folder of images, a video or a bag as input, got none')
    if options.known is not None and options.input:
        others = ' '.join(map(str, options.input))
        parser.error(f'--known: expected no input beside it, got {others}; put several words in '
                     'quotes')
    return options


def check(options: argparse.Namespace, inputs: Sequence[Source]) -> None:
    """Raise ValueError for options that do not fit the inputs or each other."""
    check_font(options.font)
    check_boxes(options, inputs)
    if options.topic and not any(source.topics for source in inputs):
        raise ValueError('--topic: expected a bag among the inputs, got none')
    for path in (options.out, options.plot, options.html):
        check_output(path, (*options.input, options.boxes))
    if options.html and options.html.suffix.lower() not in ('.html', '.htm'):
        raise ValueError(f'--html: expected a file that ends with .html, got {options.html}')
    if options.out and not options.boxes:
        outputs.check_ending(options.out)
        topics = sorted({topic for source in inputs for topic in source.topics})
        if options.out.suffix.lower() in outputs.CODECS and len(topics) > 1:
            raise ValueError(f'--out {options.out}: expected one topic for a video, got '
                             f'{", ".join(topics)}; choose one with --topic')
    if options.plot:
        count = sum(source.count for source in inputs)
        if options.plot.suffix.lower() != '.png':
            raise ValueError(f'--plot: expected a file that ends with .png, got {options.plot}')
        if not all(source.still for source in inputs):
            raise ValueError('--plot: expected images or folders of images, got a video or a bag')
        if count > MOST_IMAGES:
            raise ValueError(f'--plot: expected at most {MOST_IMAGES} images, got {count}')


def check_boxes(options: argparse.Namespace, inputs: Sequence[Source]) -> None:
    """Raise ValueError for options that do not fit --boxes."""
    if not options.boxes:
        if options.draw:
            raise ValueError('--draw: expected --boxes beside it, got none')
        return
    if not all(source.still for source in inputs):
        raise ValueError('--boxes: expected images or folders of images, got a video or a bag')
    if options.plot or options.html:
        raise ValueError('--boxes: expected neither --plot nor --html beside it; --draw draws '
                         'boxes')
    if options.out and options.out.suffix.lower() != '.json':
        raise ValueError(f'--out {options.out}: expected a file that ends with .json for --boxes')


def print_known(word: str, encoder: CachedText) -> None:
    """Print the names that need no network, or those near a word; raises ValueError for none."""
    if not encoder.names:
        raise ValueError('--known: expected a checkpoint with recorded prompts, got one without; '
                         'it encodes every word by its text tower')
    found = offline.nearest(word, encoder.names) if word else encoder.names
    if not found:
        raise ValueError(f'--known: none of the {len(encoder.names)} known names is near '
                         f'{word!r}; --known alone lists them all')
    print('\n'.join(found))


def read_words(options: argparse.Namespace, labeller: Labeller) -> Vocabulary:
    """Encode the labels; raises ValueError."""
    shipped = share() / 'config/vocabularies/everyday.yaml'
    named = options.vocabulary if options.labels is None else options.labels
    words = labeller.vocabulary(shipped if named is None else named)
    if words.note:
        print(f'vl2v_classify: {words.note}', file=sys.stderr)
    return words


def run(options: argparse.Namespace) -> None:
    """Do what the command line asks for; raises ValueError or OSError."""
    page = Page()

    def skip(what: str) -> None:
        tqdm.write(f'skipped {what}', sys.stderr)
        page.skip(what)

    labeller = Labeller.open(options.checkpoint, options.device)
    if options.known is not None:
        print_known(options.known, labeller.encoder)
        return
    inputs = [open_input(path, options.topic, skip, options.recursive) for path in options.input]
    check(options, inputs)
    # The vocabulary comes first: its errors are reported before the slow steps.
    words, classifier = read_words(options, labeller), labeller.classifier
    draws = (options.plot or options.draw
             or options.out and options.out.suffix.lower() in outputs.CODECS)
    if draws and (lacking := missing(words.labels, options.font)):
        print(f'vl2v_classify: {lacking} with --font', file=sys.stderr)
    threshold = options.unknown_threshold
    if threshold is None:
        threshold = classifier.spec.unknown_threshold
    rate = options.rate or next((source.rate for source in inputs if source.rate), STILL_RATE)
    count = sum(source.count for source in inputs)
    if options.boxes:
        boxes.run(boxes.Boxed(options.boxes, words.labels), itertools.chain.from_iterable(
            source.pictures for source in inputs), lambda frames: classifier.classify(
                frames, words, 1, threshold), options.out, options.draw, options.font)
        return
    explanations: list[Explanation] = []
    with (outputs.writing(options.out, threshold, rate, options.score_threshold, options.font)
          if options.out else nullcontext(print_line)) as write, \
            replacing(options.plot) if options.plot else nullcontext() as drawing, \
            replacing(options.html) if options.html else nullcontext() as html, \
            tqdm(total=count or None, unit='picture', disable=None, leave=False) as progress:
        for picture in itertools.chain.from_iterable(source.pictures for source in inputs):
            [prediction] = classifier.classify([picture.frame], words, options.top_k, threshold)
            explained = not options.out and picture.stamp is None and picture.file in options.input
            if explained or options.plot:
                why = reasons(prediction.vector(), words, prediction.labels)
            progress.clear()
            if explained:
                print_reasons(picture, prediction, why)
            else:
                write(picture, prediction)
            if options.plot:
                title = shown('/'.join(picture.file.parts[-2:]))
                explanations.append(Explanation(title, picture.frame, prediction, why))
            if html:
                page.add(picture, prediction, lambda: reasons(
                    prediction.vector(), words, prediction.labels))
            progress.update()
        if drawing is not None:
            plot(explanations, threshold, drawing, options.font)
        if html:
            page.write(html, options.input, len(words.labels), threshold)
    for path in filter(None, (options.out, options.plot, options.html)):
        print(f'wrote {shown(path)}')


def best(prediction: Prediction) -> str:
    """Return the best label of a picture, or that it is unknown."""
    label = prediction.labels[0]
    return f'unknown (nearest: {label})' if prediction.unknown else label


def print_line(picture: Picture, prediction: Prediction) -> None:
    """Print what a picture shows as one line."""
    where = picture.topic or shown(picture.file)
    when = '' if picture.stamp is None else f' {bags.seconds(picture.stamp)} s'
    print(f'{where}{when}  similarity {prediction.similarities[0]:5.2f}  '
          f'score {prediction.scores[0]:.2f}  {best(prediction)}', flush=True)


def print_reasons(picture: Picture, prediction: Prediction, why: Sequence[Reason]) -> None:
    """Print the labels of a picture with the similarity of each of their prompts."""
    print(f'{shown(picture.file)}: {best(prediction)}')
    print('  similarity  score')
    for line in _table(prediction, why):
        print(f'  {line}', flush=True)


def _table(prediction: Prediction, why: Sequence[Reason]) -> Iterator[str]:
    for label, similarity, score in zip(prediction.labels, prediction.similarities,
                                        prediction.scores, strict=True):
        yield f'{similarity:10.3f}  {score:5.3f}  {label}'
        yield from (f'{reason.similarity:10.3f}           {reason.prompt}'
                    for reason in why if reason.label == label)
    background = [reason for reason in why if not reason.label]
    if background:
        yield ' ' * 19 + '(background, counts as unknown)'
        yield from (f'{reason.similarity:10.3f}           {reason.prompt}'
                    for reason in background)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exit with 1 and one line if it cannot be done."""
    with ending('vl2v_classify'):
        run(parse(arguments))


if __name__ == '__main__':
    main()
