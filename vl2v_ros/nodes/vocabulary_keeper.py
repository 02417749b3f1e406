"""The current vocabulary of the node: how it starts, changes, is enriched and saved."""
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
import threading
import traceback
from typing import TypeAlias

from rclpy.impl.rcutils_logger import RcutilsLogger
from vl2v_msgs.srv import SetVocabulary
from vl2v_ros.drawing.text import check_font, missing
from vl2v_ros.model.spec import StudentSpec
from vl2v_ros.nodes.parameters import ClassifierParameters
from vl2v_ros.words import cached_text
from vl2v_ros.words.encoder import TextEncoder
from vl2v_ros.words.labels import add, check_labels, check_texts, Entry, folded
from vl2v_ros.words.language_model import (
    Answers,
    check_endpoint,
    check_key_variable,
    check_question,
    describe,
    LanguageModel,
)
from vl2v_ros.words.vectors.examples import scale_of
from vl2v_ros.words.vectors.origin import Origin
from vl2v_ros.words.vectors.teaching import with_entries, without
from vl2v_ros.words.vocabulary import build, Vocabulary
from vl2v_ros.words.vocabulary_file import forget, parse, save, VocabularyFile

Request: TypeAlias = SetVocabulary.Request


def check_parameters(parameters: ClassifierParameters) -> None:
    """Raise ValueError for an invalid font or setting of the language model."""
    check_font(parameters.font)
    if parameters.llm_endpoint:
        check_endpoint(parameters.llm_endpoint)
    check_question(parameters.llm_question)
    check_key_variable(parameters.llm_key_variable)


def cache_dir(parameters: ClassifierParameters) -> Path:
    """Return the folder that caches prompts and answers."""
    return Path(parameters.cache_dir or cached_text.default_cache_dir()).expanduser()


@dataclass
class Enrichment:
    """A running request for descriptions; `stop` ends it."""

    labels: list[str]
    answered: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def count(self, label: str) -> None:
        """Count a label that was answered or has failed."""
        self.answered += 1


class VocabularyKeeper:
    """
    Keeps the current vocabulary of a configured node.

    Changes come from the threads of services and of the language model, one after the other;
    reading `current` never waits for them.
    """

    def __init__(self, parameters: Callable[[], ClassifierParameters], encoder: TextEncoder,
                 spec: StudentSpec, versions: Iterator[int],
                 announce: Callable[[Vocabulary], None], logger: RcutilsLogger,
                 origin: Origin) -> None:
        """
        Start with the saved vocabulary, else with that of the parameter `vocabulary`.

        :param parameters: returns the current parameters.
        :param spec: the student's; its templates are for vocabularies without their own.
        :param versions: numbers of vocabularies, each used once.
        :param announce: receives each vocabulary that becomes the current one.
        :param origin: of the student's embeddings.
        :raises ValueError: if the vocabulary of the parameter is invalid.
        """
        self._parameters, self._encoder, self._versions = parameters, encoder, versions
        self._spec, self._announce, self._logger = spec, announce, logger
        self._origin = origin
        self._changing = threading.Lock()
        self._closed = False
        self._enrichment: Enrichment | None = None
        self.enrichment_said = 'not asked for'
        self.problems: dict[str, str] = {}  # by subject
        self._background = check_texts([prompt for prompt in parameters().background if prompt],
                                       'parameter background, prompt', 'a sentence')
        self.persist = self._persist_path()
        self.current = self._start()

    def _persist_path(self) -> Path | None:
        named = self._parameters().persist
        if named and not named.lower().endswith(('.yaml', '.yml')):
            raise ValueError(f'parameter persist: expected the path of a *.yaml file, got {named}')
        return Path(named).expanduser() if named else None

    def _start(self) -> Vocabulary:
        if self.persist and self.persist.exists():
            try:
                self._file = self._with_examples(parse(str(self.persist)))
                vocabulary = self._build(self._file)
                self._logger.info(f'restored the vocabulary saved in {self.persist}')
                self._tell(vocabulary)
                return vocabulary
            except ValueError as error:
                self._warn('persist', f'{error}; the parameter vocabulary is used instead')
        self._file = self._given()
        vocabulary = self._build(self._file)
        self._tell(vocabulary)
        return vocabulary

    def _given(self) -> VocabularyFile:
        """Return the vocabulary of the parameter; raises ValueError, which names it."""
        try:
            file = parse(self._parameters().vocabulary)
        except ValueError as error:
            reason = str(error).removeprefix('vocabulary').lstrip(': ')
            raise ValueError(f'parameter vocabulary: {reason}') from error
        file = self._with_examples(file)
        if not file.all_entries:
            raise ValueError('parameter vocabulary: expected at least one label, got none; set it '
                             "to labels ('mug, banana') or to the path of a *.yaml file")
        return file

    def _with_examples(self, file: VocabularyFile) -> VocabularyFile:
        """Return a vocabulary with what it was taught by, without it if that cannot be used."""
        try:
            return file.read_examples(self._origin)
        except ValueError as error:
            self._warn('examples', f'{error}; the vocabulary is used without its examples')
            return file

    def _tell(self, vocabulary: Vocabulary) -> None:
        """Announce a vocabulary, and log what cannot be encoded or drawn of it."""
        self._announce(vocabulary)
        if vocabulary.note:
            self._logger.warning(f'vocabulary: {vocabulary.note}')
            self._logger.info('prompts in use: ' + ', '.join(map(repr, vocabulary.prompts)))
        parameters = self._parameters()
        if parameters.overlay and (lacking := missing(vocabulary.labels, parameters.font)):
            self._logger.warning(f'overlay: {lacking} with the parameter font')

    def _build(self, file: VocabularyFile) -> Vocabulary:
        background = {folded(prompt): prompt for prompt in (*file.background,
                                                               *self._background)}
        return build(file.all_entries, self._encoder, next(self._versions),
                     file.templates or self._spec.templates, tuple(background.values()),
                     self._spec.presence, file.examples,
                     scale_of(self._spec.unknown_threshold))

    def close(self) -> None:
        """Refuse further changes, and cancel a request for descriptions."""
        self._closed = True
        self._drop_enrichment()

    @property
    def enrichment(self) -> str:
        """State of the last request for descriptions."""
        pending = self._enrichment
        return self.enrichment_said if pending is None else (
            f'{pending.answered} of {len(pending.labels)} answered')

    def change(self, request: Request) -> str:
        """
        Apply a request, and return what was done as text.

        :raises ValueError: for an invalid request; the vocabulary is then unchanged.
        """
        return self.apply(lambda file: self._requested(file, request),
                          keep=request.operation != Request.RESET, enrich=request.enrich)

    def apply(self, make: Callable[[VocabularyFile], VocabularyFile], keep: bool = True,
              enrich: bool = False) -> str:
        """
        Change the vocabulary, and return what was done as text.

        :param make: returns the new content for the current one.
        :param keep: for the next start; False: that uses the parameter again.
        :raises ValueError: as `make` does, or if the content cannot be used; the vocabulary is
            then unchanged.
        """
        with self._changing:
            file = make(self._file)
            vocabulary = self._build(file)
            if self._closed:
                raise ValueError('the node was cleaned up during the request')
            said = [f'the vocabulary now has {len(vocabulary.labels)} label(s)']
            if vocabulary.truncated:
                said.append('these prompts were cut, because they are longer than the text tower '
                            'reads: ' + ', '.join(vocabulary.truncated))
            if vocabulary.note:
                said.append(vocabulary.note)
            if self._drop_enrichment():
                said.append('the request for descriptions before it was cancelled')
            self.problems.clear()
            self.enrichment_said = 'not asked for'
            self._adopt(file, vocabulary, keep)
            if enrich:
                said.append(self._enrich())
        return '; '.join([*said, *self.problems.values()])

    def _requested(self, file: VocabularyFile, request: Request) -> VocabularyFile:
        if request.operation == Request.RESET:
            return self._given()
        if request.operation == Request.REMOVE:
            return without(file, request.labels)
        entries = check_labels(request.labels, request.descriptions)
        if request.operation == Request.REPLACE:
            return with_entries(file, entries, listed_only=True)
        if request.operation == Request.ADD:
            return with_entries(file, add(file.entries, entries))
        raise ValueError('operation: expected REPLACE (0), ADD (1), REMOVE (2) or RESET (3), got '
                         f'{request.operation}')

    def _adopt(self, file: VocabularyFile, vocabulary: Vocabulary, keep: bool = True) -> None:
        self._file, self.current = file, vocabulary
        self._tell(vocabulary)
        if self.persist is None:
            return
        try:
            if keep:
                save(file, self.persist, self._origin)
            else:  # so that the next start uses the parameter again
                forget(self.persist, self._origin)
        except OSError as error:
            self._warn('persist', f'the vocabulary cannot be saved in {self.persist}: {error}')

    def _enrich(self) -> str:
        """Start to ask for missing descriptions; return a text that says so, or why not."""
        labels = [label for label, entry in self._file.entries.items() if not entry.descriptions]
        if not labels:
            return 'every label already has a description'
        parameters = self._parameters()
        try:
            if not parameters.llm_endpoint or not parameters.llm_model:
                raise ValueError('set the parameters llm_endpoint and llm_model to a language '
                                 'model')
            model = LanguageModel(parameters.llm_endpoint, parameters.llm_model,
                                  parameters.llm_question, parameters.llm_key_variable,
                                  parameters.llm_timeout)
        except ValueError as error:
            self._warn('enrichment', f'not enriched: {error}')
            return 'plain prompts are used'  # the problems name the reason
        enrichment = self._enrichment = Enrichment(labels)
        threading.Thread(target=self._ask, args=(enrichment, self._file, model), daemon=True,
                         name='enrichment').start()
        return (f'the language model is asked for descriptions of {len(labels)} labels; '
                '~/vocabulary and /diagnostics show the result')

    def _ask(self, enrichment: Enrichment, file: VocabularyFile, model: LanguageModel) -> None:
        """Ask for descriptions, and add them unless the vocabulary has changed since."""
        try:
            answers = describe(enrichment.labels, model, cache_dir(self._parameters()),
                               enrichment.count, enrichment.stop)
            with self._changing:
                if not enrichment.stop.is_set():
                    self._use(answers, file)
        except Exception as error:  # noqa: BLE001 frames are labelled whatever fails here
            if not isinstance(error, ValueError):
                self._logger.error(traceback.format_exc())
            if not enrichment.stop.is_set():
                self._warn('enrichment', f'not enriched: {error}')
        finally:
            if self._enrichment is enrichment:
                self._enrichment = None

    def _use(self, answers: Answers, file: VocabularyFile) -> None:
        found, failures = answers.descriptions, answers.failures
        self.enrichment_said = f'{len(found)} of {len(found) + len(failures)} found'
        if found:
            entries = add(file.entries, {label: Entry((sentence,))
                                         for label, sentence in found.items()})
            enriched = with_entries(file, entries)
            self._adopt(enriched, self._build(enriched))
            self._logger.info(f'vocabulary: {len(found)} descriptions were added')
        if failures:
            label, reason = next(iter(failures.items()))
            self._warn('enrichment', f'no description was found for {len(failures)} labels, such '
                                     f'as {label!r}: {reason}')

    def _drop_enrichment(self) -> bool:
        """Cancel the running request for descriptions; return whether there was one."""
        enrichment, self._enrichment = self._enrichment, None
        if enrichment:
            enrichment.stop.set()
        return enrichment is not None

    def _warn(self, subject: str, problem: str) -> None:
        self.problems[subject] = problem
        self._logger.warning(f'vocabulary: {problem}')
