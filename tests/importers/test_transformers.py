"""Hugging Face models, built from a configuration with random weights; skipped where transformers is absent."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers", reason="the extra lensnet[transformers] is not installed")

from lensnet.importers.capture import capture  # noqa: E402
from lensnet.importers.summary import summary  # noqa: E402

transformers.logging.set_verbosity_error()


def gpt2() -> Any:
    config = transformers.GPT2Config(n_layer=2, n_embd=64, n_head=4, vocab_size=2000, n_positions=32)
    return transformers.GPT2LMHeadModel(config)


def llama() -> Any:
    config = transformers.LlamaConfig(
        num_hidden_layers=2, hidden_size=64, num_attention_heads=4, num_key_value_heads=2, vocab_size=300,
        intermediate_size=128, max_position_embeddings=64,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def bert() -> Any:
    config = transformers.BertConfig(
        num_hidden_layers=2, hidden_size=64, num_attention_heads=4, vocab_size=300, intermediate_size=128
    )
    return transformers.BertModel(config, add_pooling_layer=False)


def vit() -> Any:
    config = transformers.ViTConfig(
        num_hidden_layers=2, hidden_size=64, num_attention_heads=4, intermediate_size=128, image_size=32, patch_size=8
    )
    return transformers.ViTModel(config, add_pooling_layer=False)


def mamba() -> Any:
    config = transformers.MambaConfig(hidden_size=64, num_hidden_layers=2, vocab_size=300, state_size=8)
    return transformers.MambaForCausalLM(config)


def mamba2() -> Any:
    config = transformers.Mamba2Config(
        hidden_size=64, num_hidden_layers=2, vocab_size=300, state_size=16, num_heads=8, head_dim=16, n_groups=1,
        chunk_size=8,
    )  # fmt: skip
    return transformers.Mamba2ForCausalLM(config)


def xlnet() -> Any:
    config = transformers.XLNetConfig(vocab_size=300, d_model=64, n_layer=2, n_head=4, d_inner=128)
    return transformers.XLNetModel(config)


def deberta() -> Any:
    config = transformers.DebertaV2Config(
        num_hidden_layers=2, hidden_size=64, num_attention_heads=4, vocab_size=300, intermediate_size=128,
        relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=16, norm_rel_ebd="layer_norm",
        share_att_key=True, position_biased_input=False, type_vocab_size=0,
    )  # fmt: skip
    return transformers.DebertaV2Model(config)


MODELS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "gpt2": (gpt2, (4, 12)),
    "llama": (llama, (4, 12)),
    "bert": (bert, (4, 12)),
    "vit": (vit, (4, 3, 32, 32)),
    "mamba": (mamba, (4, 12)),
    "mamba2": (mamba2, (4, 12)),
    "xlnet": (xlnet, (4, 12)),
    "deberta": (deberta, (4, 12)),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_component_is_modelled_and_agrees(name: str) -> None:
    factory, size = MODELS[name]
    torch.manual_seed(0)
    found = summary(factory(), size, seeds=8, most_seeds=16)
    assert found.report is not None and found.imported is not None, found.reason
    items = found.imported.draft.items
    opaque = [item for item in items if item.component.startswith("opaque")]
    assert len(opaque) <= 0.05 * len(items), [item.reason for item in opaque]
    rows = [row for row in found.rows if row.view == "local" and row.verdict != "not-modelled"]
    bad = [(row.component, row.quantity, row.direction, row.port) for row in rows if row.verdict == "deviates"]
    assert len(bad) <= 0.02 * len(rows), bad


def test_the_graph_gives_the_logits_of_the_model() -> None:
    model = llama().eval()
    ids = torch.randint(300, (2, 10), generator=torch.Generator().manual_seed(0))
    captured = capture(model, (), {"input_ids": ids})
    got = torch.fx.Interpreter(captured.graph).run(*captured.values())[0]
    with torch.no_grad():
        assert torch.allclose(got, model(input_ids=ids, use_cache=False).logits, atol=1e-6)
