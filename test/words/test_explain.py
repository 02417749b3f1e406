"""Why: each prompt of the labels asked for, with its cosine, the best first."""
import numpy as np
import pytest
from support.tiny_models import GivenText
from vl2v_ros.words import vocabulary
from vl2v_ros.words.explain import Reason, reasons
from vl2v_ros.words.labels import Entry
from vl2v_ros.words.vocabulary import Vocabulary

# Cosines of the prompts to IMAGE.
COSINES = {'cup. hot': 0.2, 'cup. red': 0.8, 'mug. hot': -0.5, 'mug. red': 0.4, 'dog.': 0.3,
           'a table': 0.1, 'an arm': 0.9}
IMAGE = np.array([1, 0], np.float32)


@pytest.fixture(scope='module')
def words() -> Vocabulary:
    rows = {prompt: [cosine, np.sqrt(1 - cosine ** 2)] for prompt, cosine in COSINES.items()}
    return vocabulary.build({'cup': Entry(('hot', 'red'), ('mug',)), 'dog': Entry()},
                            GivenText(rows), 7, ('{label}. {description}',), ('a table', 'an arm'))


def said(label: str, *prompts: str) -> list[Reason]:
    return [Reason(label, prompt, pytest.approx(COSINES[prompt], abs=1e-6)) for prompt in prompts]


CUP = said('cup', 'cup. red', 'mug. red', 'cup. hot', 'mug. hot')
DOG, BACKGROUND = said('dog', 'dog.'), said('', 'an arm', 'a table')


@pytest.mark.parametrize(('labels', 'expected'), [
    (['cup', 'dog'], CUP + DOG), (['dog', 'cup'], DOG + CUP), (['dog'], DOG), ([], [])])
def test_prompts_come_label_by_label_and_the_best_first(
        words: Vocabulary, labels: list[str], expected: list[Reason]) -> None:
    assert reasons(IMAGE, words, labels) == expected + BACKGROUND


def test_similarities_are_plain_numbers(words: Vocabulary) -> None:
    assert {type(reason.similarity) for reason in reasons(IMAGE, words, ['cup'])} == {float}


def test_a_label_of_another_vocabulary_is_named(words: Vocabulary) -> None:
    with pytest.raises(ValueError, match='expected labels of vocabulary 7, got spoon, fork'):
        reasons(IMAGE, words, ['cup', 'spoon', 'fork'])
