"""Hugging Face models from their configurations, random weights, no download: how much of each is predicted.

Needs `pip install lensnet[transformers]`. GPT-2 is measured too; the others are imported and predicted.
"""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import lensnet

try:
    import transformers
except ImportError:
    print("this example needs transformers: pip install lensnet[transformers]")
    raise SystemExit from None

transformers.logging.set_verbosity_error()
SMALL: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}

MODELS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "GPT-2": (
        lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=2, n_embd=64, n_head=4, vocab_size=2000)),
        (4, 16),
    ),
    "Llama": (
        lambda: transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**SMALL, num_key_value_heads=2, vocab_size=300, max_position_embeddings=64)
        ),
        (4, 16),
    ),
    "BERT": (
        lambda: transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=300), add_pooling_layer=False),
        (4, 16),
    ),
    "ViT": (
        lambda: transformers.ViTModel(
            transformers.ViTConfig(**SMALL, image_size=32, patch_size=8), add_pooling_layer=False
        ),
        (4, 3, 32, 32),
    ),
    "T5 encoder": (
        lambda: transformers.T5EncoderModel(
            transformers.T5Config(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, vocab_size=300)
        ),
        (4, 16),
    ),
}

print(f"{'model':<12}{'parameters':>12}{'components':>12}{'predicted':>11}")
for name, (make, size) in MODELS.items():
    found = lensnet.summary(make(), input_size=size, measure=False)
    if found.report is None:
        print(f"{name:<12}  {found.reason}")
        continue
    covered = found.report.coverage
    print(f"{name:<12}{found.total:>12,}{covered.components:>12}{len(covered.predicted):>11}")

print()
make, size = MODELS["GPT-2"]
print(lensnet.summary(make(), input_size=size, seeds=4, most_seeds=4, depth=2))
