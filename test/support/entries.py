"""Labels of a vocabulary with what is said of them."""
from vl2v_ros.words.labels import Entry

HOT, BARKS = Entry(('It is hot.',)), Entry(('It barks.', 'It has a tail.'))


def numbered(count: int) -> list[str]:
    return [f'label {number}' for number in range(count)]
