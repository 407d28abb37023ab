"""The interface of the C library for ctypes: `csrc/api.h`, struct by struct and function by function."""

import ctypes
from ctypes import POINTER, c_char_p, c_float, c_int, c_int32, c_size_t, c_void_p

VECTORS = "ln_1_weight ln_1_bias ln_2_weight ln_2_bias attn_bias attn_proj_bias fc_bias mlp_proj_bias"
WEIGHTS = "attn attn_proj fc mlp_proj"

_Fields = list[tuple[str, type]]


def _integers(names: str) -> _Fields:
    return [(name, c_int32) for name in names.split()]


def _pointers(names: str) -> _Fields:
    return [(name, c_void_p) for name in names.split()]


class BlockStruct(ctypes.Structure):
    _fields_ = [
        *_integers("batch length width heads tanh threads"),
        ("epsilon", c_float),
        *_pointers(f"{VECTORS} {WEIGHTS}"),
    ]


class Activations(ctypes.Structure):
    _fields_ = _pointers("x mid y qkv logsumexp attn_out fc_out")


class Gradients(ctypes.Structure):
    _fields_ = _pointers(f"y x {VECTORS} {WEIGHTS}")


class LmHead(ctypes.Structure):
    _fields_ = [
        *_integers("rows width padded_vocab vocab_size threads"),
        *_pointers("x weight targets logits losses grad_x grad_weight"),
    ]


class NewtonSchulz(ctypes.Structure):
    _fields_ = [*_integers("count rows columns steps threads"), *_pointers("x coefficients")]


_STRUCTS = (BlockStruct, Activations, Gradients, LmHead, NewtonSchulz)  # in the order of echoself_struct_sizes
_FUNCTIONS: dict[str, tuple[type | None, list[type]]] = {
    "echoself_pack": (None, [c_void_p, c_int, c_int, c_int, c_void_p]),
    "echoself_block_forward_scratch": (c_size_t, [POINTER(BlockStruct)]),
    "echoself_block_backward_scratch": (c_size_t, [POINTER(BlockStruct)]),
    "echoself_block_forward": (None, [POINTER(BlockStruct), POINTER(Activations), c_void_p]),
    "echoself_block_backward": (None, [POINTER(BlockStruct), POINTER(Activations), POINTER(Gradients), c_void_p]),
    "echoself_lm_head_scratch": (c_size_t, [POINTER(LmHead)]),
    "echoself_lm_head": (c_int32, [POINTER(LmHead), c_void_p]),
    "echoself_newton_schulz_scratch": (c_size_t, [POINTER(NewtonSchulz)]),
    "echoself_newton_schulz": (None, [POINTER(NewtonSchulz), c_void_p]),
}


def sources_digest(library: ctypes.CDLL) -> str:
    """The digest of the sources that `library` was compiled from. Raises AttributeError for a library that has none."""
    function = library.echoself_sources_digest
    function.restype, function.argtypes = c_char_p, []
    return str(function().decode())


def has_our_structs(library: ctypes.CDLL) -> bool:
    """Whether the structs of `library` have the sizes of those here."""
    function, sizes = library.echoself_struct_sizes, POINTER(c_size_t)()
    function.restype, function.argtypes = c_int32, [POINTER(POINTER(c_size_t))]
    count = function(ctypes.byref(sizes))
    return sizes[:count] == [ctypes.sizeof(struct) for struct in _STRUCTS]


def declare(library: ctypes.CDLL) -> None:
    """Declare the types of all functions. Raises AttributeError if one is missing."""
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
