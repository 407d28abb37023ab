"""The interface of the C library for ctypes: `csrc/api.h`, struct by struct."""

import ctypes
from collections.abc import Callable, Sequence
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_void_p
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_Fields = list[tuple[str, type]]

VECTORS = "ln_1_weight ln_1_bias ln_2_weight ln_2_bias attn_bias attn_proj_bias fc_bias mlp_proj_bias"
WEIGHTS = "attn_weight attn_proj_weight fc_weight mlp_proj_weight"


def _of(kind: type, names: str) -> _Fields:
    return [(name, kind) for name in names.split()]


class BlockTensors(ctypes.Structure):
    _fields_ = _of(c_void_p, f"{VECTORS} {WEIGHTS}")


class Tensors(ctypes.Structure):
    _fields_ = [*_of(c_void_p, "wte wpe ln_f_weight ln_f_bias"), ("blocks", POINTER(BlockTensors))]


class Gpt2(ctypes.Structure):
    _fields_ = [
        *_of(c_int32, "layers heads width vocab_size positions tanh"),
        *_of(c_float, "epsilon dropout"),
        ("weights", Tensors),
    ]


class Batch(ctypes.Structure):
    _fields_ = [*_of(c_int32, "sequences length threads"), *_of(c_void_p, "ids targets seeds")]


class Gradients(ctypes.Structure):
    _fields_ = [("to", Tensors), ("scale", c_float), ("accumulate", c_int32)]


class MuonStep(ctypes.Structure):
    _fields_ = [
        *_of(c_int32, "count rows columns side_by_side steps threads"),
        *_of(c_void_p, "coefficients parameters momenta gradients"),
        *_of(c_float, "momentum rate decay gradient_scale"),
    ]


class AdamWStep(ctypes.Structure):
    _fields_ = [
        *_of(c_int32, "count threads"),
        *_of(c_void_p, "sizes parameters means squares gradients decays mean_corrections square_corrections"),
        *_of(c_float, "rate beta_1 beta_2 epsilon gradient_scale"),
    ]


class LinearLayer(ctypes.Structure):
    _fields_ = [
        *_of(c_int32, "rows inputs outputs threads"),
        *_of(c_void_p, "x weight bias y grad_y grad_x grad_weight grad_bias"),
    ]


class CausalAttention(ctypes.Structure):
    _fields_ = [
        *_of(c_int32, "sequences length heads width threads"),
        *_of(c_float, "dropout"),
        *_of(c_void_p, "seeds qkv thresholds y logsumexp grad_y grad_qkv grad_thresholds"),
    ]


class PersonaTensors(ctypes.Structure):
    _fields_ = _of(
        c_void_p,
        "in_weight in_bias ln_weight ln_bias out_weight out_bias gate_in_weight gate_in_bias gate_out_weight gate_out_bias",
    )


class Persona(ctypes.Structure):
    _fields_ = [
        *_of(c_int32, "rows width threads"),
        *_of(c_float, "share epsilon"),
        ("weights", PersonaTensors),
        ("gradients", PersonaTensors),
        *_of(c_void_p, "x y hidden gate_hidden transform gate grad_y grad_x"),
    ]


class LayerNormLayer(ctypes.Structure):
    _fields_ = [
        *_of(c_int32, "rows width threads"),
        ("epsilon", c_float),
        *_of(c_void_p, "x weight bias y grad_y grad_x grad_weight grad_bias"),
    ]


class RunningMean(ctypes.Structure):
    _fields_ = [*_of(c_int32, "sequences length width threads"), *_of(c_void_p, "x y grad_y grad_x")]


class CrossEntropy(ctypes.Structure):
    _fields_ = [
        *_of(c_int32, "rows width vocab_size threads"),
        ("scale", c_float),
        *_of(c_void_p, "x weight targets losses grad_x grad_weight"),
    ]


Layer = LinearLayer | CausalAttention | Persona | LayerNormLayer | RunningMean | CrossEntropy


def _layer(name: str, struct: type[Layer]) -> list[tuple[str, type]]:
    """The functions of a layer's kernel, of which the first returns how much memory it needs."""
    memory = CFUNCTYPE(c_size_t, POINTER(struct))
    return [(f"{name}_memory", memory), (name, CFUNCTYPE(None, POINTER(struct), c_void_p))]


class Kernels(ctypes.Structure):
    """The functions for an instruction set."""

    _fields_ = [
        ("losses_memory", CFUNCTYPE(c_size_t, POINTER(Gpt2), POINTER(Batch))),
        ("gradients_memory", CFUNCTYPE(c_size_t, POINTER(Gpt2), POINTER(Batch))),
        ("losses", CFUNCTYPE(c_int32, POINTER(Gpt2), POINTER(Batch), c_void_p, c_void_p)),
        ("gradients", CFUNCTYPE(c_int32, POINTER(Gpt2), POINTER(Batch), POINTER(Gradients), c_void_p, c_void_p)),
        ("muon_memory", CFUNCTYPE(c_size_t, POINTER(MuonStep))),
        ("muon", CFUNCTYPE(None, POINTER(MuonStep), c_void_p)),
        ("adamw", CFUNCTYPE(None, POINTER(AdamWStep))),
        ("sum_of_squares", CFUNCTYPE(c_double, c_void_p, c_void_p, c_int32, c_int32)),
        ("peak", CFUNCTYPE(c_double, c_int64)),
        *_layer("linear", LinearLayer),
        *_layer("attention", CausalAttention),
        *_layer("persona", Persona),
        *_layer("layer_norm", LayerNormLayer),
        *_layer("running_mean", RunningMean),
        *_layer("cross_entropy", CrossEntropy),
    ]
    losses_memory: Callable[[Gpt2, Batch], int]
    gradients_memory: Callable[[Gpt2, Batch], int]
    losses: Callable[[Gpt2, Batch, int, int], int]
    gradients: Callable[[Gpt2, Batch, Gradients, int, int], int]
    muon_memory: Callable[[MuonStep], int]
    muon: Callable[[MuonStep, int], None]
    adamw: Callable[[AdamWStep], None]
    sum_of_squares: Callable[[Any, Any, int, int], float]
    peak: Callable[[int], float]
    linear_memory: Callable[[LinearLayer], int]
    linear: Callable[[LinearLayer, int], None]
    attention_memory: Callable[[CausalAttention], int]
    attention: Callable[[CausalAttention, int], None]
    persona_memory: Callable[[Persona], int]
    persona: Callable[[Persona, int], None]
    layer_norm_memory: Callable[[LayerNormLayer], int]
    layer_norm: Callable[[LayerNormLayer, int], None]
    running_mean_memory: Callable[[RunningMean], int]
    running_mean: Callable[[RunningMean, int], None]
    cross_entropy_memory: Callable[[CrossEntropy], int]
    cross_entropy: Callable[[CrossEntropy, int], None]


# in the order of echoself_struct_sizes
_STRUCTS = (
    BlockTensors,
    Tensors,
    Gpt2,
    Batch,
    Gradients,
    MuonStep,
    AdamWStep,
    LinearLayer,
    CausalAttention,
    PersonaTensors,
    Persona,
    LayerNormLayer,
    RunningMean,
    CrossEntropy,
    Kernels,
)


def addresses(tensors: "Sequence[Tensor]") -> ctypes.Array[c_void_p]:
    """The addresses of tensors, which must be contiguous and outlive the array."""
    return (c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))


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


def instruction_sets(library: ctypes.CDLL) -> list[str]:
    """The instruction sets that `library` was compiled for, the best ones first. Raises AttributeError for another library."""
    function = library.echoself_instruction_sets
    function.restype, function.argtypes = c_char_p, []
    return str(function().decode()).split()


def kernels(library: ctypes.CDLL, instruction_set: str) -> Kernels | None:
    """The kernels of `library` for an instruction set; None if this CPU doesn't have it. Raises AttributeError for another
    library."""
    function = library.echoself_kernels
    function.restype, function.argtypes = POINTER(Kernels), [c_char_p]
    found = function(instruction_set.encode())
    return found.contents if found else None
