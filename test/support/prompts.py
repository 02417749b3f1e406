"""Prompts of many kinds, and how to do without a text tower."""
from vl2v_ros.words.clip_text import ClipText

PROMPTS = ['a photo of a cup.', 'a photo of a dog. It barks.', 'ein Foto von Äpfeln', '一只猫']
FITS = ' '.join(['cat'] * 75)  # with the marks of start and end it fills the 77 places


def no_tower() -> ClipText:
    raise AssertionError('the tower was needed')
