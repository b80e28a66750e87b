"""Random tokenizer.json files: every kind of model, normalizer, pre-tokenizer, decoder, post-processor and added token."""

from hypothesis import strategies as st

SPACE = "▁"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LETTERS = list("abcdeh 'x19.,é日A") + [SPACE, "Ġ", "\n"]
PIECES = [
    "ab",
    "abc",
    "bc",
    "he",
    "hea",
    "ea",
    "▁a",
    "▁ab",
    "▁▁",
    "a▁",
    "▁he",
    "19",
    "x1",
    "Ġa",
    "Ġab",
    "##a",
    "##b",
    "##bc",
    "a.",
    "#",
]
CONTENTS = [
    "<s>",
    "</s>",
    "[SEP]",
    "ab",
    "a b",
    " x",
    "x ",
    "Hea",
    "é",
    "e\u0301",
    "1",
    "▁a",
    "A",
    "<0x41>",
    "\n",
    "he",
    "  ",
]
PATTERNS = [
    r"\p{L}+",
    r"\d",
    r"\s+",
    r" ?[^\s\p{L}\p{N}]+",
    r"[[a-c]x]+",
    r"[a-e&&[^b]]",
    r"(?=[A-Z])",
    r"[0-9][0-9]",
    r"a|ab",
    "^ +| +$",
    r"\w+|[^\w\s]+",
    r" {2,}",
    r"(?<!a)b",
    r"[^[a-c]]",
    r"\W+",
    r"[[:punct:]]",
    r"[[:digit:][:space:]]+",
]

some = st.sampled_from
booleans = st.booleans()
pattern = st.one_of(
    st.fixed_dictionaries({"Regex": some(PATTERNS)}),
    st.fixed_dictionaries({"String": some([" ", "a", "ab", SPACE, "▁a", "\n", "."])}),
)


def step(kind, **fields):
    return st.fixed_dictionaries({"type": st.just(kind), **fields})


def sequence(inner, steps, largest=3):
    """None, one step, or a Sequence of several."""
    several = st.lists(steps, max_size=largest)
    return st.one_of(st.none(), steps, several.map(lambda found: {"type": "Sequence", inner: found}))


normalizer = st.one_of(
    some(["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt"]).map(lambda kind: {"type": kind}),
    step("Strip", strip_left=booleans, strip_right=booleans),
    step("Prepend", prepend=some([SPACE, "a", " "])),
    step("Replace", pattern=pattern, content=some(["", " ", SPACE, "ab", "é"])),
)
metaspace = {
    "replacement": some([SPACE, SPACE, "_"]),
    "prepend_scheme": some(["always", "first", "never"]),
    "split": booleans,
}
cutter = st.one_of(
    step("Metaspace", **metaspace),
    step("WhitespaceSplit"),
    step("Digits", individual_digits=booleans),
    step("Punctuation", behavior=some(["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"])),
    step(
        "Split",
        pattern=pattern,
        invert=booleans,
        behavior=some(["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]),
    ),
)
byte_level = step("ByteLevel", add_prefix_space=booleans, trim_offsets=booleans, use_regex=booleans)
decoder = st.one_of(
    step("Metaspace", **metaspace),
    step("ByteFallback"),
    step("Fuse"),
    byte_level,
    step("Strip", content=some([" ", "a"]), start=st.integers(0, 2), stop=st.just(0)),
    step("Replace", pattern=pattern, content=some(["", " ", "x"])),
    step("WordPiece", prefix=some(["##", ""]), cleanup=booleans),
)
llama = [
    {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
]
decoders = st.one_of(sequence("decoders", decoder), st.just({"type": "Sequence", "decoders": llama}))


@st.composite
def bpe_model(draw, fallback=booleans):
    byte_fallback = draw(fallback)
    tokens = ["<unk>", *(BYTES if byte_fallback else []), *LETTERS]
    merges = []
    for _ in range(draw(st.integers(0, 8))):
        left, right = draw(some(tokens[-30:][1:])), draw(some(tokens[-30:][1:]))
        merges.append([left, right])
        tokens += [left + right] if left + right not in tokens else []
    unknown = draw(some(["<unk>", "<unk>", None]))
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": draw(booleans),
        "byte_fallback": byte_fallback,
        "ignore_merges": draw(booleans),
        "vocab": {token: id for id, token in enumerate(tokens)},
        "merges": unique([merge for merge in merges if not set(merge) & set(BYTES)]),
    }


def unique(merges):
    return list(map(list, dict.fromkeys(map(tuple, merges))))


@st.composite
def unigram_model(draw):
    byte_fallback = draw(booleans)
    pieces = [*LETTERS, *draw(st.lists(some(PIECES), unique=True))]
    scores = draw(st.permutations(range(1, len(pieces) + 1)))
    vocab = [["<unk>", 0.0], *([byte, 0.0] for byte in BYTES if byte_fallback)]
    vocab += [[piece, -0.37 * score] for piece, score in zip(pieces, scores)]
    return {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": byte_fallback}


@st.composite
def wordpiece_model(draw):
    tokens = ["<unk>", *LETTERS, *["##" + letter for letter in "abceh"], *draw(st.lists(some(PIECES), unique=True))]
    vocab = {token: id for id, token in enumerate(dict.fromkeys(tokens))}
    return {
        "type": "WordPiece",
        "unk_token": "<unk>",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": draw(some([100, 3])),
        "vocab": vocab,
    }


@st.composite
def post_processor(draw, vocab):
    special = [["ab", vocab.get("a", 0)], ["<unk>", 0]]
    kind = draw(some(["none", "template", "bert", "roberta", "bytes", "both"]))
    bytes_step = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<unk>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<unk>", "type_id": 1}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {"<unk>": {"id": "<unk>", "ids": [0], "tokens": ["<unk>"]}},
    }
    return {
        "none": None,
        "template": template,
        "bert": {"type": "BertProcessing", "sep": special[0], "cls": special[1]},
        "roberta": {
            "type": "RobertaProcessing",
            "sep": special[0],
            "cls": special[1],
            "trim_offsets": True,
            "add_prefix_space": True,
        },
        "bytes": bytes_step,
        "both": {"type": "Sequence", "processors": [bytes_step, template]},
    }[kind]


@st.composite
def added_tokens(draw, vocab, contents):
    contents = draw(st.lists(some(contents), unique=True, max_size=5))
    new = len(vocab)
    found = []
    for content in contents:
        flags = {flag: draw(booleans) for flag in ("special", "lstrip", "rstrip", "single_word", "normalized")}
        found.append({"id": vocab.get(content, new), "content": content, **flags})
        new += content not in vocab
    return sorted(found, key=lambda token: token["id"])


@st.composite
def tokenizer_files(draw):
    """A tokenizer.json, as the tokenizers library writes it. tinyllm may refuse it by name."""
    kind = draw(some(["BPE", "Unigram", "bytes", "WordPiece"]))
    spec = {"version": "1.0", "truncation": None, "padding": None}
    normalizers = sequence("normalizers", normalizer)
    if kind == "WordPiece":
        flags = dict.fromkeys(("clean_text", "handle_chinese_chars", "lowercase"), booleans)
        parts = [
            step("BertNormalizer", strip_accents=st.one_of(st.none(), booleans), **flags),
            st.just({"type": "BertPreTokenizer"}),
            st.one_of(step("WordPiece", prefix=some(["##", "#"]), cleanup=booleans), decoders),
            wordpiece_model(),
        ]
    elif kind == "bytes":
        several = st.lists(cutter.filter(lambda found: found["type"] != "Metaspace"), max_size=2)
        cutters = st.tuples(several, byte_level, several)
        nested = cutters.map(lambda found: {"type": "Sequence", "pretokenizers": [*found[0], found[1], *found[2]]})
        parts = [normalizers, st.one_of(byte_level, nested), st.one_of(byte_level, decoders), bpe_model(st.just(False))]
    else:
        model = unigram_model() if kind == "Unigram" else bpe_model()
        parts = [normalizers, sequence("pretokenizers", cutter), decoders, model]
    spec["normalizer"], spec["pre_tokenizer"], spec["decoder"], spec["model"] = map(draw, parts)
    vocab = spec["model"]["vocab"]
    vocab = vocab if isinstance(vocab, dict) else {piece: id for id, (piece, _) in enumerate(vocab)}
    spec["post_processor"] = draw(post_processor(vocab))
    spec["added_tokens"] = draw(added_tokens(vocab, CONTENTS[:8] if kind == "bytes" else CONTENTS))
    return spec


KNOWN = st.characters(
    exclude_categories=["Cs", "Cn", "Co"]
)  # engines differ in what the newest Unicode version has assigned
fragments = some(
    [
        *CONTENTS,
        *PIECES,
        " ",
        "  ",
        "\n",
        "hea",
        "The",
        "19",
        "日本",
        "naïve",
        "…",
        "\u3000",
        "\u0301",
        "'s",
        "!",
        "_",
        "½",
        "İ",
    ]
)
short_texts = st.lists(st.one_of(fragments, fragments, st.text(KNOWN, max_size=3)), max_size=7).map("".join)
