"""A font file in which some letters are squares, so that tests need no font of the system."""
from pathlib import Path

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen


def write_font(path: Path, letters: str) -> Path:
    """Write a font whose letters are all the same square, and a low bar what it has not."""
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(['.notdef', 'square'])
    builder.setupCharacterMap({ord(letter): 'square' for letter in letters})
    builder.setupGlyf({'.notdef': _block(100), 'square': _block(800)})
    builder.setupHorizontalMetrics({'.notdef': (1000, 0), 'square': (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-200)
    builder.setupNameTable({'familyName': f'Tiny {path.stem}', 'styleName': 'Regular'})
    builder.setupOS2()
    builder.setupPost()
    path.parent.mkdir(parents=True, exist_ok=True)
    builder.save(path)
    return path


def _block(height: int) -> object:
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, height), (800, height), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()
