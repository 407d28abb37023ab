"""Exports a model folder as ONNX, in the layout that transformers.js and ONNX Runtime read for text generation.

The inputs and outputs are those of optimum's task text-generation-with-past: `input_ids`, `attention_mask`, `position_ids` and
`past_key_values.{i}.key` and `.value` -> `logits` and `present.{i}.key` and `.value`. The past may be empty.

The graph is built here, node by node. torch.onnx.export (2.13, with onnxscript) writes the paths of this machine into the file,
names the axes s10 and s70 where transformers.js looks for batch_size, and makes another file with another version of PyTorch,
transformers or onnxscript. It takes 12 s in place of 0.3 s, and its graph 1.4 times as long for a token.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from ... import libraries
from ...checkpoint.atomic import new_file
from ...checkpoint.gpt2_config import POSITIONS, TOKENS, shapes
from ...checkpoint.model_folder import WEIGHTS_FILE, ModelFolder
from ...errors import CheckpointError
from ...model.config import GPT2Config
from ..registry import Exported
from .runtime_formats import ONNX_FP32, ONNX_INT8

OPSET, IR_VERSION = 20, 9  # of ONNX 1.15: the first with Gelu
_LOWEST = float(np.finfo(np.float32).min)
_INTEGERS, _SCALE = ".integers", ".scale"  # after the name of a weight
_ZERO = 128  # the uint8 that stands for 0 in a quantised matrix

Weights = Callable[[str], npt.NDArray[np.float32]]  # a tensor of a model, by its name


def export(folder: ModelFolder, output_dir: Path) -> Exported:
    """Write `folder` as `onnx/model.onnx` and `onnx/model_quantized.onnx`; see `FormatExporter`."""
    config = folder.config
    if not isinstance(config, GPT2Config):
        raise CheckpointError(
            f"{folder.path} can't be exported as ONNX: its architecture is {folder.architecture.display_name}, which "
            "transformers.js does not have. No file was written.",
            "Leave onnx out of formats.",
        )
    files = {name: output_dir / name for name in (ONNX_FP32, ONNX_INT8)}
    with ExitStack() as written, open_weights(folder) as weights:  # both files replace older ones, or none does
        for name, path in files.items():
            _write(written.enter_context(new_file(path)), _gpt2(config, weights, quantized=name == ONNX_INT8))
    return Exported(output_dir / "onnx", f'onnxruntime.InferenceSession("{files[ONNX_FP32]}")', files=files)


@contextmanager
def open_weights(folder: ModelFolder) -> Iterator[Weights]:
    """Read the tensors of a model one at a time: a large model is in memory only in part."""
    with safe_open(folder.path / WEIGHTS_FILE, "pt") as file:
        names = folder.architecture.config.stored_names(file.keys())
        yield lambda name: file.get_tensor(names[name]).float().numpy()


def _gpt2(config: GPT2Config, weights: Weights, *, quantized: bool) -> "_Graph":
    """The graph of a GPT-2.

    `quantized`: the matrices and the token embedding are in 8 bits, with one scale for each output, and their inputs are
    quantised as they are computed. Unsigned: signed ones saturate in ONNX Runtime's kernel for AVX2, unless they have 7 bits.
    onnxruntime.quantization has one scale for all of the token embedding: 0.002 more bits per byte in place of 0.0001.
    """
    graph = _Graph(config, weights, quantized)
    heads, size = config.n_head, config.n_embd // config.n_head
    mask = _attention_mask(graph)
    x = graph.op("Add", graph.token_embeddings("input_ids"), graph.op("Gather", graph.weight(POSITIONS), "position_ids"))
    split_heads, merge_heads = graph.constant([0, 0, heads, size]), graph.constant([0, 0, config.n_embd])
    scale = graph.constant(1 / math.sqrt(size), np.float32)
    for i in range(config.n_layer):
        block = f"transformer.h.{i}"
        qkv = graph.linear(graph.layer_norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn")
        query, key, value = (
            graph.op("Transpose", graph.op("Reshape", part, split_heads), perm=[0, 2, 1, 3])
            for part in graph.ops("Split", 3, qkv, axis=-1, num_outputs=3)
        )
        key = graph.op("Concat", f"past_key_values.{i}.key", key, axis=2, output=f"present.{i}.key")
        value = graph.op("Concat", f"past_key_values.{i}.value", value, axis=2, output=f"present.{i}.value")
        scores = graph.op("MatMul", graph.op("Mul", query, scale), graph.op("Transpose", key, perm=[0, 1, 3, 2]))
        attended = graph.op("MatMul", graph.op("Softmax", graph.op("Add", scores, mask), axis=-1), value)
        merged = graph.op("Reshape", graph.op("Transpose", attended, perm=[0, 2, 1, 3]), merge_heads)
        x = graph.op("Add", x, graph.linear(merged, f"{block}.attn.c_proj"))
        hidden = graph.linear(graph.layer_norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
        activated = graph.op("Gelu", hidden, approximate="tanh" if config.activation == "gelu_new" else "none")
        x = graph.op("Add", x, graph.linear(activated, f"{block}.mlp.c_proj"))
    graph.head(graph.layer_norm(x, "transformer.ln_f"), output="logits")
    return graph


def _attention_mask(graph: "_Graph") -> str:
    """(batch, 1, length, past + length): 0 where a token attends to another one, else the lowest number."""
    zero, one, rows = graph.constant(0), graph.constant(1), graph.constant([1])
    total = graph.op("Gather", graph.op("Shape", "attention_mask"), one)
    length = graph.op("Gather", graph.op("Shape", "input_ids"), one)
    columns = graph.op("Range", zero, total, one)
    positions = graph.op("Range", graph.op("Sub", total, length), total, one)
    causal = graph.op("LessOrEqual", columns, graph.op("Unsqueeze", positions, rows))
    present = graph.op(
        "Unsqueeze", graph.op("Cast", "attention_mask", to=libraries.onnx.TensorProto.BOOL), graph.constant([1, 2])
    )
    lowest, nothing = graph.constant(_LOWEST, np.float32), graph.constant(0, np.float32)
    return graph.op("Where", graph.op("And", present, causal), nothing, lowest)


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the file, whose values are computed when it is written."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    values: Callable[[], npt.NDArray[Any]]


@dataclass
class _Graph:
    """An ONNX graph that is being built. Methods append nodes, and return the name of their output."""

    config: GPT2Config
    weights: Weights
    quantized: bool
    nodes: list[Any] = field(default_factory=list)
    tensors: dict[str, _Tensor] = field(default_factory=dict)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return shapes(self.config)

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        return self._node(kind, inputs, [output or f"{kind.lower()}_{len(self.nodes)}"], attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """As `op`, for an operator with several outputs."""
        return self._node(kind, inputs, [f"{kind.lower()}_{len(self.nodes)}_{i}" for i in range(outputs)], attributes)

    def _node(self, kind: str, inputs: tuple[str, ...], outputs: list[str], attributes: dict[str, Any]) -> list[str]:
        self.nodes.append(libraries.onnx.helper.make_node(kind, inputs, outputs, outputs[0], **attributes))
        return outputs

    def constant(self, value: int | float | list[int], dtype: npt.DTypeLike = np.int64) -> str:
        array = np.array(value, dtype)
        return self._tensor(f"constant_{array.dtype.name}_{value}", array.shape, array.dtype, lambda: array)

    def weight(self, name: str) -> str:
        return self._tensor(name, self.shapes[name], np.dtype(np.float32), lambda: self.weights(name))

    def _tensor(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], values: Callable[[], npt.NDArray[Any]]) -> str:
        self.tensors[name] = _Tensor(shape, dtype, values)
        return name

    def layer_norm(self, x: str, name: str) -> str:
        inputs = [self.weight(part) for part in (f"{name}.weight", f"{name}.bias") if part in self.shapes]
        return self.op("LayerNormalization", x, *inputs, axis=-1, epsilon=self.config.layer_norm_epsilon)

    def linear(self, x: str, name: str) -> str:
        if self.quantized:
            product = self._integer_product(x, *self._quantized(f"{name}.weight", axis=0))
        else:
            product = self.op("MatMul", x, self.weight(f"{name}.weight"))
        return self.op("Add", product, self.weight(f"{name}.bias")) if f"{name}.bias" in self.shapes else product

    def token_embeddings(self, ids: str) -> str:
        """(batch, length, width)."""
        if not self.quantized:
            return self.op("Gather", self.weight(TOKENS), ids)
        rows, scales = self._quantized(TOKENS, axis=1)
        scale = self.op("Unsqueeze", self.op("Gather", scales, ids), self.constant([-1]))
        integers = self.op("Cast", self.op("Gather", rows, ids), to=libraries.onnx.TensorProto.FLOAT)
        return self.op("Mul", self.op("Sub", integers, self.constant(_ZERO, np.float32)), scale)

    def head(self, x: str, output: str) -> str:
        """The logits. The matrix is the token embedding, which is in the file once."""
        if not self.quantized:
            return self.op("MatMul", x, self.op("Transpose", self.weight(TOKENS), perm=[1, 0]), output=output)
        rows, scales = self._quantized(TOKENS, axis=1)
        return self._integer_product(x, self.op("Transpose", rows, perm=[1, 0]), scales, output)

    def _quantized(self, name: str, axis: int) -> tuple[str, str]:
        """The uint8 integers of a matrix, and their scales, one for each slice along `axis`."""
        shape = self.shapes[name]
        integers = self._tensor(f"{name}{_INTEGERS}", shape, np.dtype(np.uint8), lambda: _quantize(self.weights(name), axis)[0])
        scales = self._tensor(
            f"{name}{_SCALE}", shape[1 - axis : 2 - axis], np.dtype(np.float32), lambda: _quantize(self.weights(name), axis)[1]
        )
        return integers, scales

    def _integer_product(self, x: str, matrix: str, scales: str, output: str = "") -> str:
        """x times a quantised matrix (in, out): x is quantised with one scale for all of it, and the product is in int32."""
        integers, scale, zero = self.ops("DynamicQuantizeLinear", 3, x)
        product = self.op("MatMulInteger", integers, matrix, zero, self.constant(_ZERO, np.uint8))
        product = self.op("Cast", product, to=libraries.onnx.TensorProto.FLOAT)
        return self.op("Mul", product, self.op("Mul", scale, scales), output=output)

    def model(self) -> Any:
        """The ModelProto, without its tensors."""
        helper, proto = libraries.onnx.helper, libraries.onnx.TensorProto
        heads, size = self.config.n_head, self.config.n_embd // self.config.n_head

        def cache(prefix: str, length: str) -> list[Any]:
            return [
                helper.make_tensor_value_info(f"{prefix}.{i}.{part}", proto.FLOAT, ["batch_size", heads, length, size])
                for i in range(self.config.n_layer)
                for part in ("key", "value")
            ]

        total, length = "past_sequence_length + sequence_length", "sequence_length"
        inputs = [
            helper.make_tensor_value_info("input_ids", proto.INT64, ["batch_size", length]),
            helper.make_tensor_value_info("attention_mask", proto.INT64, ["batch_size", total]),
            helper.make_tensor_value_info("position_ids", proto.INT64, ["batch_size", length]),
            *cache("past_key_values", "past_sequence_length"),
        ]
        logits = helper.make_tensor_value_info("logits", proto.FLOAT, ["batch_size", length, self.config.vocab_size])
        graph = helper.make_graph(self.nodes, "gpt2", inputs, [logits, *cache("present", total)])
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="echoself-action")


def _write(file: IO[bytes], graph: _Graph) -> None:
    """Write a ModelProto tensor by tensor. onnx.save needs five times the memory of the weights."""
    onnx, model = libraries.onnx, graph.model()
    heads = {}
    for name, tensor in graph.tensors.items():
        head = onnx.TensorProto(name=name, dims=tensor.shape, data_type=onnx.helper.np_dtype_to_tensor_dtype(tensor.dtype))
        size = math.prod(tensor.shape) * tensor.dtype.itemsize
        content = head.SerializeToString(deterministic=True) + _field(onnx.TensorProto.RAW_DATA_FIELD_NUMBER, size)
        heads[name] = _field(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, len(content) + size) + content, size
    nodes = model.graph.SerializeToString(deterministic=True)
    model.ClearField("graph")
    file.write(model.SerializeToString(deterministic=True))
    total = len(nodes) + sum(len(head) + size for head, size in heads.values())
    file.write(_field(onnx.ModelProto.GRAPH_FIELD_NUMBER, total) + nodes)
    for name, (head, _) in heads.items():
        file.write(head)
        file.write(np.ascontiguousarray(graph.tensors[name].values()).data)


def _field(number: int, size: int) -> bytes:
    """What precedes a field of `size` bytes in protobuf's encoding: its number and wire type, and its size."""
    return _varint(number << 3 | 2) + _varint(size)


def _varint(value: int) -> bytes:
    """Seven bits in each byte, the lowest first."""
    digits = [value >> shift & 127 for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])


def _quantize(matrix: npt.NDArray[np.float32], axis: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """`matrix` is about (integers - 128) * scales, with one scale for each slice along `axis`."""
    scales = np.abs(matrix).max(axis, keepdims=True) / np.float32(127)
    scales[scales == 0] = 1
    return (np.rint(matrix / scales) + _ZERO).astype(np.uint8), scales.squeeze(axis)


def stored_weight(tensors: Mapping[str, Any], name: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The values of a weight in the TensorProtos of a file, and the step between two values that can be stored, 0 in fp32.

    Raises KeyError if the file does not have it.
    """
    to_array = libraries.onnx.numpy_helper.to_array
    if name in tensors:
        return to_array(tensors[name]), np.zeros(1, np.float32)
    step = to_array(tensors[f"{name}{_SCALE}"])
    if name == TOKENS:
        step = step[:, None]
    return (to_array(tensors[f"{name}{_INTEGERS}"]).astype(np.float32) - _ZERO) * step, step
