"""config/views: a layout for Foxglove and one for rviz2, of topics that the node has."""
from collections.abc import Iterator
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

CONFIG = Path(__file__).parents[2] / 'config'
# Those that Foxglove and rviz2 have by themselves, and what each calls its topic.
FOXGLOVE = {'Image', 'RawMessages', 'Plot', 'DiagnosticSummary'}
RVIZ = {'rviz_default_plugins/Axes', 'rviz_default_plugins/Grid', 'rviz_default_plugins/Image',
        'vision_msgs_rviz_plugins/Detection3DArray'}


def published() -> set[str]:
    """Return the topics of the classifier; another test compares them with a running node."""
    profile = ElementTree.parse(CONFIG / 'sros2/policy.xml').findall(
        'enclaves/enclave[@path="/classifier"]//topics[@publish]/topic')
    return {(entry.text or '').replace('~', '/classifier') for entry in profile}


def leaves(layout: Any) -> Iterator[str]:
    """Yield the panels of a layout; each split has two parts."""
    if isinstance(layout, str):
        yield layout
        return
    assert layout['direction'] in ('row', 'column') and 0 < layout['splitPercentage'] < 100
    for part in ('first', 'second'):
        yield from leaves(layout[part])


def topics(value: Any) -> Iterator[str]:
    """Yield all texts that begin as a topic does, without the path into its message."""
    if isinstance(value, str) and value.startswith('/'):
        yield value.partition('.')[0]
    for part in value.values() if isinstance(value, dict) else (
            value if isinstance(value, list) else ()):
        yield from topics(part)


def test_the_layout_of_foxglove_has_known_panels_of_our_topics() -> None:
    content = json.loads((CONFIG / 'views/foxglove.json').read_text())
    panels = content['configById']
    assert sorted(leaves(content['layout'])) == sorted(panels)
    assert {name.partition('!')[0] for name in panels} == FOXGLOVE
    shown = set(topics(panels))
    assert shown <= published()
    assert {f'/classifier/{name}' for name in ('overlay', 'labels', 'detections', 'detections_3d')
            } | {'/diagnostics'} == shown


def test_the_layout_of_rviz_has_known_displays_of_our_topics() -> None:
    content = yaml.safe_load((CONFIG / 'views/classifier.rviz').read_text())
    displays = content['Visualization Manager']['Displays']
    assert {display['Class'] for display in displays} == RVIZ
    shown = {display['Topic']['Value'] for display in displays if 'Topic' in display}
    assert shown == {'/classifier/overlay', '/classifier/detections_3d'} <= published()
    assert content['Visualization Manager']['Global Options']['Fixed Frame']
