"""
Find the sentence in the answer of a language model, or refuse the answer.

Models think aloud, leave control tokens of their chat format, wrap the sentence into JSON,
Markdown or politeness, run out of tokens, or decline. The sentence is taken where there is one.
"""
from collections.abc import Iterator
import json
import re
from typing import Any

from vl2v_ros.words.phrases import CHATTER, HERE, POLITE, REFUSAL

MAX_LENGTH = 1_000  # characters of a sentence; CLIP reads about 300
MOST = 10 * MAX_LENGTH  # characters of a sentence with all that is around it but thoughts
# Control characters, line separators, surrogates, and marks of writing direction.
CONTROL = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]')

# What stands between these is no answer: thoughts of DeepSeek, Qwen, Mistral, Kimi, Seed, Cohere,
# Gemma and others.
_NAMES = '(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis)'
_THOUGHTS = re.compile(
    rf'(<{_NAMES}>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>|<unused94>|'
    rf'<\|channel>thought)|</{_NAMES}>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|'
    r'<\|END_THINKING\|>|<unused95>|<channel\|>', re.IGNORECASE)
_END = re.compile(r'<\|(?:end|return|call|start)\|>')  # of what gpt-oss says in one channel
# Tokens that begin or end a turn: ChatML, Llama, Phi, GLM, Granite, Cohere, DeepSeek, Gemma, ...
_TOKEN = re.compile(r'(<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|</?s>|<(?:bos|eos|pad|unk|sop)>|'
                    r'<(?:start|end)_of_turn>|\[gMASK\])')
_PROMPT = re.compile(r'\[INST\].*?\[/INST\]|<<SYS>>.*?<</SYS>>|\[/?INST\]', re.DOTALL)
_OTHERS = re.compile(r'user|system|human|tool|observation|developer', re.IGNORECASE)
_OWN = re.compile(r'assistant|chatbot|model', re.IGNORECASE)
_ROLE = re.compile(r'\s*(user|system|human|tool|developer|assistant|model)\s*(?:\n|$)')

_WRAPPED = re.compile(r'<(answer|response|output|description|sentence|result|final|p)>(.*?)</\1>',
                      re.IGNORECASE | re.DOTALL)
_FENCE = re.compile(r'```[\w-]*[ \t]*\n?(.*?)(?:```|$)', re.DOTALL)
_KEYS = ('description', 'sentence', 'answer', 'response', 'result', 'output', 'text', 'caption',
         'content')
_FOREIGN = re.compile(r'\s*<(?:!doctype|html|tool_call|function|\?xml)|\s*\[TOOL_CALLS\]',
                      re.IGNORECASE)

_ITEM = re.compile(r'\s*(?:[-*+•‣◦–]|\(?\d{1,2}[.)]|\d{1,2}、|\(?[a-z]\))\s+')
_ROW = re.compile(r'\s*\|.*\|\s*$')
_TITLE = re.compile(r'\s*(?:#{1,6}\s.*|\*\*[^*]+(?<![.!。])\*\*:?|__[^_]+(?<![.!。])__:?|'
                    r'[-*_=]{3,})\s*$')
_EMPHASIS = re.compile(r'(\*\*\*|\*\*|__|`)(?=\S)(.+?)(?<=\S)\1|'
                       r'(?<![\w*])\*(?=\S)([^*]+?)(?<=\S)\*(?![\w*])')
_QUOTES = {'"': '"', "'": "'", '“': '”', '‘': '’', '«': '»', '»': '«', '„': '“',
           '「': '」', '『': '』'}
_LEAD = re.compile(r'\*\*[^*\n]{1,60}(?::\*\*|\*\*:)\s*')  # **Description:** A mug ...
_QUESTION = re.compile(r'[^.!?。！？؟]*[?？؟]["”’»)]*$')
_STOPS = ('.', '!', '?', '。', '！', '？', '।', '؟', '۔')
_MARK = re.compile(r'[.!?](?=["\'”’»)*_`]*(\s+|$)(.?))|[。！？｡।؟۔]', re.DOTALL)


def read_answer(content: bytes, key: str) -> str:
    """
    Return the description in the body of a chat completion, as one line.

    :param key: the key that was sent, '' for none.
    :raises ValueError: if there is none, or if it is too long or has the key in it; the message
        may show all of the answer, and so the key.
    """
    try:
        choice = json.loads(content)['choices'][0]
        message, reason = choice['message'], choice.get('finish_reason')
        text = message.get('content')
        refusal = message.get('refusal')
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f'expected the JSON of a chat completion, got ({type(error).__name__}) '
                         f'{content.decode(errors="replace")!r}') from error
    if refusal or reason == 'content_filter':
        raise ValueError(f'expected a sentence, got a refusal: {refusal or reason!r}')
    text = _text_of_parts(text) if isinstance(text, list) else text
    cut = reason == 'length'
    if cut and not (isinstance(text, str) and text.strip()):
        raise ValueError('expected a sentence, got an answer that ran out of tokens before it '
                         'began; let the model think less, or allow more tokens')
    if not isinstance(text, str):
        raise ValueError(f'expected a text, got {text!r}')
    line = clean(text, cut)
    if key and key in line:
        raise ValueError('expected a sentence, got one with the key in it')
    return line


def clean(text: str, cut: bool = False) -> str:
    """
    Return the sentence in a text, as one line; a cleaned one stays as it is.

    :param cut: the model ran out of tokens; what follows the last whole sentence is left out.
    :raises ValueError: if there is no sentence: thoughts without an answer, a refusal, a question,
        a list of parts, data of another kind, an empty or a cut answer, or too long a text.
    """
    text = _thought(text.replace('\r\n', '\n').replace('\r', '\n')).strip()
    if len(text) > MOST:  # and the patterns below take long
        raise ValueError(_too_long(len(text)))
    text = _turn(text)
    if cut:
        text = _whole(text)
    text = _unwrapped(text.strip())
    line = ' '.join(CONTROL.sub(' ', _unquoted(_prose(text))).split())
    if not any(letter.isalnum() for letter in line):
        raise ValueError(f'expected a sentence, got an empty answer {line!r}')
    if REFUSAL.match(line):
        raise ValueError(f'expected a sentence, got a refusal: {line}')
    if _QUESTION.fullmatch(line):
        raise ValueError(f'expected a sentence, got a question: {line}')
    if len(line) > MAX_LENGTH:
        raise ValueError(_too_long(len(line)))
    return line


def _too_long(length: int) -> str:
    return f'expected a sentence of at most {MAX_LENGTH} characters, got {length}'


def _text_of_parts(parts: list[Any]) -> object:
    """Return the text of content that comes in parts, as the newer protocols have it."""
    texts = [part.get('text') for part in parts
             if isinstance(part, dict) and part.get('type') in {'text', 'output_text'}]
    known = [text for text in texts if isinstance(text, str)]
    return ''.join(known) if known and len(known) == len(texts) else parts


def _thought(text: str) -> str:
    """Leave out the thoughts; raises ValueError if nothing else came."""
    if '<|channel|>' in text:  # gpt-oss: only the channel `final` is an answer
        finals = [part for part in text.split('<|channel|>')[1:] if re.match(r'\s*final\b', part)]
        if not finals:
            raise ValueError(f'expected a sentence, got only thoughts: {text}')
        text = _END.split(finals[-1].partition('<|message|>')[2])[0]
    if re.match(r'\s*analysis(?=[A-Z“"])', text):  # the same, shown without its tokens
        _, final, rest = text.rpartition('assistantfinal')
        if not final:
            raise ValueError(f'expected a sentence, got only thoughts: {text}')
        text = rest
    kept: list[str] = []
    thinking, begin = False, 0
    for mark in _THOUGHTS.finditer(text):
        if mark[1] and not thinking:
            kept.append(text[begin:mark.start()])
        elif not mark[1] and not thinking:  # some templates open the thoughts
            kept.clear()
        thinking, begin = bool(mark[1]), mark.end()
    if thinking:
        raise ValueError(f'expected a sentence, got thoughts without an end: {text}')
    return '\n'.join([*kept, text[begin:]])


def _turn(text: str) -> str:
    """Return the first text that the model said in its own name, without control tokens."""
    own, said = True, ''
    for piece in _TOKEN.split(_PROMPT.sub('', text)):
        if _TOKEN.fullmatch(piece):
            own = _own(piece, own)
            continue
        if role := _ROLE.match(piece):
            own, piece = _own(role[1], own), piece[role.end():]
        if own and piece.strip():
            said = piece
            break
    return said


def _own(name: str, before: bool) -> bool:
    """Return whether the model speaks after a token or a role; most tokens change nothing."""
    return bool(_OWN.search(name)) or before and not _OTHERS.search(name)


def _whole(text: str) -> str:
    """Return a cut text up to the end of its last whole sentence; raises ValueError for none."""
    ends = [mark.end() for mark in _MARK.finditer(text)
            if not (mark[2] or '').islower() and not (mark[2] or '').isdigit()]
    if not ends:
        raise ValueError(f'expected a sentence, got one that is cut off: {text}')
    return text[:ends[-1]]


def _unwrapped(text: str) -> str:
    """Return what is inside of tags, a code block or JSON; raises ValueError for other data."""
    if _FOREIGN.match(text):
        raise ValueError(f'expected a sentence, got something else: {text}')
    if tags := _WRAPPED.search(text):
        text = tags[2].strip()
    fence = _FENCE.search(text)
    if fence and fence[1].strip():
        before = text[:fence.start()].strip()
        text = fence[1].strip() if not before or before[-1] in ':：' else before
    if not text.startswith(('{', '["', '[{', '[\n', '[ ')):
        return text
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'expected a sentence, got JSON that is not whole: {text}') from error
    return _of_json(value, text)


def _of_json(value: object, text: str) -> str:
    while not isinstance(value, str):
        if isinstance(value, dict) and value:
            known = {str(name).casefold(): inner for name, inner in value.items()}
            name = next((name for name in _KEYS if name in known), None)
            if name is None and len(known) == 1:
                name = next(iter(known))
            if name is not None:
                value = known[name]
                continue
        elif isinstance(value, list) and len(value) == 1:
            value = value[0]
            continue
        raise ValueError(f'expected a sentence, got other JSON: {text}')
    return value


def _prose(text: str) -> str:
    """Return the first paragraph that is one, plain; raises ValueError for a list of parts."""
    said = ''
    for paragraph in _paragraphs(text):
        following = _plain(paragraph)
        if said and following and said[-1] not in ':：' and not _is_title(said, following):
            return said
        said = following or said
        if said.endswith(_STOPS):  # what follows may be a list; it is left out
            return said
    return said if said[-1:] not in ':：' else ''


def _paragraphs(text: str) -> Iterator[str]:
    """Yield paragraphs without titles; raises ValueError where a list of parts begins."""
    for block in re.split(r'\n\s*\n', text):
        lines = [re.sub(r'^\s*(?:>\s*)+', '', line) for line in block.split('\n')]
        lines = [line for line in lines if not _TITLE.match(line)]
        while len(lines) > 1 and re.search(r'[:：]\s*$', lines[0]) and HERE.match(
                POLITE.sub('', lines[0].strip(), count=1)):
            del lines[0]
        first = next((number for number, line in enumerate(lines)
                      if _ITEM.match(line) or _ROW.match(line)), None)
        yield ' '.join(lines if first is None else [*lines[:first], _item(lines[first:], text)])


def _item(lines: list[str], text: str) -> str:
    """Return the one item of a list; raises ValueError for several, or for a table."""
    items = [line for line in lines if _ITEM.match(line) or _ROW.match(line)]
    inline = re.match(r'\s*\(?1[.)]\s.*\s\(?2[.)]\s', lines[0])
    if len(items) > 1 or inline or _ROW.match(lines[0]):
        raise ValueError(f'expected a sentence, got a list: {text}')
    return ' '.join([_ITEM.sub('', lines[0], count=1), *lines[1:]])


def _plain(paragraph: str) -> str:
    """Return a paragraph without politeness, leads and emphasis."""
    said = _LEAD.sub('', paragraph.strip(), count=1) if _LEAD.match(paragraph.strip()) else (
        paragraph.strip())
    said = _EMPHASIS.sub(lambda found: found[2] or found[3], said)
    for pattern in (POLITE, HERE):
        if found := pattern.match(said):
            said = said[found.end():] or ('' if pattern is POLITE else said)
    return CHATTER.sub('', said).strip()


def _is_title(said: str, following: str) -> bool:
    """Return whether a short line without an end stands above a sentence."""
    return len(said.split()) <= 5 and not said.endswith(_STOPS) and following.endswith(_STOPS)


def _unquoted(text: str) -> str:
    """Return a text without the quotes around all of it."""
    left, inner, right = text[:1], text[1:-1], text[-1:]
    whole = inner and _QUOTES.get(left) == right and left not in inner and right not in inner
    return inner if whole else text
