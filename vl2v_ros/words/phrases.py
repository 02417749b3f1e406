"""Phrases with which language models surround a sentence, or decline; by language, as patterns."""
import re


def _any(*phrases: str) -> str:
    return f'(?:{"|".join(phrases)})'


_SURE = _any(
    'sure(?: thing)?', 'certainly', 'of course', 'absolutely', 'okay', 'ok', 'alright', 'great',
    'got it', 'no problem',
    'natürlich', 'gerne?', 'klar',
    'bien sûr', 'certainement', 'd’accord',
    'claro(?: que sí)?', 'por supuesto', 'com certeza',
    'certo', 'certamente', 'con piacere',
    'конечно', 'بالطبع',
    '当然(?:可以)?', '好的', 'もちろん(?:です)?', 'はい', '물론(?:입니다|이죠)?')
_BEGIN = _any('here', 'hier', 'voici', 'aquí', 'aqui', 'ecco', 'вот', '以下', '这', '這', '다음')
POLITE = re.compile(rf'¡?{_SURE}(?:\s*[!.:！。：]+\s*|\s*[,，、]\s*(?={_BEGIN}))', re.IGNORECASE)
"""Sure! Before the sentence; without a mark behind it, it is a part of the sentence."""

_ANNOUNCED = _any(
    "here(?:['’]s| is| are| you go)", 'hier (?:ist|sind|kommt)', 'voici', 'voilà',
    'aquí (?:tienes|está|va)', 'aqui (?:está|vai)', 'ecco', 'вот', '以下(?:是|は|に)',
    '这是', '這是', '다음은')
_NAMED = r'(?:the |my |final |single[- ]sentence |one[- ]sentence )*' + _any(
    'description', 'answer', 'sentence', 'response', 'output', 'assistant',
    'beschreibung', 'antwort', 'réponse', 'descripción', 'respuesta', 'descrição', 'resposta',
    'descrizione', 'risposta', 'описание', 'ответ', '描述', '回答', '答案', '説明', '설명', '답변')
HERE = re.compile(rf'(?:{_ANNOUNCED}|{_NAMED})(?=\W)[^:：\n]{{0,160}}[:：]\s*', re.IGNORECASE)
"""Here is the description: Before the sentence."""

CHATTER = re.compile(r'(?:\s|^)' + _any(
    '(?:I|we) hope (?:this|that)', 'hope (?:this|that) helps', 'let me know', 'feel free',
    'would you like', 'do you want', 'is there anything', "if you(?:['’]d| would) like",
    'if you need', r'\(?note:', r'\(?word count') + r'[^\n]*$', re.IGNORECASE)
"""Let me know if you need more. After the sentence, to the end of the line."""

_I = "I(?:['’]m| am)"
REFUSAL = re.compile(_any(
    rf'{_I}(?: (?:so|very|really|truly|deeply))? (?:sorry|afraid)'
    r'(?=[,.;:!—–-]|\s+(?:but|for|that|i|about|to|as|we)\b)',
    rf'{_I} (?:unable|not able|not sure|not familiar|not aware|just an?)\b',
    rf'{_I} an? (?:ai|language|large|text)\b',
    r"I (?:can ?not|can['’]t|could ?n[o'’]t|won['’]t|will not|do not|don['’]t|am not)\b",
    r'I (?:must decline|have to decline|apologi[sz]e|need more|would need|have no)\b',
    r'(?:my )?(?:sincere )?apologies\s*[,.;!—–-]',
    r'(?:we are |we’re )?sorry\s*[,.;!—–-]\s*(?:but|I|we|that|this)\b', 'sorry (?:but|for|about) ',
    r'(?:unfortunately|regrettably),? (?:I|we|as|there)\b',
    r'as an? (?:\w+ )?(?:ai|artificial intelligence|(?:\w+ )?language model|text-based)\b',
    '(?:could|can|would) you (?:please )?', r'please (?:provide|clarify|specify|share|give)\b',
    r'(?:it (?:seems|looks|appears)|there (?:seems|appears)) (?:like |that |to )?'
    r'(?:you|the (?:term|word|label|input|question)|be an? (?:error|typo|mistake))\b',
    '(?:request|content|response) (?:was )?(?:blocked|filtered|refused)', r'error\s*[:\d]',
    r'(?:es )?tut (?:mir|uns) leid\s*[,.;]', r'entschuldigung\s*[,.;!]',
    r'als (?:ein )?(?:ki|sprachmodell)\b', r'ich kann (?:\w+ )?nicht\b',
    r'(?:je suis |nous sommes )?désolée?s?\s*[,.;]', r'je ne (?:peux|suis)\b',
    r"en tant qu(?:e |['’])(?:une? )?(?:ia|modèle)\b",
    r'lo siento\s*[,.;]', r'no puedo\b', 'como (?:una? )?(?:ia|modelo de (?:lenguaje|linguagem))',
    r'(?:desculpe|sinto muito|lamento)\s*[,.;]', r'mi dispiace\s*[,.;]', r'non posso\b',
    r'(?:извините|простите|к сожалению)\s*,', 'как (?:ии|языковая модель)',
    r'(?:很|非常)?(?:抱歉|对不起|對不起)\s*[，,。！我]', '我(?:无法|不能|無法)',
    '(?:作为|作為|身为)(?:一[个個])?(?:ai|人工智能|语言模型|大语言模型)',
    '申し訳(?:ありません|ございません)', 'すみません[、。]', 'AIとして',
    '죄송(?:합니다|하지만)'), re.IGNORECASE)
"""I'm sorry, but I can't ... In the place of the sentence; to be matched at its beginning."""
