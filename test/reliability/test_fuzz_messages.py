"""A short part of the messages that `make fuzz` sends to a running node."""
from pathlib import Path

import pytest
from reliability import fuzz_messages


@pytest.mark.long
def test_a_node_answers_good_images_between_hostile_messages(
        tmp_path: Path, session_cache: Path) -> None:
    found = fuzz_messages.fuzz(trials=460, seed=7, first=0, out=tmp_path,
                               cache=session_cache / 'vl2v_ros')
    assert found['findings'] == []
    assert found['counted by the node']['refused'] > 20
    assert found['counted by the node']['answered'] > 10
    assert found['counted by the node']['arrays of boxes answered'] > 3
    assert found['counted by the node']['arrays of boxes refused for their depth'] > 0
