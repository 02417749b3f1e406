"""`naming.py teach`: what was shown a few times is named, and what other labels lose is said."""
import json
from pathlib import Path
import sys

import pytest
from support.tiny_data import ROOT
from training import naming
import yaml

pytestmark = pytest.mark.usefixtures('warm_cache')
IMAGES = ROOT / 'data/ycb_sample/single/studio'
TAUGHT = '011_banana', '035_power_drill'


def command(out: Path, *arguments: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['naming.py', 'teach', '--out', str(out), '--checkpoint', str(
            ROOT / 'models/student.safetensors'), '--images', str(IMAGES), *map(str, arguments)])
        naming.main()


@pytest.mark.long
def test_more_examples_name_more_and_text_helps(tmp_path: Path) -> None:
    (tmp_path / 'words.yaml').write_text('labels: [mug, scissors, banana, box]')
    sets = {'mine': {'images': str(IMAGES), 'names': 'config/names/ycb.yaml'}}
    (tmp_path / 'sets.yaml').write_text(yaml.safe_dump(sets))
    command(tmp_path, '--classes', *TAUGHT, '--names', ROOT / 'config/names/ycb.yaml', '--words',
            tmp_path / 'words.yaml', '--sets', tmp_path / 'sets.yaml', '--data', '/', '--others',
            'mine', '--counts', 1, 4)
    found = json.loads((tmp_path / 'result.json').read_text())
    assert found['notes'][0].startswith('2 classes are added to 3 labels; 5 draws')  # no banana
    rows = found['table']
    assert [(row['examples'], row['text weight']) for row in rows] == [
        (1, 0), (4, 0), (1, 0.75), (4, 0.75)]
    right = [row['right [%]'] for row in rows]
    assert right[1] > 60 and right[1] >= right[0] and right[3] > 80
    assert all(row['mine, after [%]'] <= row['mine, before [%]'] for row in rows)


@pytest.mark.parametrize('arguments, said', [
    (('--classes', 'none'), "--classes: expected classes of --images, got 'none'"),
    (('--classes', TAUGHT[0], '--counts', 8), 'expected at least 9 photos of each class, got 8')])
@pytest.mark.long
def test_what_cannot_be_measured_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                         arguments: tuple[object, ...], said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        command(tmp_path, *arguments)
    assert said in str(ended.value)
