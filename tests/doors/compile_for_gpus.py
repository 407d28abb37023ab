"""Compiles a Triton kernel for GPUs, without one: image.yml runs this in the image for GPUs, from which files were removed."""

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

CAPABILITIES = {"T4": 75, "A100": 80, "H100": 90, "B200": 100}


@triton.jit
def kernel(x, n, block: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.program_id(0) * block + tl.arange(0, block)
    tl.store(x + i, tl.exp(tl.load(x + i, mask=i < n)), mask=i < n)


if __name__ == "__main__":
    signature = {"x": "*fp32", "n": "i32", "block": "constexpr"}
    for name, capability in CAPABILITIES.items():
        source = ASTSource(fn=kernel, signature=signature, constexprs={"block": 256})
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        print(f"{name}: {len(compiled.asm['cubin'])} bytes")
