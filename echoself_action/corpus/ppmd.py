"""What a general compressor needs for the held-out text after it has read the training text: a figure to compare a model with.

The compressor is PPMd, variant H of 7-Zip, which predicts each byte from those before it, with contexts of up to `ORDER` bytes.
It also learns from the held-out text while it reads it, which a trained model does not.
"""

from .. import libraries

ORDER = 12  # bytes; of 4 to 12, the lowest on documentation and within 0.3 % of it on prose
MEMORY = 256  # MiB; LARGEST bytes of text need less, so nothing is forgotten
NAME = f"PPMd, the text compressor of 7-Zip (order {ORDER}, {MEMORY} MiB)"
LARGEST = 16_000_000  # bytes of text in both splits, which take 5 s, and never more than half a minute


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
    """Bits for each byte of `held_out` after `train`; None if both have more than `LARGEST` bytes together, or one has none."""
    if not train.size or not held_out.size or train.size + held_out.size > LARGEST:
        return None
    return round(added_bits_per_byte(bytes(train), bytes(held_out)), 6)


def added_bits_per_byte(train: bytes, held_out: bytes, order: int = ORDER, memory: int = MEMORY, variant: str = "H") -> float:
    """The bits that each byte of `held_out` adds to the compressed size of `train`."""
    sizes = [
        len(libraries.pyppmd.compress(text, max_order=order, mem_size=memory << 20, variant=variant))
        for text in (train, train + held_out)
    ]
    return 8 * (sizes[1] - sizes[0]) / len(held_out)
