"""The families of Hugging Face checkpoints that tinyllm reads and writes: all that is particular to one, as a table."""

from collections.abc import Sequence
from typing import Any

from .decoders import GPT2, LLAMA, MISTRAL, OPT, PHI3, QWEN2, QWEN3
from .encoders import BERT, DISTILBERT, ROBERTA
from .family import Family, Named
from .t5 import MT5, T5

FAMILIES = (GPT2, BERT, ROBERTA, DISTILBERT, T5, MT5, LLAMA, MISTRAL, QWEN2, QWEN3, PHI3, OPT)

# What any config.json may hold beside its family's fields
FIXED: dict[str, Sequence[Any]] = {
    "quantization_config": (None,),
    "pruned_heads": (None, {}),
    "is_encoder_decoder": (False,),
}
UNUSED = {
    "architectures", "model_type", "transformers_version", "_name_or_path", "name_or_path", "dtype", "torch_dtype",
    "use_cache", "gradient_checkpointing", "chunk_size_feed_forward", "output_attentions", "output_hidden_states",
    "return_dict", "is_decoder", "bos_token_id", "task_specific_params", "id2label", "label2id", "_num_labels", "num_labels",
    "problem_type", "attn_implementation", "_attn_implementation", "auto_map", "use_bfloat16", "torchscript",
    "is_llama_config", "transformers.js_config",
}  # fmt: skip

__all__ = [
    "BERT",
    "DISTILBERT",
    "FAMILIES",
    "FIXED",
    "GPT2",
    "LLAMA",
    "MISTRAL",
    "MT5",
    "OPT",
    "PHI3",
    "QWEN2",
    "QWEN3",
    "ROBERTA",
    "T5",
    "UNUSED",
    "Family",
    "Named",
]
