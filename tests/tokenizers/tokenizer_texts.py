"""What the tokenizers' tests call text: any characters, and those over which tokenizers differ from each other."""

from hypothesis import settings
from hypothesis import strategies as st

FRAGMENTS = (
    "don't I'LL we'Ve 'S 'ſ ſ K|  two  spaces | \n\n\t x |\r\n|\u00a0|\u3000|\u2028|\x85|\x1c|\x00|\u200d|\ufeff|"
    "naïve|ne\u0301e|Å|ﬁ|½|ﬁ\u0301\u0301\u0301|a\u0302\u0301|½\u0301|xyzxy|①|२३|12345|3.14|日本語|한국어|안녕|العربية|ไทย|👩‍👩‍👧|🇩🇪|🤷🏽‍♂️|é|ß|İ|ǅ|ⅷ|"
    "<s>|</s>|<unk>|<|endoftext|>|[CLS]|[SEP]|##ing|▁|▁▁a|Ġ|aaaaaaaaa|-----|!!!|...|(x)[y]{z}|"
    "def f(x):\n    return x|http://a.b/c?d=e|hello world|The quick brown fox"
).split("|")

# to train on: a text, and lines
SAMPLE = "The cat sat on the mat. The cat's hat, the rat's mat: 123 456! Ünïcödé 日本 " * 20
SAMPLES = [
    "The quick brown fox jumps over the lazy dog; don't be late!",
    "Wait -- 12345 numbers, 3.14 and ½, ﬁne naïve café, Ｆｕｌｌ ｗｉｄｔｈ.",
    "aaaa aaa aa a ----- ---- --- -- - !!! ... ===== hello hello  hello   hello",
    "日本語のテキスト。한국어 텍스트, русский текст и ещё.",
    "She sells sea shells by the sea shore, and the shells she sells are sea shells for sure.",
] * 8

texts = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6), st.text(" \n\t.,'!aAbBéÉ0", max_size=8)), max_size=8
).map("".join)

more = settings(max_examples=2 * settings.default.max_examples)  # where one example is quick and the cases are many
