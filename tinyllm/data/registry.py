"""Well-known public data sets: where each is, what it weighs, what may be done with it, what it is good for.

Every address is pinned to one commit or revision, and so always gives the same bytes. Every file has its SHA-256, and the
most bytes that are accepted for it. A file without a published SHA-256 is not listed.
"""

from dataclasses import dataclass, replace

from .files import DataError
from .names import near


@dataclass(frozen=True)
class RemoteFile:
    """A file and the addresses that give it, in the order in which they are tried; sha256 in hexadecimal, size in bytes.

    No more bytes than `size` are downloaded.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    size: int


@dataclass(frozen=True)
class Dataset:
    """A data set. `text` is the file to train a language model on, if any; `separator` stands between its documents."""

    name: str
    description: str
    purpose: str
    licence: str
    files: tuple[RemoteFile, ...]
    text: str | None = None
    separator: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


def find_dataset(name: str) -> Dataset:
    """The data set of this name. Raises DataError with the names that there are."""
    if name not in DATASETS:
        raise DataError(f"no data set is called {name!r}: {near(name, DATASETS)}")
    return DATASETS[name]


def _github(where: str, path: str, sha256: str, size: int) -> RemoteFile:
    """A file of a public repository, `where` being owner/name@commit, and the mirror that jsDelivr keeps of it."""
    raw = f"https://raw.githubusercontent.com/{where.replace('@', '/')}/{path}"
    mirror = f"https://cdn.jsdelivr.net/gh/{where}/{path}"
    return RemoteFile(path.rsplit("/", 1)[-1], (raw, mirror), sha256, size)


def _hugging_face(where: str, path: str, sha256: str, size: int) -> RemoteFile:
    """A file of the Hugging Face hub, `where` being repository@revision, and its best-known mirror."""
    resolved = f"{where.replace('@', '/resolve/')}/{path}"
    urls = (f"https://huggingface.co/{resolved}", f"https://hf-mirror.com/{resolved}")
    return RemoteFile(path.rsplit("/", 1)[-1], urls, sha256, size)


def _files(where: tuple[str, str], *files: tuple[str, str, int], also: str | None = None) -> tuple[RemoteFile, ...]:
    """Files of one repository, (file name, SHA-256, bytes); `also` is where their publisher has them, tried first."""
    made = [_github(where[0], where[1] + name, sha256, size) for name, sha256, size in files]
    return tuple(replace(file, urls=(also + file.name, *file.urls)) if also else file for file in made)


_RASBT = "rasbt/LLMs-from-scratch@28c65cdfbc3338e2e040016eea4b7fdf556e4d57"
_WIKITEXT = "pytorch/examples@77f55b912142e11fcfdf5b530231fb9c52f181e8", "word_language_model/data/wikitext-2/"
_MULTI30K = "multi30k/dataset@a3d2e0d26b56f3846f66a952536ffed4e401d05a", "data/task1/raw/"
_SST2 = "clairett/pytorch-sentiment-classification@457ffd83de90a9d6d472d8ffc31bbffe40a8b236", "data/SST2/"
_SQUAD = "rajpurkar/SQuAD-explorer@eee5fdbf62f8613a7812b03419e6b29617b74fd1", "dataset/"
_E2E = "tuetschek/e2e-dataset@ab0d967dd5729ce455ef14ba9ffafc456a335264"
_DIALOGSUM = "cylnlp/dialogsum@848cc8c05e0a04def79326539de827f1b28786a0", "DialogSum_Data/dialogsum."
_SCITLDR = "allenai/scitldr@5ccad9c00a60ad75c9e04abf7f27d0f53f983b20", "SciTLDR-Data/SciTLDR-A/"
_TINYLLAMAS = "karpathy/tinyllamas@0bd21da7698eaf29a0d7de3992de8a46ef624add", "stories260K/"


DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "tinyshakespeare",
            "Forty thousand lines of Shakespeare's plays, 1.1 million characters of 65 kinds",
            "language modelling by characters",
            "public domain",
            (
                _github(
                    "karpathy/char-rnn@6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e",
                    "data/tinyshakespeare/input.txt",
                    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                    1_115_394,
                ),
            ),
            text="input.txt",
        ),
        Dataset(
            "tinystories",
            "22 thousand short stories in the words of a small child (the validation file of TinyStories)",
            "language modelling with simple English",
            "CDLA-Sharing-1.0",
            (
                _hugging_face(
                    "datasets/roneneldan/TinyStories@f54c09fd23315a6f9c86f9dc80f725de7d8f9c64",
                    "TinyStories-valid.txt",
                    "94e431816c4cce81ff71e4408ff8d3bda9a42e8d2663986697c3954288cb38b4",
                    19_447_282,
                ),
            ),
            text="TinyStories-valid.txt",
            separator="<|endoftext|>",
        ),
        Dataset(
            "wikitext-2",
            "Two million words of good Wikipedia articles, rare words replaced by <unk>",
            "language modelling, masked-language modelling (BERT), span corruption (T5)",
            "CC BY-SA 3.0",
            _files(
                _WIKITEXT,
                ("train.txt", "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f", 10_800_000),  # at most
                ("valid.txt", "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8", 1_121_681),
                ("test.txt", "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0", 1_256_449),
            ),
            text="train.txt",
        ),
        Dataset(
            "multi30k",
            "29 thousand descriptions of pictures, English and German, line by line",
            "translation (T5)",
            "for non-commercial research and education (Flickr30K)",
            _files(
                _MULTI30K,
                ("train.en.gz", "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f", 568_929),
                ("train.de.gz", "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6", 637_044),
                ("val.en.gz", "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28", 21_650),
                ("val.de.gz", "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a", 24_681),
                ("test_2016_flickr.en.gz", "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9", 21_077),
                ("test_2016_flickr.de.gz", "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8", 22_890),
            ),
        ),
        Dataset(
            "sst2",
            "9,613 sentences from film reviews and whether they praise (Stanford Sentiment Treebank); TSV",
            "classification of sentiment",
            "released by Stanford for research; no licence stated",
            _files(
                _SST2,
                ("train.tsv", "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920", 720_259),
                ("dev.tsv", "eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359", 92_057),
                ("test.tsv", "831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7", 188_749),
            ),
        ),
        Dataset(
            "sms-spam",
            "5,574 text messages, spam or not (Almeida & Gómez Hidalgo); TSV",
            "classification with unequal classes",
            "CC BY 4.0",
            (
                _github(
                    "krishnaik06/Huggingfacetransformer@8e97d009508252d1a31ac1fdbd2722f310d99d92",
                    "SMSSpamCollection",
                    "55341228082b25b832a5868a5ab4b038142a57f70c676c123280af6ff457fe46",
                    483_481,
                ),
            ),
        ),
        Dataset(
            "squad",
            "98 thousand questions on Wikipedia paragraphs, each answered by a stretch of the text (SQuAD 1.1); JSON",
            "question answering",
            "CC BY-SA 4.0",
            _files(
                _SQUAD,
                ("train-v1.1.json", "3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955", 30_288_272),
                ("dev-v1.1.json", "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9", 4_854_279),
                also="https://rajpurkar.github.io/SQuAD-explorer/dataset/",
            ),
        ),
        Dataset(
            "e2e-nlg",
            "50 thousand filled forms about restaurants and sentences that say the same; CSV",
            "text from forms, forms from text",
            "CC BY-SA 4.0",
            _files(
                (_E2E, ""),
                ("trainset.csv", "f27d48df45815288ab15619d47a79028c300fbb7f42e373668aba0b98c1d57c6", 9_340_189),
                ("devset.csv", "fc26b78cdb849c80545f513b223d1e051138b43882eeb79e3eb153e689c864f9", 1_161_305),
                ("testset_w_refs.csv", "edc8db685e39bb9824d5bd70c18b1c9b0412d14b527aa960e2d1c8251ee15ccd", 1_310_822),
            ),
        ),
        Dataset(
            "scitldr",
            "2,611 abstracts of papers and their gist in a sentence; JSON lines",
            "summarization, titles",
            "Apache-2.0",
            _files(
                _SCITLDR,
                ("train.jsonl", "b222771d387be585cfdf5ae957b36757138415a352e0a3e3b23f73f87c3b1119", 3_155_015),
                ("dev.jsonl", "3191fa98ccc09521332b7a1cd63b1930be4e8df125a235ccd31e40329709525e", 1_124_865),
            ),
        ),
        Dataset(
            "dialogsum",
            "2,000 conversations and what they were about (the development and test files); JSON lines",
            "summarization of dialogue",
            "CC BY-NC-SA 4.0 (non-commercial)",
            _files(
                _DIALOGSUM,
                # train.jsonl has no published SHA-256: get it by hand from the same folder
                ("dev.jsonl", "436721e0a3571eef7072964f80e042fb151d8c6178db1a688ce8f803bbf0a13f", 471_830),
                ("test.jsonl", "6de36eca7e7b9b10975fd5ea3f47391df172d8b3c15d03d84d763cbaab015fda", 639_707),
            ),
        ),
        Dataset(
            "dolly",
            "15 thousand instructions and answers written by people (databricks-dolly-15k); JSON lines",
            "instruction and conversation fine-tuning",
            "CC BY-SA 3.0",
            (
                _hugging_face(
                    "datasets/databricks/databricks-dolly-15k@bdd27f4d94b9c1f951818a7da7fd7aeea5dbff1a",
                    "databricks-dolly-15k.jsonl",
                    "2df9083338b4abd6bceb5635764dab5d833b393b55759dffb0959b6fcbf794ec",
                    13_085_339,
                ),
            ),
        ),
        Dataset(
            "instructions",
            "1,100 short instructions and answers (Raschka, Build a Large Language Model from Scratch); JSON",
            "instruction fine-tuning of a small model",
            "Apache-2.0",
            (
                _github(
                    _RASBT,
                    "ch07/01_main-chapter-code/instruction-data.json",
                    "7e09a9af353722ca15c18bc580f093f9c39d3178335a75177319cb1e1d163944",
                    203_524,
                ),
            ),
        ),
        Dataset(
            "gpt2-tokenizer",
            "GPT-2's byte-level BPE: its 50,257 tokens and the merges that make them",
            "encoding as GPT-2 does",
            "MIT (modified), OpenAI",
            _files(
                (_RASBT, "ch02/02_bonus_bytepair-encoder/gpt2_model/"),
                ("encoder.json", "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783", 1_042_301),
                ("vocab.bpe", "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5", 456_318),
                also="https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/",
            ),
        ),
        Dataset(
            "stories260k",
            "A LLaMA of 260 thousand parameters, trained on TinyStories (Karpathy, llama2.c): weights and tokenizer",
            "trying generation in a second",
            "MIT",
            tuple(
                _hugging_face(_TINYLLAMAS[0], _TINYLLAMAS[1] + name, sha256, size)
                for name, sha256, size in (
                    ("stories260K.bin", "b0a507e7ad0f626624f17112325e66691f9076d622e1d3274d103d00299f2696", 1_056_540),
                    ("tok512.bin", "037cb335abb25d1fa9e8ecae30ed2a3a8ace9302862ebcdc05d51a6bbb10c312", 6_227),
                )
            ),
        ),
    )
}
