"""What a general compressor needs for the held-out text after it has read the training text: a figure to compare a model with.

The compressor is PPMd, variant H of 7-Zip, which predicts each byte from those before it, with contexts of up to `ORDER` bytes.
It also learns from the held-out text while it reads it, which a trained model does not.
"""

from .. import libraries

ORDER = 12  # bytes; of 4 to 12, the lowest on documentation and within 0.3 % of it on prose
NAME = f"PPMd, the text compressor of 7-Zip (order {ORDER})"
_MEMORY = 32  # bytes for each byte of text; 24 were enough for all texts measured, and with 16 PPMd forgets what it has read
_LEAST_MEMORY = 1 << 20  # bytes
LARGEST = 8_000_000  # bytes of text in both splits, which take 3 s and 256 MB of memory


class CollectedText:
    """The bytes of a text, kept only up to `LARGEST`."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        self.size += len(part)
        self._parts.append(part)
        if self.size > LARGEST:
            self._parts.clear()

    def __bytes__(self) -> bytes:
        return b"".join(self._parts)


def ppmd_bits_per_byte(train: CollectedText, held_out: CollectedText) -> float | None:
    """Bits for each byte of `held_out` after `train`.

    None if both have more than `LARGEST` bytes together, if one has none, or if the memory is missing.
    """
    if not train.size or not held_out.size or train.size + held_out.size > LARGEST:
        return None
    try:
        return round(added_bits_per_byte(bytes(train), bytes(held_out)), 6)
    except MemoryError:  # not a reason to end a run
        return None


def added_bits_per_byte(
    train: bytes, held_out: bytes, order: int = ORDER, memory: int | None = None, variant: str = "H"
) -> float:
    """The bits that each byte of `held_out` adds to the compressed size of `train`. `memory`, in bytes: None for enough."""
    memory = memory or max(_LEAST_MEMORY, _MEMORY * (len(train) + len(held_out)))
    sizes = [
        len(libraries.pyppmd.compress(text, max_order=order, mem_size=memory, variant=variant))
        for text in (train, train + held_out)
    ]
    return 8 * (sizes[1] - sizes[0]) / len(held_out)
