"""Names of settings in GPT trainers, nanoGPT's forks first, and the values with which the forward pass is GPT-2's.

Patterns are searched in lower case with `_` for `-` and `.`. The tables are tried in the order of this file.
"""

import re
from typing import Any

EXACT, TANH = "gelu", "gelu_new"  # transformers' names of GELU and of its tanh approximation


def _names(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


# Names of the two in several libraries. gelu_fast is the tanh form, factored otherwise.
GELUS = dict.fromkeys(("gelu", "gelu_exact", "gelu_erf", "gelu_python", "exact", "erf", "none"), EXACT)
GELUS |= dict.fromkeys(("gelu_new", "new_gelu", "newgelu", "gelu_tanh", "tanh_gelu", "gelu_pytorch_tanh", "gelu_fast"), TANH)
GELUS |= dict.fromkeys(("gelu_approx", "gelu_approximate", "approximate", "tanh", "gelu_accurate", "gelu_python_tanh"), TANH)

# Training, and how the same numbers are computed. The first table, because `activation_checkpointing` is not an activation.
INERT = _names(
    r"drop_?(out|path|rate|prob)|pdrop|layer_?drop|(^|_)drop$",
    r"checkpoint|recompute|remat|compile|(^|_)jit|flash|sdpa|xformers|triton|(^|_)fused?(_|$)|implementation$|_impl$",
    r"^(init|initializer|initialization)_|(^|_)init($|_(std|scale|range|fn|gain|method|type))|(^|_)std$",
    r"(^|_)(loss|ckpt|label_smoothing|ignore_index|grad|gradient|gradients|optim\w*|lr|eval|val|data|dataset)(_|$)",
    r"^(log|track|print|monitor|plot|save|wandb|sample|generate|generation)_",
    r"(^|_)(ddp|fsdp|(data|tensor|pipeline|sequence|model|context)_parallel)(_|$)",
)
ACTIVATION = _names(
    r"^((mlp|ffn?|hidden)_)?(activation|act|nonlinearity|nonlin|non_linearity)(_(function|fn|func|type|name|variant))?$"
)
# which GELU it is, as a word or as a switch for the tanh form
APPROXIMATE = _names(r"^(use_|gelu_)*(approximate|approximation|approx|tanh|new)(_gelu)?$", r"^gelu_type$")
EXACT_SWITCH = _names(r"^(use_)?exact_gelu$")
EPSILON = _names(r"^(layer_?norm|ln|norm)_eps(ilon)?$", r"^eps(ilon)?$")
TIED = _names(
    r"^(use_)?(tie|tied|tying|share|shared)_(word_|input_output_|io_)?(weights?|emb\w*|lm_head|head)(_\w*)?$",
    r"^(weight|embedding|emb)_(tying|sharing)$",
)

# Parts that GPT-2 lacks. Such a part is absent if its switch is off, and then its other settings mean nothing.
SWITCH = _names(r"^(use|enable|with|has|do)_|_enabled?$", r"^(rope|rotary|alibi|moe|mup|quantization|qat|softcap)$")
WINDOW, SCALES, EXPERTS, REPEATS = "an attention window", "scaled activations", "experts", "repeated layers"
FAMILIES = {  # a name belongs to the first that it matches
    "maximal update parametrisation": _names(r"(^|_)mu_?p(_|$)"),
    "rotary embeddings": _names(r"(^|_)(rope|rotary|ro_pe|xpos|yarn)(_|$)"),
    "ALiBi": _names(r"alibi"),
    "relative positions": _names(
        r"(^|_)rel(ative)?_(pos\w*|attn|attention|bias)", r"(^|_)t5_(bias|rel\w*)", r"(^|_)no_?pe(_|$)"
    ),
    EXPERTS: _names(r"(^|_)(moe|experts?|mixture_of_experts|router|routing|capacity_factor)(_|$)"),
    "capped logits": _names(
        r"soft_?cap", r"(^|_)(logits?|attn|attention|scores?|tanh)_(cap|clip)\w*$", r"^cap_(logits|attn)\w*$"
    ),
    "normalised queries": _names(
        r"(^|_)qkv?_?(layer_?|rms_?|l2_?)?(norm|ln)", r"(^|_)norm(ali[sz]ed?)?_(qk|q_k|queries)", r"(^|_)(q|k)_(norm|ln)(_|$)"
    ),
    WINDOW: _names(
        r"(^|_)(sliding|swa|local_att\w*|local_window|att\w*_window\w*)(_|$)",
        r"(^|_)window_(size|length|pattern|layers|attention|attn)s?$|^(use_)?window(ed|s)?(_attention|_attn)?$",
        r"(^|_)(sparse|block_sparse|dilated|strided|linear|global)_att\w*",
    ),
    "attention sinks": _names(
        r"(^|_)(att\w*_sinks?|n_?sinks?|sink_tokens?|(n_|num_)?(register|memory|mem)_tokens|mem_len)(_|$)"
    ),
    "attention to later tokens": _names(
        r"(^|_)(bidirectional|bi_?dir\w*|non_?causal|prefix_lm|encoder_only|full_attention)(_|$)"
    ),
    "attention with fewer keys": _names(r"(^|_)(mqa|gqa|mla|(multi|grouped)_query\w*|multi_latent\w*|kv_lora_rank)(_|$)"),
    "another activation": _names(
        r"(^|_)(relu|relu2|relu_?sq\w*|sq(uared)?_?relu|squared_relu|leaky_relu|silu|swish|mish|quick_gelu|crelu|xielu)(_|$)"
    ),
    "cross attention": _names(r"(^|_)(cross_attn|cross_attention)(_|$)"),
    "differential attention": _names(r"(^|_)diff(erential)?_(attn|attention|transformer)(_|$)"),
    "another softmax": _names(r"softmax_?(1|one|off|plus)\w*", r"off_by_one|entmax|sparsemax|(^|_)(relu|sigmoid)_att\w*"),
    "attention scaled by layer": _names(r"inverse_layer", r"scale_att\w*_by"),
    SCALES: _names(
        r"(^|_)(att\w*|query|q|qk|softmax|embd?|embed\w*|resid\w*|branch|depth|layer|logits?|output|head|lm_head|width)"
        r"_?(scale|scaling|scaler|multiplier|mult|gain|temperature|alpha)(_factor)?$",
        r"^(use_)?scale_(emb\w*|resid\w*|logits?|output|depth|branch|by_\w+|head|width)$",
    ),
    "a gated MLP": _names(r"(^|_)(swi|ge|re|bi|xi)?_?glu(_|$)", r"(^|_)gated$|(^|_)gated?_(mlp|ffn?|attn|attention)$"),
    "parallel blocks": _names(r"(^|_)parallel_(block|resid\w*|att\w*|mlp|ff\w*)", r"(^|_)gpt_?j_resid"),
    "another normalisation": _names(
        r"(^|_)(rms|rms_?norm|rms_?ln|scale_?norm|dyt|dynamic_tanh|deep_?norm|(group|batch|weight|power)_?norm)(_|$)",
        r"(^|_)(sandwich|peri|sub|post|no|extra|double|output|embed\w*|emb|embd)_?(ln|norm|layer_?norm)(_|$)",
        r"^normali[sz]e_(weights|emb\w*|hidden|output|residual)",
        r"(^|_)n_?gpt(_|$)",
    ),
    REPEATS: _names(
        r"(^|_)((layer|block|cross_layer|param(eter)?)s?_shar\w+|share_(layers|blocks|param\w*|attn|attention|kv|mlp)\w*)",
        r"(^|_)((n|num)_loops?|looped|loop_(layers|blocks|count)|(layer|block)s?_repeats?|repeat_(layers|blocks)|albert)(_|$)",
        r"(^|_)(universal_transformer|depth_recurren\w+|recurren\w+_(depth|layers|blocks|steps))(_|$)",
        r"(^|_)(mixture_of_depths|early_exit|adaptive_(depth|computation\w*)|ponder)(_|$)",
    ),
    "other connections": _names(
        r"(^|_)(value_resid\w*|value_emb\w*|u_?net|skip_(conn\w*|weights?|layers?)|hyper_?conn\w*|embed_skip|layer_?scale)(_|$)",
        r"(^|_)(smear|token_shift|conv1d|mamba|ssm|short_conv|causal_conv|rwkv|retnet|hyena|bigram\w*|dense_?former)(_|$)",
    ),
    "quantised weights": _names(
        r"(^|_)(quant|quanti[sz]e\w*|quanti[sz]ation\w*|qat|bitnet|ternary|binari\w+|w_bits|a_bits)(_|$)"
    ),
}

KEY_HEADS = _names(r"^(n|num)_(kv|key_value)_heads?$", r"^(n_head_kv|kv_heads?|n_query_groups|num_query_groups|n_kv)$")
HEAD_SIZE = _names(r"^(head_dim|head_size|d_head|dim_head|d_k|d_v|d_kv|kv_channels|n_embd_per_head)$")

# Parts that GPT-2 has, with the values that mean GPT-2's kind of it.
_USUAL: frozenset[Any] = frozenset({True, "standard", "default"})
_CAUSAL = {"causal", "mha", "multihead", "multi_head", "full", "self", "vanilla", "softmax", "dense", "causal_self_attention"}
_KERNELS = {"flash", "sdpa", "math", "eager", "flash_attention", "flash_attention_2", "flash_attn"}
STANDARD: tuple[tuple[re.Pattern[str], frozenset[Any]], ...] = (
    (_names(r"^(is_|use_)?causal(_mask|_attention|_attn|_masking)?$", r"^decoder_only$", r"^auto_?regressive$"), _USUAL),
    (_names(r"^((attn|attention)_)?mask(_(type|kind|mode))?$"), _USUAL | {"causal", "tril", "lower_triangular"}),
    (_names(r"^(use_)?scale_att\w*$"), _USUAL),
    (_names(r"(^|_)(pre_?(norm|ln|layer_?norm)|norm(alize)?_(first|before))$"), _USUAL | {"pre"}),
    (
        _names(r"^(norm|ln|layer_?norm)_(position|placement|order|style)$"),
        _USUAL | {"pre", "pre_norm", "prenorm", "pre_ln", "preln", "before"},
    ),
    (
        _names(
            r"^(use_)?(norm|normali[sz]ation|layer_?norm)$",
            r"^(norm|normali[sz]ation|layer_?norm|ln)_(type|layer|class|fn|kind|variant\w*)$",
        ),
        _USUAL | {"layernorm", "layer_norm", "ln", "layer"},
    ),
    (
        _names(
            r"^(use_)?((learned|learnable|abs|absolute)_)?pos(ition|itional)?(_(emb\w*|enc\w*))?(_(type|kind|method|variant))?$",
            r"^(pe|pe_type|use_wpe|wpe)$",
        ),
        _USUAL | {"learned", "learnt", "learnable", "absolute", "abs", "wpe", "embedding"},
    ),
    (_names(r"^(self_)?att(n|ention)?(_(type|kind|class|variant|pattern|mechanism|fn|mode))?$"), _USUAL | _CAUSAL | _KERNELS),
    (_names(r"^(mlp|ffn?|feed_?forward)(_(type|kind|class|variant))?$"), _USUAL | {"mlp", "gelu", "dense"}),
    (_names(r"^softmax(_(type|fn|kind|variant\w*))?$"), _USUAL | {"softmax"}),
    (_names(r"^(use_)?(residual|residual_(type|connections?))$"), _USUAL | {"add"}),
)

# Only among the settings of a model, which are all expected to be known: sizes that the tensors show, ids, names, training.
MODEL_TYPE = _names(r"^(model_type|model_class|architecture|arch)$")
INERT_IN_A_MODEL = _names(
    r"^(bias|dropout)$",  # nanoGPT's own, read with the sizes
    r"^(device\w*|dtype|torch_dtype|precision|amp|backend|use_cache|kv_cache|max_batch\w*|name|model_name|version|notes?)$",
    r"^(transformers_version|architectures|_name_or_path|dataset|data_dir|tokenizer\w*|init_from|meta_vocab_size)$",
    r"^(pad|padding|eos|bos|eot|unk|sep|mask|end_of_text)(_token)?(_id|_idx|_index)$",
    r"^(batch_size|gradient_accumulation_steps|max_iters|max_steps|epochs?|num_epochs|learning_rate|weight_decay|betas?\d?)$",
    r"^((log|eval|wandb|save|out|warmup)_\w+|seed|always_save_checkpoint|n_params|num_params|param_count)$",
    r"^(n_(inner|hidden|ffn?)|d_ff|dff|d_inner|(ffn?|ffw|mlp|hidden)_(dim|size|hidden\w*|mult\w*|ratio)|intermediate_size|dim_feedforward)$",
    r"^(feed_?forward_(dim|size)|expansion(_factor)?|padded_vocab_size|vocab_pad\w*|lora_\w+)$",
    r"^(qkv|attn|attention|mlp|ffn?|proj|linear|ln|norm|layer_?norm|use|add|with|c_attn|c_proj|c_fc)_bias$",
)
