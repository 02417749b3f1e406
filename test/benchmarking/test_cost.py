"""What a million images cost, worked out from measured rates."""
from pathlib import Path
import sys

from benchmarks.learning import cost
import pytest
from support.image_folders import write_folders


def test_rates_are_those_that_were_measured() -> None:
    found = list(cost.rates())
    assert len(found) == 8 and len({rate[:2] for rate in found}) == 8
    assert {rate.machine for rate in found} == {
        'AMD EPYC, 1 thread', 'AMD EPYC, 2 cores', 'NVIDIA H200'}
    assert max(rate.images_per_second for rate in found) == pytest.approx(9757, abs=1)


def test_prices_follow_from_rates_and_bytes(tmp_path: Path) -> None:
    write_folders(tmp_path, ['day', 'night'], ['cup', 'mug'], 3)
    options = cost.Options(3.6, 0.1, 2.0, tmp_path, most=8, width=4)
    plain, packed = cost.bytes_in_shards(options)
    files = list(tmp_path.rglob('*.jpg'))
    assert len(files) == 12
    assert plain == pytest.approx(sum(file.stat().st_size for file in files) / 12, rel=0.1)
    assert plain + 1024 < packed < plain + 4096  # in tar, heads and padding of two files
    rows = [line.strip('| ').split(' | ') for line in cost.tables(options).splitlines()]
    rates = list(cost.rates())
    for row, rate in zip(rows[2:2 + len(rates)], rates, strict=True):
        assert float(row[4]) == pytest.approx(1000 / rate.images_per_second, abs=0.01)
        assert float(row[3]) == pytest.approx(float(row[4]) / 3.6, abs=0.01)
    by_name = {row[0]: row for row in rows[2 + len(rates):] if len(row) == 5}
    stored, read = by_name['the same in shards'], by_name['shards, read once over the network']
    assert float(stored[4]) == pytest.approx(packed / 1e3 * 0.1, abs=0.001)
    assert float(read[4]) == pytest.approx(packed / 1e3 * 2.0, abs=0.001)
    assert by_name['embedding of width 4, in a recording'][1] == '40'


def test_what_cannot_be_worked_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                           ) -> None:
    for arguments, said in ((['--images', str(tmp_path)], 'cost: --images: expected JPEG images, '
                             f'found none in {tmp_path}'),
                            (['--most', '0'], 'cost: expected prices of 0 or more, and --most')):
        monkeypatch.setattr(sys, 'argv', ['cost', '--price-per-hour', '1', *arguments])
        with pytest.raises(SystemExit, match=f'^{said}'):
            cost.main()
