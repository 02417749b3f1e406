"""Sentences in answers as language models give them, and what is refused."""
import json

import pytest
from support.chat_server import completion
from vl2v_ros.words.answers import clean, MAX_LENGTH, read_answer

MUG = 'A short ceramic cylinder, open above, with a curved handle at its side.'
SORRY = "A folded card with the words “I'm sorry” in red letters on its front."

# What a model sent -> the sentence in it.
TAKEN = [
    (MUG, MUG),
    (f'  {MUG}\n', MUG),
    # Thoughts.
    (f'<think>\nA mug? It has a handle.\n</think>\n\n{MUG}', MUG),
    (f'<think>\n\n</think>\n\n{MUG}', MUG),  # Qwen3 without thinking
    (f'What is a mug?\n</think>\n\n{MUG}', MUG),  # DeepSeek R1: its template opens the thoughts
    (f'<think>a<think>b</think>c</think>{MUG}', MUG),
    (f'<THINK>Hm.</THINK>{MUG}', MUG),
    (f'<thinking>Hm.</thinking>\n<answer>{MUG}</answer>', MUG),
    (f'<reasoning>Hm.</reasoning> {MUG}', MUG),
    (f'[THINK]The user wants one sentence.[/THINK]{MUG}', MUG),  # Magistral
    (f'◁think▷Hm.◁/think▷{MUG}', MUG),  # Kimi
    (f'<seed:think>Hm.</seed:think>{MUG}', MUG),
    (f'<|begin_of_thought|>Hm.<|end_of_thought|>\n<|begin_of_solution|>{MUG}<|end_of_solution|>',
     MUG),
    (f'<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>{MUG}<|END_RESPONSE|>', MUG),
    (f'<unused94>thought\nHm.<unused95>{MUG}', MUG),
    (f'<|channel>thought\nHm.\n<channel|>{MUG}', MUG),
    (f'{MUG}\n<think>Was that one sentence? Yes.</think>', MUG),
    # gpt-oss.
    ('<|channel|>analysis<|message|>One sentence.<|end|><|start|>assistant<|channel|>final'
     f'<|message|>{MUG}<|return|>', MUG),
    (f'<|start|>assistant<|channel|>final<|message|>{MUG}', MUG),
    ('<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final '
     f'<|constrain|>json<|message|>{{"description": "{MUG}"}}<|return|>', MUG),
    (f'analysisWe need one sentence.assistantfinal{MUG}', MUG),
    # Tokens of chat formats.
    (f'{MUG}<|im_end|>', MUG),
    (f'<|im_start|>assistant\n{MUG}<|im_end|>\n<|im_start|>user\nAnd a cup?<|im_end|>', MUG),
    (f'<|im_start|>user\nDescribe a mug.<|im_end|>\n<|im_start|>assistant\n{MUG}', MUG),
    (f'<|start_header_id|>assistant<|end_header_id|>\n\n{MUG}<|eot_id|>', MUG),
    (f'<|begin_of_text|>{MUG}<|end_of_text|>', MUG),
    (f'assistant\n\n{MUG}', MUG),
    (f'<start_of_turn>model\n{MUG}<end_of_turn>\n<eos>', MUG),
    (f'<s>[INST] Describe a mug. [/INST] {MUG}</s>', MUG),
    (f'[INST] <<SYS>>Be brief.<</SYS>> A mug? [/INST]{MUG} </s>', MUG),
    (f'<|user|>\nA mug?<|end|>\n<|assistant|>\n{MUG}<|end|>', MUG),
    (f'[gMASK]<sop><|assistant|>\n{MUG}<|user|>', MUG),
    (f'<｜Assistant｜>{MUG}<｜end▁of▁sentence｜>', MUG),
    (f'<|start_of_role|>assistant<|end_of_role|>{MUG}<|end_of_text|>', MUG),
    (f'<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{MUG}<|END_OF_TURN_TOKEN|>', MUG),
    (f'<|begin_of_box|>{MUG}<|end_of_box|>', MUG),
    # JSON and other wrappers.
    (json.dumps({'description': MUG}), MUG),
    (f'```json\n{{"description": "{MUG}"}}\n```', MUG),
    (f'Here is the JSON:\n\n```json\n{{\n  "label": "mug",\n  "sentence": "{MUG}"\n}}\n```\n'
     'Let me know!', MUG),
    (json.dumps({'mug': {'Description': MUG}}), MUG),
    (json.dumps([MUG]), MUG),
    (json.dumps([{'label': 'mug', 'description': MUG}]), MUG),
    (f'```\n{MUG}\n```', MUG),
    (f'```text\n{MUG}', MUG),
    (f'<description>{MUG}</description>', MUG),
    (f'<p>{MUG}</p>', MUG),
    # Markdown and quotes.
    (f'**{MUG}**', MUG),
    (f'**Description:** {MUG}', MUG),
    (f'**Mug**: {MUG}', MUG),
    (f'# Mug\n\n{MUG}', MUG),
    (f'**Mug**\n{MUG}', MUG),
    (f'Mug\n\n{MUG}', MUG),
    (f'- {MUG}', MUG),
    (f'1. {MUG}', MUG),
    (f'> {MUG}', MUG),
    (f'---\n{MUG}\n---', MUG),
    (f'"{MUG}"', MUG),
    (f'“{MUG}”', MUG),
    (f'*{MUG}*', MUG),
    (MUG.replace('ceramic', '**ceramic**').replace('handle', '`handle`'), MUG),
    (MUG.replace(', open', ',\nopen'), MUG),
    # Politeness around it.
    (f'Sure! Here is a single sentence that describes a mug:\n\n{MUG}', MUG),
    (f"Sure! Here's a description: {MUG}", MUG),
    (f'Certainly. {MUG}', MUG),
    (f"Here's the description you asked for:\n{MUG}", MUG),
    (f'Description: {MUG}', MUG),
    (f'Answer: "{MUG}"', MUG),
    (f'{MUG}\n\nI hope this helps!', MUG),
    (f'{MUG} Let me know if you would like more detail.', MUG),
    (f'{MUG}\n\n(Note: mugs differ.)', MUG),
    (f'{MUG}\n\n1. Body: a cylinder\n2. Handle: a loop', MUG),
    # Other languages.
    ('Natürlich! Hier ist eine Beschreibung:\n\nEin kurzer Zylinder mit Henkel.',
     'Ein kurzer Zylinder mit Henkel.'),
    ('Bien sûr ! Voici une description : «Un cylindre court avec une anse.»',
     'Un cylindre court avec une anse.'),
    ('¡Claro! Aquí tienes una descripción: Un cilindro corto con asa.',
     'Un cilindro corto con asa.'),
    ('当然！以下是描述：\n\n一个带把手的短圆柱形陶瓷杯。', '一个带把手的短圆柱形陶瓷杯。'),
    ('「取っ手の付いた短い円筒形の陶器。」', '取っ手の付いた短い円筒形の陶器。'),
    ('Конечно! Вот описание: Короткий цилиндр с ручкой.', 'Короткий цилиндр с ручкой.'),
    # What only looks like something else.
    (SORRY, SORRY),
    ("“I'm sorry” is printed in red on a folded card.",) * 2,
    ('An apology card is a folded sheet with a heart and the words "I cannot say it".',) * 2,
    ('Sure deodorant is a white cylinder with a blue cap.',) * 2,
    ('Sure, a brand of deodorant, comes as a white stick.',) * 2,
    ('I-beams are long steel bars whose section looks like the letter I.',) * 2,
    ('As an aid to walking, it is a long stick with a curved handle.',) * 2,
    ('There appears to be a handle at the side of the white cylinder.',) * 2,
    ('Here and there the round, red fruit has yellow spots.',) * 2,
    ('A black 3.5 inch square with a metal slider: a floppy disk.',) * 2,
    ('3.5 inch wide, black and flat, with a metal slider.',) * 2,
    ('A model car, 1:43, with red doors and wheels of chrome.',) * 2,
    ('A key with the label <Esc> and a key with [Tab].',) * 2,
    ('Error messages fill the blue screen of a computer.',) * 2,
    ('A thinking cap is a felt hat with a question mark?! on it.',) * 2,
    ('Claro is a small red logo in white letters.',) * 2,
]
# What a model sent -> why it is refused.
REFUSED = [
    ('<think>\nA mug is a cylinder. I should', 'thoughts without an end'),
    ('[THINK]A mug is a cylinder.', 'thoughts without an end'),
    ('◁think▷A mug is a cylinder.', 'thoughts without an end'),
    ('<think>A mug is a cylinder.</think>', 'empty'),
    ('<|channel|>analysis<|message|>A mug is a cylinder.', 'only thoughts'),
    ('<|channel|>commentary to=functions.look<|message|>{"label": "mug"}<|call|>',
     'only thoughts'),
    ('analysisThe user wants a sentence. A mug is a cylinder.', 'only thoughts'),
    ('', 'empty'), ('...', 'empty'), ('<|im_end|>', 'empty'), ('```\n```', 'empty'),
    ('Sure!', 'empty'), ('Here is the description:', 'empty'),
    ("I'm sorry, but I can't help with that.", 'refusal'),
    ('I’m sorry, I can’t assist with that request.', 'refusal'),
    ('I am really sorry but this is not possible.', 'refusal'),
    ('Sorry, I cannot describe this object.', 'refusal'),
    ('I cannot fulfill this request.', 'refusal'), ('I can not say.', 'refusal'),
    ("I don't have information about this object.", 'refusal'),
    ('I apologize, but I need more context.', 'refusal'),
    ('As an AI language model, I have no eyes.', 'refusal'),
    ('As a large language model, I cannot see.', 'refusal'),
    ("I'm an AI and cannot see objects.", 'refusal'),
    ('Unfortunately, I am not able to describe it.', 'refusal'),
    ('Please provide more details about the object.', 'refusal'),
    ('It seems you have made a typo.', 'refusal'),
    ('**I cannot** help with weapons.', 'refusal'),
    ('{"description": "I cannot describe this."}', 'refusal'),
    ('Error: rate limit reached', 'refusal'),
    ('Es tut mir leid, aber dabei kann ich nicht helfen.', 'refusal'),
    ('Je suis désolé, mais je ne peux pas.', 'refusal'),
    ('Lo siento, no puedo ayudar con eso.', 'refusal'),
    ('Mi dispiace, ma non posso.', 'refusal'), ('Извините, я не могу.', 'refusal'),
    ('抱歉，我无法描述这个物体。', 'refusal'), ('作为一个人工智能，我看不到图片。', 'refusal'),
    ('申し訳ありませんが、お答えできません。', 'refusal'),
    ('죄송합니다. 도와드릴 수 없습니다.', 'refusal'),
    ('Could you tell me which mug you mean?', 'refusal'),
    ('Which mug do you mean?', 'question'), ('您指的是哪种杯子？', 'question'),
    ('- a body\n- a handle\n- a rim', 'a list'), ('1. Body: round\n2. Handle: curved', 'a list'),
    ('1) Body: round 2) Handle: curved', 'a list'), ('a) round\nb) white', 'a list'),
    ('Here are the parts:\n\n* body\n* handle', 'a list'),
    ('| Part | Look |\n|---|---|\n| body | round |', 'a list'),
    ('{"shape": "cylinder", "colour": "white"}', 'other JSON'),
    ('["a body", "a handle"]', 'other JSON'), ('{"description": 7}', 'other JSON'),
    ('```json\n{"description": "A short cyl', 'not whole'),
    ("{'description': 'A mug.'}", 'not whole'),
    ('<tool_call>{"name": "look"}</tool_call>', 'something else'),
    ('[TOOL_CALLS][{"name": "look"}]', 'something else'),
    ('<!DOCTYPE html><html><body>502</body></html>', 'something else'),
    *((f'{token} ' * 20_000, reason) for token, reason in (
        ('<think>', 'thoughts without an end'), ('</think>', 'empty'),
        ('<|channel|>', 'only thoughts'), ('[INST]', 'at most'), ('```', 'at most'),
        ('<answer>', 'at most'))),  # without taking minutes
    *((f'{token} ' * 1_500, '') for token in (
        '[INST]', '<answer>', '**', '**a', '"', '- ', '\n\n*', '> >', 'hi!', '`', '# ', '| ')),
    ('word ' * 400, f'at most {MAX_LENGTH} characters, got 1999'),
]


@pytest.mark.parametrize(('said', 'expected'), TAKEN)
def test_the_sentence_is_taken_where_there_is_one(said: str, expected: str) -> None:
    assert clean(said) == expected
    assert clean(expected) == expected


@pytest.mark.parametrize(('said', 'reason'), REFUSED)
def test_what_holds_no_sentence_is_refused(said: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f'expected a sentence.*{reason}'):
        clean(said)


@pytest.mark.parametrize(('said', 'expected'), [
    (MUG, MUG),
    (f'{MUG} It may be white or', MUG),
    ('A mug, e.g. of clay, is 9.5 cm high. It is approx. 8 cm wi', 'A mug, e.g. of clay, is 9.5 '
     'cm high.'),
    (f'<think>Hm.</think>{MUG} **It ma', MUG),
    ('一个带把手的短圆柱形陶瓷杯。它通常是白', '一个带把手的短圆柱形陶瓷杯。'),
    (f'{MUG}\n\n1. Body: a cyl', MUG)])
def test_of_an_answer_that_was_cut_the_whole_sentences_are_taken(said: str, expected: str) -> None:
    assert read_answer(completion(said, 'length').encode(), '') == expected


@pytest.mark.parametrize(('said', 'reason'), [
    ('A short ceramic cylinder with a', 'cut off'), ('', 'ran out of tokens'),
    (None, 'ran out of tokens'), ('<think>A mug is a cylinder.', 'thoughts without an end'),
    ('{"description": "A mug. It is', 'not whole'), ('9.5 cm high, approx. 8', 'cut off')])
def test_an_answer_cut_within_its_first_sentence_is_refused(said: str | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_answer(completion(said, 'length').encode(), '')


@pytest.mark.parametrize('parts', [
    [{'type': 'text', 'text': MUG}],
    [{'type': 'thinking', 'thinking': [{'type': 'text', 'text': 'Hm.'}]},
     {'type': 'text', 'text': MUG}],
    [{'type': 'output_text', 'text': MUG[:9]}, {'type': 'output_text', 'text': MUG[9:]}]])
def test_content_in_parts_is_read(parts: list[object]) -> None:
    assert read_answer(completion(parts).encode(), '') == MUG


@pytest.mark.parametrize(('message', 'end', 'reason'), [
    ({'content': None, 'refusal': 'I will not.'}, 'stop', 'a refusal: .I will not'),
    ({'content': 'A mug is'}, 'content_filter', 'a refusal: .content_filter'),
    ({'content': None, 'tool_calls': [{'id': '1'}]}, 'tool_calls', 'expected a text, got None'),
    ({'content': [{'type': 'image', 'url': 'x'}]}, 'stop', 'expected a text'),
    ({'content': [{'type': 'text', 'text': 7}]}, 'stop', 'expected a text'),
    ('text', 'stop', 'the JSON of a chat completion')])
def test_other_answers_of_the_protocol_are_refused(message: object, end: str, reason: str) -> None:
    body = json.dumps({'choices': [{'message': message, 'finish_reason': end}]})
    with pytest.raises(ValueError, match=reason):
        read_answer(body.encode(), '')
