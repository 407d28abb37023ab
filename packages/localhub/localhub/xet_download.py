"""Downloads by Xet: any large file, cut into chunks of one size when it is asked for.

To a client, the hash of a file is no more than the name by which it asks for it: here it is the sha256, since Xet's own would
take a reading of the whole file. A xorb is a stretch of the file, with the header of Xet before each chunk, and exists only in
the response that sends it.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHUNK = 64 * 1024  # bytes, the average of Xet
XORB_CHUNKS = 512  # 32 MiB, half of what a xorb may have
_READ_CHUNKS = 4  # at once: a client asks for dozens of ranges in parallel
_HEADER_SIZE = 8
_FRAME = _HEADER_SIZE + CHUNK  # a chunk as it is sent


def xorb_size(size: int, number: int) -> int:
    """The bytes of xorb 0, 1, ... of a file of `size` bytes, with the headers; 0 if the file has no such xorb."""
    content = max(0, min(size - number * XORB_CHUNKS * CHUNK, XORB_CHUNKS * CHUNK))
    return content + -(-content // CHUNK) * _HEADER_SIZE


def plan(oid: str, size: int, start: int, stop: int, url: str) -> dict[str, Any]:
    """How to put bytes `start` to `stop` of a file together: terms, and for each xorb where to get it, at `url`/number."""
    first, end = start // CHUNK, -(-stop // CHUNK)  # chunks of the file
    terms, fetch_info = [], {}
    for number in range(first // XORB_CHUNKS, (end - 1) // XORB_CHUNKS + 1):
        before = number * XORB_CHUNKS
        chunks = {"start": max(first - before, 0), "end": min(end - before, XORB_CHUNKS)}
        length = min(size, (before + chunks["end"]) * CHUNK) - (before + chunks["start"]) * CHUNK
        name = hashlib.sha256(f"{oid}/{number}".encode()).hexdigest()
        terms.append({"hash": name, "unpacked_length": length, "range": chunks})
        last = min(chunks["end"] * _FRAME, xorb_size(size, number)) - 1
        sent = {"start": chunks["start"] * _FRAME, "end": last}
        fetch_info[name] = [{"range": chunks, "url": f"{url}/{number}", "url_range": sent}]
    return {"offset_into_first_range": start - first * CHUNK, "terms": terms, "fetch_info": fetch_info}


def xorb_content(path: Path, number: int, start: int, stop: int) -> Iterator[bytes]:
    """Bytes `start` to `stop` of a xorb of the file at `path`."""
    with path.open("rb") as file:
        while start < stop:
            chunk = start // _FRAME
            file.seek((number * XORB_CHUNKS + chunk) * CHUNK)
            content = file.read(min(_READ_CHUNKS, XORB_CHUNKS - chunk) * CHUNK)
            frames = bytearray()
            for position in range(0, len(content), CHUNK):
                piece = content[position : position + CHUNK]
                length = len(piece).to_bytes(3, "little")
                frames += b"\0" + length + b"\0" + length + piece  # version, stored bytes, no compression, bytes
            skipped = start - chunk * _FRAME
            yield bytes(frames[skipped : skipped + stop - start])
            start = chunk * _FRAME + len(frames)
