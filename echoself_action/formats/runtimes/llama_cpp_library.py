"""llama.cpp as a library: the C functions of llama.h that compute logits and token ids, called with ctypes.

The wheel of xllamacpp has them beside its server. The server's HTTP answers have log-probabilities as JSON, megabytes for each
position of a large vocabulary; the functions give the logits themselves. Their structs are those of the pinned version, and
`LlamaCpp` compares the default values with the ones expected before it passes them on.
"""

import ctypes
import os
from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int, c_int8, c_int32, c_size_t, c_uint32, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import libraries

Array = npt.NDArray[np.float32]

_F32, _F16 = 0, 1  # ggml_type
_NO_FLASH_ATTENTION = 0  # llama_flash_attn_type
_Evaluated = ctypes.CFUNCTYPE(c_bool, c_void_p, c_bool, c_void_p)  # (tensor, whether it is asked for, user data)


class _ModelParams(Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("devices", "tensor_buft_overrides")),
        *((name, c_int32) for name in ("n_gpu_layers", "split_mode", "load_mode", "lazy_mode", "main_gpu")),
        *((name, c_void_p) for name in ("tensor_split", "progress_callback", "progress_user_data", "kv_overrides")),
        *((name, c_bool) for name in ("vocab_only", "check_tensors", "use_extra_bufts", "no_host", "no_alloc", "load_mtp")),
    )


class _ContextParams(Structure):
    _fields_ = (
        *((name, c_uint32) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq")),
        *((name, c_uint32) for name in ("n_outputs_max", "n_outputs_max_per_seq")),
        *((name, c_int32) for name in ("n_threads", "n_threads_batch")),
        *((name, c_int) for name in ("ctx_type", "rope_scaling_type", "pooling_type", "attention_type", "flash_attn_type")),
        *((name, c_float) for name in ("rope_freq_base", "rope_freq_scale", "yarn_ext_factor", "yarn_attn_factor")),
        *((name, c_float) for name in ("yarn_beta_fast", "yarn_beta_slow")),
        *(("yarn_orig_ctx", c_uint32), ("defrag_thold", c_float), ("cb_eval", _Evaluated), ("cb_eval_user_data", c_void_p)),
        *(("type_k", c_int), ("type_v", c_int), ("moe_cache_size", c_size_t)),
        *(("abort_callback", c_void_p), ("abort_callback_data", c_void_p)),
        *((name, c_bool) for name in ("embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified")),
        *(("samplers", c_void_p), ("n_samplers", c_size_t), ("ctx_other", c_void_p)),
    )


class _Batch(Structure):
    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


# Fields all over the structs: an offset that is wrong shows here, not as a crash or as a wrong setting.
_MODEL_DEFAULTS = {"n_gpu_layers": -1, "split_mode": 1, "main_gpu": 0, "kv_overrides": None, "use_extra_bufts": True}
_CONTEXT_DEFAULTS = {
    **{"n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "n_threads": 4, "n_threads_batch": 4},
    **{"flash_attn_type": -1, "yarn_ext_factor": -1.0, "type_k": _F16, "type_v": _F16},
    **{"offload_kqv": True, "op_offload": True, "n_samplers": 0, "ctx_other": None},
}
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_backend_init": (None, ()),
    "llama_model_default_params": (_ModelParams, ()),
    "llama_context_default_params": (_ContextParams, ()),
    "llama_model_load_from_file": (c_void_p, (c_char_p, _ModelParams)),
    "llama_model_get_vocab": (c_void_p, (c_void_p,)),
    "llama_vocab_n_tokens": (c_int32, (c_void_p,)),
    "llama_tokenize": (c_int32, (c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool)),
    "llama_init_from_model": (c_void_p, (c_void_p, _ContextParams)),
    "llama_free": (None, (c_void_p,)),
    "llama_batch_init": (_Batch, (c_int32, c_int32, c_int32)),
    "llama_batch_free": (None, (_Batch,)),
    "llama_decode": (c_int32, (c_void_p, _Batch)),
    "llama_get_logits_ith": (POINTER(c_float), (c_void_p, c_int32)),
    "ggml_op_desc": (c_char_p, (c_void_p,)),
    "ggml_nbytes": (c_size_t, (c_void_p,)),
    "ggml_backend_tensor_get": (None, (c_void_p, c_void_p, c_size_t, c_size_t)),
}


class LlamaCppError(Exception):
    """llama.cpp refuses a file, or is not the expected version. Its log says why."""


class LlamaCpp:
    """The GGUF file at `path` in llama.cpp, on the CPU. llama.cpp logs to stderr.

    It has one thread: several wait for each other in loops, which takes ten times as long on a machine with other load.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(libraries.xllamacpp.xllamacpp.__file__)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        self._library.llama_backend_init()
        params = self._library.llama_model_default_params()
        _expect(params, _MODEL_DEFAULTS)
        params.n_gpu_layers = 0  # macOS's wheel has Metal
        self._model = self._library.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise LlamaCppError(f"llama.cpp can't load {path}")
        self._vocab = self._library.llama_model_get_vocab(self._model)
        self.vocab_size: int = self._library.llama_vocab_n_tokens(self._vocab)

    def tokenize(self, text: str) -> list[int]:
        """The ids of a prompt, as llama.cpp's server encodes it: with a begin-of-text token, if the file asks for one."""
        data = text.encode()
        ids = (c_int32 * (len(data) + 8))()
        count = self._library.llama_tokenize(self._vocab, data, len(data), ids, len(ids), True, True)
        if count < 0:
            raise LlamaCppError(f"llama.cpp has {-count} ids for a text of {len(data)} bytes")
        return list(ids[:count])

    def logits(self, token_ids: npt.NDArray[np.int64]) -> Array:
        """(length, vocab_size) logits after each of `token_ids` (1-D), with llama.cpp's default settings."""
        return self._run(token_ids, self._params(len(token_ids)))

    def exact_logits(self, token_ids: npt.NDArray[np.int64]) -> tuple[Array, Array]:
        """The logits with keys and values in fp32 and without flash attention, and (layers, length, n_inner) values of GELU."""
        params = self._params(len(token_ids))
        params.type_k = params.type_v = _F32
        params.flash_attn_type = _NO_FLASH_ATTENTION
        gelus: list[Array] = []

        def evaluated(tensor: int, asked_for: bool, _: int) -> bool:
            if asked_for:
                return b"GELU" in self._library.ggml_op_desc(tensor)
            values = np.empty(self._library.ggml_nbytes(tensor) // 4, np.float32)
            self._library.ggml_backend_tensor_get(tensor, values.ctypes.data, 0, values.nbytes)
            gelus.append(values.reshape(len(token_ids), -1))
            return True

        params.cb_eval = _Evaluated(evaluated)
        return self._run(token_ids, params), np.stack(gelus)

    def _params(self, length: int) -> _ContextParams:
        params: _ContextParams = self._library.llama_context_default_params()
        _expect(params, _CONTEXT_DEFAULTS)
        params.n_ctx = params.n_batch = params.n_ubatch = length
        params.n_threads = params.n_threads_batch = 1
        return params

    def _run(self, token_ids: npt.NDArray[np.int64], params: _ContextParams) -> Array:
        context = self._library.llama_init_from_model(self._model, params)
        if not context:
            raise LlamaCppError("llama.cpp can't start with this model")
        batch = self._library.llama_batch_init(len(token_ids), 0, 1)
        try:
            batch.n_tokens = len(token_ids)
            for position, token in enumerate(token_ids.tolist()):
                batch.token[position], batch.pos[position], batch.logits[position] = token, position, 1
                batch.n_seq_id[position], batch.seq_id[position][0] = 1, 0
            if code := self._library.llama_decode(context, batch):
                raise LlamaCppError(f"llama_decode of {len(token_ids)} tokens ends with {code}")
            rows = (self._library.llama_get_logits_ith(context, index) for index in range(len(token_ids)))
            return np.stack([np.ctypeslib.as_array(row, (self.vocab_size,)).copy() for row in rows])
        finally:
            self._library.llama_batch_free(batch)
            self._library.llama_free(context)


def _expect(params: Structure, defaults: dict[str, Any]) -> None:
    found = {name: getattr(params, name) for name in defaults}
    if found != defaults:
        raise LlamaCppError(f"this version of llama.cpp has other structs: {found} instead of {defaults}")
