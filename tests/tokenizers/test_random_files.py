"""Random tokenizer.json files in both libraries: the same ids and the same text, or a TokenizerError."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizer_files import short_texts, tokenizer_files

from tinyllm.tokenizers import StreamDecoder, TokenizerError
from tinyllm.tokenizers.tokenizer_json import from_json

tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is the peer")

slow = settings(max_examples=3 * settings.default.max_examples, suppress_health_check=[HealthCheck.too_slow])


def both(spec):
    """The peer's tokenizer and ours, or None where one of the two refuses the file."""
    try:
        peer = tokenizers.Tokenizer.from_str(json.dumps(spec))
    except Exception:  # the peer raises plain Exceptions
        return None
    try:
        return peer, from_json(json.loads(json.dumps(spec)))
    except TokenizerError:
        return None


@slow
@given(spec=tokenizer_files(), text=short_texts, other=short_texts, data=st.data())
def test_same_ids_and_text(spec, text, other, data):
    pair = both(spec)
    if pair is None:
        return
    peer, ours = pair
    again = from_json(json.loads(json.dumps(ours._to_json())))
    try:
        expected = [peer.encode(text, add_special_tokens=special).ids for special in (False, True)]
        pairs = peer.encode(text, other)
    except Exception:  # such as text without an unknown token for it
        return
    for one in (ours, again):
        assert [one.encode(text, add_special_tokens=special) for special in (False, True)] == expected
        assert one.encode_pair(text, other) == (pairs.ids, pairs.type_ids)
        assert one.special_tokens == ours.special_tokens and one.vocab_size == ours.vocab_size
    random_ids = data.draw(st.lists(st.integers(0, peer.get_vocab_size() - 1), max_size=8))
    for ids in (expected[1], random_ids):
        for skip in (False, True):
            decoded = peer.decode(ids, skip_special_tokens=skip)
            assert ours.decode(ids, skip) == again.decode(ids, skip) == decoded
            stream = StreamDecoder(ours, skip)
            assert "".join([*map(stream.feed, ids), stream.finish()]) == decoded
