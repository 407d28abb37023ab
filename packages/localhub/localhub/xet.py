"""Xet's formats, as far as an upload needs them: a shard names the chunks of each file, a xorb is a file of chunks.

huggingface.co/docs/xet specifies both. Here they only carry an upload: the files are put together at once and stored as any
other large file, under their sha256, so no hash of Xet's own has to be computed.
"""

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .refusal import Refusal, bad_request
from .tree import Pointer

MAX_XORB_SIZE = 64 * 1024**2 + 1024**2  # bytes: 64 MiB by specification, and the footer that some clients append
MAX_SHARD_SIZE = 64 * 1024**2
_MAX_CHUNK_SIZE = 1024**2  # 128 KiB by specification
_TAG = b"HFRepoMetaData"
_HEADER_SIZE = 48
_END = b"\xff" * 32  # in place of a hash: the last entry of a list
_FILE = struct.Struct("<32sII8x")  # hash, flags, number of segments
_SEGMENT = struct.Struct("<32s4xIII")  # hash of its xorb, bytes, first chunk, the chunk after the last
_VERIFICATION_SIZE = 48
_METADATA = struct.Struct("<32s16x")  # sha256
_HAS_VERIFICATION, _HAS_METADATA = 1 << 31, 1 << 30
_CHUNK = struct.Struct("<B3sB3s")  # version, stored bytes, compression, bytes
_PLAIN, _LZ4, _GROUPED_LZ4 = range(3)


@dataclass(frozen=True)
class Segment:
    """Consecutive chunks of one xorb, with `size` bytes together."""

    xorb: str
    size: int
    first: int
    stop: int


@dataclass(frozen=True)
class XetFile:
    pointer: Pointer
    segments: tuple[Segment, ...]


def read_shard(shard: bytes) -> list[XetFile]:
    """The files of a shard. Raises Refusal (400)."""
    if not shard.startswith(_TAG):
        raise bad_request("This is not a shard of Xet")
    files: list[XetFile] = []
    position = _HEADER_SIZE
    try:
        while True:
            name, flags, count = _FILE.unpack_from(shard, position)
            if name == _END:
                return files
            position += _FILE.size
            if count * _SEGMENT.size > len(shard):
                raise bad_request("The shard is damaged: a file has more segments than the shard has room for")
            segments = []
            for _ in range(count):
                xorb, size, first, stop = _SEGMENT.unpack_from(shard, position)
                segments.append(Segment(_hex(xorb), size, first, stop))
                position += _SEGMENT.size
            position += count * _VERIFICATION_SIZE if flags & _HAS_VERIFICATION else 0
            if not flags & _HAS_METADATA:
                raise bad_request(f"The file {_hex(name)} has no sha256, by which this Hub stores files")
            (digest,) = _METADATA.unpack_from(shard, position)
            position += _METADATA.size
            files.append(XetFile(Pointer(_hex(digest), sum(segment.size for segment in segments)), tuple(segments)))
    except struct.error:
        raise bad_request("The shard is damaged: it ends too early") from None


class Xorbs:
    """The xorbs of one upload, in a folder. Remembers where their chunks start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starts: dict[str, array[int]] = {}

    def content(self, file: XetFile) -> Iterator[bytes]:
        """A file, chunk by chunk. Raises Refusal (400) if a xorb or a chunk is missing or damaged."""
        for segment in file.segments:
            starts = self._starts.get(segment.xorb)
            path = self._folder / segment.xorb
            try:
                with path.open("rb") as xorb:
                    if starts is None:
                        starts = self._starts[segment.xorb] = array("Q", _starts(path))
                    if not segment.first < segment.stop <= len(starts):
                        raise bad_request(f"The xorb {segment.xorb} has {len(starts)} chunks, not {segment.stop}")
                    xorb.seek(starts[segment.first])
                    for _ in range(segment.first, segment.stop):
                        stored, compression, size = _sizes(xorb.read(_CHUNK.size))
                        yield _decoded(xorb.read(stored), compression, size)
            except FileNotFoundError:
                raise bad_request(f"The xorb {segment.xorb} was not uploaded, or is gone: upload the files again") from None

    def delete(self, files: list[XetFile]) -> None:
        """Delete those that the files are made of."""
        for name in {segment.xorb for file in files for segment in file.segments}:
            (self._folder / name).unlink(missing_ok=True)


def _starts(path: Path) -> Iterator[int]:
    """Where each chunk of a xorb starts. What is behind the chunks, if anything, has another version."""
    position, end = 0, path.stat().st_size
    with path.open("rb") as xorb:
        while (header := xorb.read(_CHUNK.size)) and header[0] == 0:
            stored, _, _ = _sizes(header)
            if position + _CHUNK.size + stored > end:
                raise bad_request(f"The xorb {path.name} is damaged: it ends too early")
            yield position
            position = xorb.seek(position + _CHUNK.size + stored)


def _sizes(header: bytes) -> tuple[int, int, int]:
    """The bytes that a chunk takes in its xorb, its compression, and its bytes."""
    if len(header) != _CHUNK.size:
        raise bad_request("A xorb is damaged: it ends within a chunk")
    _, stored, compression, size = _CHUNK.unpack(header)
    return int.from_bytes(stored, "little"), compression, int.from_bytes(size, "little")


def _decoded(stored: bytes, compression: int, size: int) -> bytes:
    if size > _MAX_CHUNK_SIZE:
        raise bad_request(f"A chunk of {size} bytes is too large")
    if compression == _PLAIN:
        data = stored
    elif compression in (_LZ4, _GROUPED_LZ4):
        data = _decompressed(stored, size)
    else:
        raise Refusal(
            400, f"This Hub can't read compression {compression} of Xet: set HF_HUB_DISABLE_XET=1 in the client's environment"
        )
    if len(data) != size:
        raise bad_request(f"A chunk is damaged: it has {len(data)} bytes instead of {size}")
    return _ungrouped(data) if compression == _GROUPED_LZ4 else data


def _decompressed(stored: bytes, size: int) -> bytes:
    from lz4.frame import LZ4FrameDecompressor  # here, because a Hub to which nobody uploads so need not load it

    try:
        data: bytes = LZ4FrameDecompressor().decompress(stored, size + 1)
    except RuntimeError:
        raise bad_request("A chunk is damaged: its compression is not that of LZ4") from None
    return data


def _ungrouped(data: bytes) -> bytes:
    """Undo the grouping of bytes: all first bytes of numbers of four bytes, then all second ones, and so on."""
    result, start = bytearray(len(data)), 0
    for offset in range(4):
        count = len(range(offset, len(data), 4))
        result[offset::4] = data[start : start + count]
        start += count
    return bytes(result)


def _hex(name: bytes) -> str:
    """Xet writes a hash as four numbers of eight bytes, in hex."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", name))
