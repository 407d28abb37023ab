"""Pickles that would run code, or need much memory or time, if they were unpickled as usual."""

import builtins
import importlib
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from typing import Any

CANARY = "canary-of-the-reader"
RUN = f"touch {CANARY}"
CODE = f"open({CANARY!r}, 'w')"


class Asks:
    """An object whose pickle calls `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.reduced


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def short(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def called(module: str, name: str, argument: str) -> bytes:
    """GLOBAL and REDUCE, in protocol 2."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + text(argument) + b"\x85R."


STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")  # and how many numbers, and who reads it


def tensor(count: int, offset: bytes, shape: bytes, strides: bytes) -> bytes:
    """A state dict with one tensor of the record "0", of the given size, offset, shape and strides, each as opcodes."""
    storage = STORAGE + b"K" + bytes([count]) + b"tQ"
    made = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + strides + b"\x89}tR"
    return b"\x80\x02}" + text("a") + made + b"s."


def whole(number: int) -> bytes:
    return b"\x8a\x0a" + number.to_bytes(10, "little", signed=True)


# Hashes of whole numbers are the numbers, by a prime: a dict of these finds all of them in one place.
# What stands in the pickle once, and is made by each of these calls anew.
AGAIN = b"h\x00h\x01R" * 100_000
COLLIDING = b"".join(whole(i * (2**61 - 1)) + b"N" for i in range(1, 60_000))
DOUBLED = b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))

PICKLES: dict[str, bytes] = {
    "os.system": called("os", "system", RUN),
    "posix.system": called("posix", "system", RUN),
    "os.popen": called("os", "popen", RUN),
    "builtins.eval": called("builtins", "eval", CODE),
    "builtins.exec": called("builtins", "exec", CODE),
    "__builtin__.eval": called("__builtin__", "eval", CODE),
    "builtins.__import__": called("builtins", "__import__", "antigravity"),
    "builtins.open": called("builtins", "open", CANARY),
    "builtins.bytearray of much": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
    "importlib": called("importlib", "import_module", "antigravity"),
    "subprocess": called("subprocess", "getoutput", RUN),
    "runpy": called("runpy", "run_path", CANARY),
    "pty.spawn": called("pty", "spawn", RUN),
    "code": called("code", "interact", "x"),
    "torch.load": called("torch.serialization", "load", CANARY),
    "torch.hub": called("torch.hub", "load", "a/b"),
    "numpy.load": called("numpy", "load", CANARY),
    "pickle.loads": called("_pickle", "loads", RUN),
    "webbrowser": called("webbrowser", "open", "x"),
    "a dotted name": called("torch.serialization", "os.system", RUN),
    "a name under an allowed module": called("torch", "compile", RUN),
    "torch.Tensor of much": b"\x80\x02ctorch\nTensor\nJ\x00\xca\x9a\x3bJ\x00\xca\x9a\x3b\x86R.",
    "reduce, protocol 2": pickle.dumps({"model": Asks(os.system, RUN)}, 2),
    "reduce, protocol 4": pickle.dumps({"model": Asks(os.system, RUN)}, 4),
    "reduce, protocol 5": pickle.dumps({"model": Asks(os.system, RUN)}, 5),
    "reduce, protocol 0": pickle.dumps({"model": Asks(os.system, RUN)}, 0),
    "in a key": pickle.dumps({("a", Asks(builtins.eval, CODE)): 1}, 2),
    "nested": pickle.dumps({"model": {}, "config": [[{"a": (Asks(shutil.rmtree, "nowhere"),)}]]}, 2),
    "getattr chain": pickle.dumps(Asks(getattr, Asks(importlib.import_module, "os"), "system"), 2),
    "STACK_GLOBAL": b"\x80\x04" + short("os") + short("system") + b"\x93" + short(RUN) + b"\x85R.",
    "a name with line breaks": b"\x80\x04" + short("os") + short("a\n::error::b\x1b[2J") + b"\x93" + short(RUN) + b"\x85R.",
    "STACK_GLOBAL from the memo": b"\x80\x04"
    + short("system") + b"\x940" + short("os") + b"\x940" + b"h\x01h\x00\x93" + short(RUN) + b"\x85R.",
    "a name out of the memo": b"\x80\x02"
    + text("os") + b"q\x000" + b"h\x00" + text("system") + b"\x93" + text(RUN) + b"\x85R.",
    "INST": b"(" + text(RUN) + b"ios\nsystem\n.",
    "OBJ": b"(cos\nsystem\n" + text(RUN) + b"o.",
    "NEWOBJ": b"\x80\x02cos\nsystem\n" + text(RUN) + b"\x85\x81.",
    "NEWOBJ_EX": b"\x80\x04cos\nsystem\n" + text(RUN) + b"\x85}\x92.",
    "BUILD on a class": b"\x80\x02ccollections\nOrderedDict\n}" + text("__reduce__") + b"cos\nsystem\nsb.",
    "BUILD on a tensor function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}" + text("__code__") + text("x") + b"sb.",
    "EXT1": b"\x80\x02\x82\x01.",
    "PERSID": b"Pos.system\n.",
    "a persistent id that is none": b"\x80\x02" + text("storage") + b"Q.",
    "memo of what is not there": b"\x80\x02h\x63.",
    "nothing on the stack": b"\x80\x02R.",
    "no end": b"\x80\x02}",
    "empty pickle": b"",
    "a string": b"\x80\x02" + text("a string") + b".",
    "an opcode that is none": b"\x80\x02\xff.",
    "a length beyond the file": b"\x80\x02X\xff\xff\xff\x7fa.",
    "tuples in tuples": b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.",
    "more lists than any checkpoint": b"\x80\x02" + b"]" * (5 << 20) + b".",
    "an allowed function with nonsense": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x03tR.",
    "a NumPy array of much": b"\x80\x02cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x8a\x05\x00\x00\x00\x00\x10\x85"
    + b"U\x01b\x87R.",
    "a NumPy array of much, called": b"\x80\x02cnumpy\nndarray\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
    "a NumPy array of much, made new": b"\x80\x02cnumpy\nndarray\n\x8a\x05\x00\x00\x00\x00\x10\x85\x81.",
    "a dtype that is evaluated": b"\x80\x02cnumpy\ndtype\n" + text("(" * 50 + "2" + ")" * 50 + "f8") + b"\x85R.",
    "a dtype of objects": b"\x80\x02cnumpy\ndtype\n" + text("O8") + b"\x85R.",
    "a codec that loads a module": b"\x80\x02c_codecs\nencode\n" + text("a" * 9) + text("idna") + b"\x86R.",
    "a codec with a name that leads out": b"\x80\x02c_codecs\nencode\n" + text("a") + text("..antigravity") + b"\x86R.",
    "getattr by NumPy's name": called("numpy._core.multiarray", "scalar.__class__", RUN),
    "a tensor as function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + text(RUN) + b"\x85R)R.",
    "operator.attrgetter": called("operator", "attrgetter", "system"),
    "operator.methodcaller": called("operator", "methodcaller", "system"),
    "functools.partial": called("functools", "partial", RUN),
    "types.CodeType": called("types", "CodeType", RUN),
    "marshal.loads": called("marshal", "loads", RUN),
    "ctypes.CDLL": called("ctypes", "CDLL", "libc.so.6"),
    "socket.create_connection": called("socket", "create_connection", "127.0.0.1"),
    "urllib.request.urlopen": called("urllib.request", "urlopen", "http://127.0.0.1:9/"),
    "asyncio subprocess": called("asyncio", "create_subprocess_shell", RUN),
    "multiprocessing": called("multiprocessing.util", "spawnv_passfds", RUN),
    "timeit": called("timeit", "timeit", CODE),
    "cProfile": called("cProfile", "run", CODE),
    "pdb": called("pdb", "run", CODE),
    "bdb": called("bdb.Bdb", "run", CODE),
    "doctest": called("doctest", "debug_script", CODE),
    "logging.config": called("logging.config", "fileConfig", CANARY),
    "torch's own exec": called("torch.fx.graph_module", "_exec_with_source", CODE),
    "torch.utils.collect_env": called("torch.utils.collect_env", "run", RUN),
    "torch.jit": called("torch.jit", "load", CANARY),
    "torch.ops": called("torch", "ops.load_library", CANARY),
    "torch's old unpickler": called("torch._utils", "_rebuild_tensor", RUN),
    "a sparse tensor": called("torch._utils", "_rebuild_sparse_tensor", RUN),
    "an attribute of an allowed function": called("torch._utils", "_rebuild_tensor_v2.__globals__", RUN),
    "the memo, overwritten": b"\x80\x02ccollections\nOrderedDict\nq\x000cos\nsystem\nq\x000h\x00" + text(RUN) + b"\x85R.",
    "after the end": b"\x80\x02}.cos\nsystem\n" + text(RUN) + b"\x85R.",
    "popped": b"\x80\x02cos\nsystem\n" + text(RUN) + b"\x85R0}.",
    "two protocols": b"\x80\x02}0\x80\x04" + short("os") + short("system") + b"\x93" + short(RUN) + b"\x85R.",
    "a tuple of twice a tuple": b"\x80\x02})" + DOUBLED + b"K\x01s.",
    "a tuple of twice a tuple, called": b"\x80\x02)" + DOUBLED + b")R.",
    "a list in itself": b"\x80\x02]q\x00h\x00a)R.",
    "a state dict whose items are none": b"\x80\x02}" + text("model_state_dict") + b"ccollections\nOrderedDict\n)R}"
    + text("items") + b"K\x01sb" + text("step") + b"K\x01" + text("loss") + b"K\x01" + b"u.".replace(b"u", b"ss"),
    "a text that is much when it is encoded again": b"\x80\x02c_codecs\nencode\nq\x00"
    + text("a" * 100_000) + text("latin1") + b"\x86q\x01" + AGAIN + b".",
    "sizes that are much when they are copied again": b"\x80\x02ctorch\nSize\nq\x00]("
    + b"K\x01" * 100_000 + b"e\x85q\x01" + AGAIN + b".",
    "numbers of much text, again": b"\x80\x02cnumpy._core.multiarray\nscalar\nq\x00cnumpy\ndtype\n"
    + text("S9999") + b"\x85Rc_codecs\nencode\n" + text("a" * 9999) + text("latin1") + b"\x86R\x86q\x01" + AGAIN + b".",
    "a tensor of much too many sides": tensor(2, b"K\x00", *[b"(" + whole(2**61) * 100_000 + b"t"] * 2),
    "a memo with room for much more": b"\x80\x02}r\xff\xff\xff\x3f.",
    "keys that are all in one place": b"\x80\x02}(" + COLLIDING + b"u.",
    "BUILD on a function": b"\x80\x02ctorch._utils\n_rebuild_parameter\n}" + text("__name__") + text("x") + b"sb.",
    "BUILD with slots on a function": b"\x80\x02ctorch._utils\n_rebuild_parameter\nN}" + text("__defaults__") + b")s\x86b.",
    "BUILD on a type of numbers": b"\x80\x02ctorch\nFloatStorage\n}" + text("names") + text("x") + b"sb.",
    "items of a function": b"\x80\x02ctorch\nSize\nK\x01a.",
    "items of a tensor": tensor(2, b"K\x00", b"K\x01\x85", b"K\x01\x85")[:-2] + b"K\x00K\x00ss.",
    "a tensor before its record": tensor(2, whole(-1), b"K\x01\x85", b"K\x01\x85"),
    "a tensor behind its record": tensor(2, b"K\x02", b"K\x01\x85", b"K\x01\x85"),
    "a tensor that goes backwards": tensor(2, b"K\x00", b"K\x01\x85", whole(-1) + b"\x85"),
    "a tensor with steps out of its record": tensor(2, b"K\x00", b"K\x02\x85", b"K\x02\x85"),
    "a tensor with steps beyond memory": tensor(2, b"K\x00", b"K\x02\x85", whole(2**62) + b"\x85"),
    "a tensor of more sides than steps": tensor(2, b"K\x00", b"K\x01K\x02\x86", b"K\x01\x85"),
    "a tensor of sides that are none": tensor(2, b"K\x00", b"G\x3f\xf0" + bytes(6) + b"\x85", b"K\x01\x85"),
    "a tensor of no storage": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00K\x01\x85K\x01\x85\x89}tR.",
    "a tensor of more numbers than its record has": tensor(2, b"K\x00", b"K\x03\x85", b"K\x01\x85"),
    "a storage of more numbers than its record has": tensor(4, b"K\x00", b"K\x01\x85", b"K\x01\x85"),
    "a tensor with no record": tensor(2, b"K\x00", b"K\x01\x85", b"K\x01\x85").replace(text("0"), text("7")),
    "a storage outside of the file": tensor(2, b"K\x00", b"K\x01\x85", b"K\x01\x85").replace(text("0"), text("../version")),
    "a dtype of another byte order": b"\x80\x02cnumpy\ndtype\n" + text("f8") + b"\x85R(K\x03" + text(">") + b"NNNtb.",
    "a scalar of no dtype": b"\x80\x02cnumpy._core.multiarray\nscalar\n" + text("f8") + text("a" * 8) + b"\x86R.",
    "OrderedDict of attributes": b"\x80\x02ccollections\nOrderedDict\n)R}" + text("items") + b"cos\nsystem\nsb.",
    "a frame of much": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
    "bytes of much more than the file": b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x00.",
    "a bytearray of much more than the file": b"\x80\x05\x96\xff\xff\xff\xff\x0f\x00\x00\x00.",
    "bytes of a length that is much": called("builtins", "bytes", "")[:-9] + b"\x8a\x05\x00\x00\x00\x00\x10\x85R.",
    "an out-of-band buffer": b"\x80\x05\x97.",
    "STACK_GLOBAL, protocol 5": b"\x80\x05" + short("os") + short("system") + b"\x93" + short(RUN) + b"\x85R.",
    "STACK_GLOBAL of a computed name": b"\x80\x04" + short("os") + b"c__main__\nsystem\n\x93" + short(RUN) + b"\x85R.",
    "a function of a foreign module": called("__main__", "train", RUN),
    "a dotted name below an allowed one": called("collections", "OrderedDict.fromkeys", RUN),
    "a foreign name that leads out": b"\x80\x04" + short("evil.os") + short("..system") + b"\x93.",
    "NEWOBJ of a class of the system": b"\x80\x02csubprocess\nPopen\n" + text(RUN) + b"\x85\x81.",
    "NEWOBJ of a known function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + text(RUN) + b"\x85\x81.",
    "an object of object": b"\x80\x02ccopyreg\n_reconstructor\ncbuiltins\nobject\n" + b"cbuiltins\nobject\nN\x87R.",
    "the attribute of a function": b"\x80\x02cbuiltins\ngetattr\ncos\nsystem\n" + text("__call__")
    + b"\x86R" + text(RUN) + b"\x85R.",
    "the attribute of a known function": b"\x80\x02cbuiltins\ngetattr\nctorch._utils\n_rebuild_tensor_v2\n"
    + text("__globals__") + b"\x86R.",
    "an object that is called": b"\x80\x02c__main__\nConfig\n)\x81" + text(RUN) + b"\x85R.",
    "an object whose state sets methods": b"\x80\x02c__main__\nConfig\n)\x81}" + text("__setstate__") + b"cos\nsystem\nsb.",
    "state for a class": b"\x80\x02c__main__\nConfig\n}" + text("class_name") + text("x") + b"sb.",
    "an object in itself": b"\x80\x02c__main__\nConfig\n)\x81q\x00}" + text("self") + b"h\x00sb.",
    "a class for each of much more names": b"\x80\x02]("
    + b"".join(b"c__main__\nC%d\n" % i for i in range(100_000)) + b"e.",
    "elements that are all in one place": b"\x80\x04\x8f("
    + b"".join(whole(i * (2**61 - 1)) for i in range(1, 60_000)) + b"\x90.",
    "a frozen set of elements in one place": b"\x80\x04("
    + b"".join(whole(i * (2**61 - 1)) for i in range(1, 60_000)) + b"\x91.",
    "an array of a state that is much, again": b"\x80\x03cnumpy._core.multiarray\n_reconstruct\nq\x00"
    + b"cnumpy\nndarray\nq\x01K\x00\x85C\x01b\x87q\x02(K\x01J\xa0\x86\x01\x00\x85cnumpy\ndtype\n" + text("u1") + b"\x85R\x89"
    + b"B\xa0\x86\x01\x00" + bytes(100_000) + b"tq\x03" + b"h\x00h\x02Rh\x03b" * 50_000 + b".",
    "an array of a size that is much": b"\x80\x05cnumpy._core.numeric\n_frombuffer\n(C\x01acnumpy\ndtype\n"
    + text("u1") + b"\x85R" + whole(2**40) + b"\x85" + text("C") + b"tR.",
    "a tensor of attributes by another function": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\n"
    + b"ctorch\nTensor\n" + text(RUN) + b"\x85}tR.",
    "sets of much, again": b"\x80\x02cbuiltins\nset\nq\x00](" + b"K\x01" * 100_000 + b"e\x85q\x01" + AGAIN + b".",
    "a node of OmegaConf in itself": b"\x80\x02comegaconf.listconfig\nListConfig\n)\x81q\x00}" + text("_content")
    + b"]h\x00asb.",
    "a memo of much": b"\x80\x04}" + b"\x94" * (4_000_000) + b".",
    "counts of keys in one place": b"\x80\x02ccollections\nCounter\n]("
    + b"".join(b"]" + whole(i * (2**61 - 1)) + b"aK\x01a" for i in range(1, 60_000)) + b"e\x85R.",
    "a set of much text": b"\x80\x02cbuiltins\nset\n" + text("a" * 3_000_000) + b"\x85R.",
    "an object in an object in an object": b"\x80\x02"
    + (b"c__main__\nA\n)\x81}" + text("a")) * 100_000 + b"N" + b"sb" * 100_000 + b".",
    "an array of nothing, often": b"\x80\x03cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"
    + whole(2**40) + b"\x85cnumpy\ndtype\n" + text("S0") + b"\x85R\x89C\x00tb.",
}  # fmt: skip
