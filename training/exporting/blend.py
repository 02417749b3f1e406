"""
Blend the weights of a student with those it was trained from (WiSE-FT).

What was learned on few things stays for the most part, and what was forgotten of all others comes
back (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
"""
from dataclasses import replace

import torch
from vl2v_ros.model.student import Student


def blend(trained: Student, start: Student, share: float) -> Student:
    """
    Change a student's weights to share * start + (1 - share) * trained, and return it.

    :param start: the student that `trained` was trained from.
    :param share: in (0, 1); 0 were only what was learned.
    :raises ValueError: for a share outside (0, 1), or students that are not built alike.
    """
    if not 0 < share < 1:
        raise ValueError(f'--blend: expected a share of the start between 0 and 1, got {share:g}')
    for name in ('backbone', 'width', 'image_size', 'mean', 'std', 'projector', 'resize_mode',
                 'image_tower', 'teacher'):
        one, other = (getattr(student.spec, name) for student in (trained, start))
        if one != other:
            raise ValueError('--blend: expected the student that this one was trained from, but '
                             f'its {name} is {other!r}, not {one!r}')
    before = start.state_dict()
    with torch.no_grad():
        for name, value in trained.state_dict().items():
            if value.is_floating_point():
                value.lerp_(before[name], share)
    trained.spec = replace(trained.spec, trained_on=(
        f'{trained.spec.trained_on}, blended with {share:g} of its start').lstrip(', '))
    return trained
