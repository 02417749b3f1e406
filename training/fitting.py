"""Fitting: which parts of a recipe go together; what does not is refused at once."""
import losses

from config import Recipe


def check(recipe: Recipe) -> None:
    """Raise ValueError, which says what to do, for parts of a recipe that do not fit together."""
    losses.check_weights(weights(recipe))
    if recipe.student.closed_set and weights(recipe).keys() - {'cls', 'kd'}:
        raise ValueError('loss: expected cls and kd alone with student.closed_set, which learns '
                         f'no embedding, got {", ".join(weights(recipe))}')
    if recipe.data.sources:
        _check_sources(recipe)
        return
    if recipe.loss.caption and (recipe.data.shards or not recipe.data.captions):
        raise ValueError('loss.caption: expected a file as data.captions, and folders of images, '
                         'not shards')
    for name, given in (
        ('student.classes', recipe.student.classes), ('resident', recipe.resident),
        ('loss.keep', recipe.loss.keep), ('loss.stand_in', recipe.loss.stand_in),
    ):
        if given:
            raise ValueError(f'{name}: expected data.sources beside it, got none; list the images '
                             f'there, or leave {name} out')


def _check_sources(recipe: Recipe) -> None:
    data = recipe.data
    for name, given in (
        ('data.shards', data.shards), ('data.test', data.test), ('data.domains', data.domains),
        ('data.split', data.split), ('data.captions', data.captions),
        ('loss.caption', recipe.loss.caption), ('student.closed_set', recipe.student.closed_set),
        ('views', recipe.views),
    ):
        if given:
            raise ValueError(f'data.sources: expected no {name} beside them, got {given}; leave '
                             'it out, or name a folder as data.images instead of sources')
    if recipe.resident and recipe.augmentation.rand_augment:
        raise ValueError('resident: expected no augmentation.rand_augment, which is not done on '
                         'the device; leave one of them out')
    used = weights(recipe).keys()
    if (wanting := used & losses.NEED_TEACHER) and not any(one.teacher for one in data.sources):
        raise ValueError(f'loss: {", ".join(sorted(wanting))} learns from a teacher, but no source'
                         " has one; give a source teacher 'all', 'known' or 'start'")
    if (wanting := used & losses.NEED_LABELS) and not any(
            one.names or one.named for one in data.sources):
        raise ValueError(f'loss: {", ".join(sorted(wanting))} learns from names, but no source '
                         'has any; give a source a file of names, or say it is named')
    if recipe.student.classes and recipe.student.weights in ('', 'hub', 'teacher'):
        raise ValueError('student.classes: expected the file that the classifier is in as '
                         f'student.weights, got {recipe.student.weights!r}')


def weights(recipe: Recipe) -> dict[str, float]:
    """Return the weights of the loss terms that a recipe uses."""
    return {name: weight for name, weight in vars(recipe.loss).items() if weight}
