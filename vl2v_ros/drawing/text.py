"""
Draw labels of any script: each letter in the first font that has it.

The fonts are a file that the user names, DejaVu Sans, and what the system has installed. Pillow
shapes and orders what stands in one font (Arabic, Hebrew, Hindi, emoji of several parts), if it
was built with raqm, as its wheels and Debian's package are.
"""
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
import os
from pathlib import Path
import re
import unicodedata

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

FIRST = 'DejaVuSans.ttf'  # on most Linux systems; it has Latin, Greek, Cyrillic, Arabic and more
_MATPLOTLIB = find_spec('matplotlib')  # which brings it, for a container without any font
BROUGHT = Path(_MATPLOTLIB and _MATPLOTLIB.origin or '').parent / 'mpl-data/fonts/ttf' / FIRST
FOLDERS = '/usr/share/fonts', '/usr/local/share/fonts', '~/.local/share/fonts', '~/.fonts'
ENDINGS = '.otc', '.otf', '.ttc', '.ttf'
UNUSUAL = re.compile('bold|italic|oblique|mono|serif|condensed|light|thin|black', re.IGNORECASE)
NO_LETTER = '\uffff'  # no font has it
BITMAP_SIZES = 109, 128, 136, 160  # of fonts of coloured pictures, which have but one [px]
KEPT = 128  # drawn lines, of about 50 KB each
WHITE = 255, 255, 255
CJK = re.compile('CJK|HIRAGANA|KATAKANA|HANGUL|IDEOGRAPH|BOPOMOFO|FULLWIDTH')  # names of letters


def check_font(file: str) -> None:
    """Raise ValueError for a file that is no font; '' is none."""
    if file and _open(file, 20) is None:
        raise ValueError(f'font: expected a font file ({", ".join(ENDINGS)}), got {file}')


@lru_cache(maxsize=KEPT)
def line(text: str, size: int, most: int, file: str = '') -> Image.Image:
    """
    Draw a line of text, white on nothing; paste it with itself as mask.

    :param size: of the letters [px].
    :param most: width at which it is cut [px].
    :param file: font file that is tried first; '' for none.
    :return: an RGBA image, as high as a line of the first font.
    """
    first = font(size)
    ascent, descent = first.getmetrics() if isinstance(first, ImageFont.FreeTypeFont) else (
        size, size // 4)
    wide = min(width(text, size, file) + 1, most)
    image = Image.new('RGBA', (max(1, wide), ascent + descent), (*WHITE, 0))
    canvas, left = ImageDraw.Draw(image), 0.0
    for name, part in _runs(text, file):
        found = _font(name, size)
        factor = _factor(found, size)
        if factor == 1:
            canvas.text((left, ascent), part, WHITE, found, 'ls', embedded_color=True)
        elif round(left) < wide:
            image.alpha_composite(_picture(part, found, factor, ascent + descent),
                                  (round(left), 0))
        left += found.getlength(part) * factor
    return image


def width(text: str, size: int, file: str = '') -> int:
    """Return the width of a line [px]."""
    fonts = [(part, _font(name, size)) for name, part in _runs(text, file)]
    return round(sum(found.getlength(part) * _factor(found, size) for part, found in fonts))


def missing(texts: Iterable[str], file: str = '') -> str:
    """Return which letters no font has, and what to do, as one line; '' if there are none."""
    letters = [letter for letter in dict.fromkeys(''.join(texts))
               if unicodedata.category(letter)[0] in 'LNPS' and _file_with(letter, file) is None]
    if not letters:
        return ''
    shown = ', '.join(f'{letter} (U+{ord(letter):04X})' for letter in letters[:3])
    more = f' and {len(letters) - 3} more' if len(letters) > 3 else ''
    packages = dict.fromkeys(_package(letter) for letter in letters)
    return (f'no font has {shown}{more}, so pictures show boxes; install {", ".join(packages)}, '
            'or name a font file')


def files(texts: Iterable[str], file: str = '') -> tuple[str, ...]:
    """Return the font files that texts need beside DejaVu Sans, as they need them."""
    found = dict.fromkeys(name for text in texts for name, _ in _runs(text, file))
    return tuple(name for name in found if name)


@lru_cache(maxsize=8)
def font(size: int) -> Font:
    """Return the first font; size: of the letters [px]."""
    return _open(FIRST, size) or ImageFont.load_default(size)


def _package(letter: str) -> str:
    if CJK.search(unicodedata.name(letter, '')):
        return 'fonts-noto-cjk'
    return 'fonts-noto-color-emoji' if unicodedata.category(letter) == 'So' else 'fonts-noto-core'


def _runs(text: str, file: str) -> Iterator[tuple[str, str]]:
    """Yield each part of a text and, before it, its font file, '' for the first font."""
    run, name, leftwards = '', '', False
    for letter in text:
        # Shaping needs marks and joiners beside their letter, the order of words from right to
        # left needs the blanks between them.
        stays = run and (unicodedata.category(letter)[0] in 'MC'
                         or leftwards and letter.isspace())
        found = name if stays else _file_with(letter, file) or ''
        if run and found != name:
            yield name, run
            run, leftwards = '', False
        run, name = run + letter, found
        leftwards |= unicodedata.bidirectional(letter) in {'R', 'AL'}
    if run:
        yield name, run


@lru_cache(maxsize=1 << 14)
def _file_with(letter: str, file: str) -> str | None:
    """Return the file of the font for a letter, '' for the first font, None if no font has it."""
    if file and _has(file, letter):
        return file
    if letter.isascii() or _has('', letter):
        return ''
    return next((name for name in _installed() if _has(name, letter)), None)


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    """Return the font files of the system, those of plain letters without serifs first."""
    found = {path for folder in FOLDERS for path in Path(os.path.expanduser(folder)).rglob('*')
             if path.suffix.lower() in ENDINGS}
    return tuple(str(path) for path in sorted(found, key=lambda path: (
        bool(UNUSUAL.search(path.stem)), 'sans' not in path.stem.lower(), path)))


@lru_cache(maxsize=1 << 12)
def _has(name: str, letter: str) -> bool:
    """Return whether a font draws a letter as something else than what it has no letter for."""
    found, nothing = _probe(name)
    if found is None:
        return False
    drawn = found.getmask(letter)
    return bool(drawn.size[0] and drawn.size[1] and bytes(drawn) != nothing)


@lru_cache(maxsize=64)
def _probe(name: str) -> tuple[Font | None, bytes]:
    """Return a font and what it draws for a letter that it has not; None for what is no font."""
    found = _open(name or FIRST, 20) or (None if name else ImageFont.load_default(20))
    if found is None:
        return None, b''
    none = found.getmask(NO_LETTER)
    return found, bytes(none) if none.size[0] and none.size[1] else b''


@lru_cache(maxsize=16)
def _font(name: str, size: int) -> Font:
    return (name and _open(name, size)) or font(size)


def _open(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    """Open a font file, one of bitmaps in its only size; None if it cannot be opened."""
    for pixels in (size, *BITMAP_SIZES):
        try:
            return ImageFont.truetype(os.path.expanduser(name), pixels)
        except (OSError, ValueError):
            pass
    return _open(str(BROUGHT), size) if name == FIRST else None


def _factor(found: Font, size: int) -> float:
    """Return by how much to scale what a font draws, 1 unless it has only its own size."""
    return size / found.size if isinstance(found, ImageFont.FreeTypeFont) else 1.0


def _picture(text: str, found: Font, factor: float, height: int) -> Image.Image:
    """Draw coloured pictures in the size that a font has, and scale them to a line's height."""
    box = found.getbbox(text)
    picture = Image.new('RGBA', (max(1, round(box[2])), max(1, round(box[3]))), (*WHITE, 0))
    ImageDraw.Draw(picture).text((0, 0), text, WHITE, found, embedded_color=True)
    tall = max(1, min(height, round(picture.height * factor)))
    return picture.resize((max(1, round(picture.width * factor)), tall), Image.Resampling.LANCZOS)
