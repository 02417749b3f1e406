"""Presence: by two prompts per label, and by the highest value of a label's map."""
import numpy as np
import pytest
from vl2v_ros.model.presence import by_maps, by_prompts, evidence, ordered, places
from vl2v_ros.model.where import Maps, TEMPERATURE


def test_prompts_are_compared_by_a_softmax_over_two() -> None:
    rng = np.random.default_rng(0)
    row, pairs = rng.normal(size=6), rng.normal(size=(2, 4, 6))
    shares = np.exp(pairs @ row / 0.07)
    np.testing.assert_allclose(by_prompts(row, pairs, 0.07), shares[0] / shares.sum(0),
                               atol=1e-12)
    assert by_prompts(row, 1000 * pairs, 1e-3).tolist() == pytest.approx(
        ((pairs[0] - pairs[1]) @ row > 0).astype(float).tolist())  # nothing overflows


def test_maps_tell_by_their_highest_values_and_have_places() -> None:
    fine, coarse = np.full((3, 4, 2), 0.01, np.float32), np.full((1, 1, 2), 0.02, np.float32)
    fine[2, 0, 0], fine[1, 3, 1] = 0.9, 1.0
    maps = Maps(coarse, fine, np.array([0.3, 0.2]))
    told = by_maps(maps, (1, 0, 0))
    assert told[0] == pytest.approx(0.9) and 0.9 < told[1] < 1
    np.testing.assert_allclose(evidence(maps)[:, 1], maps.cosines / TEMPERATURE)
    assert by_maps(maps, (0, 1, -15)).tolist() == pytest.approx([0.5, 1 / (1 + np.exp(5))])
    assert places(fine, 400, 300) == [(50, 250), (350, 150)]
    found = ordered(('mug', 'bowl'), told, places(fine, 400, 300))
    assert [one.label for one in found] == ['bowl', 'mug']
    assert found[0].place == (350, 150) and found[0].probability == told[1]
    assert ordered(('mug',), np.array([0.5]), None)[0].place is None
