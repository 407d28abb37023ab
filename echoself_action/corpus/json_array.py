"""The elements of a JSON array, one at a time, as the bytes that `json.loads` reads: as it would read the lines of JSON Lines.

So a record is the same in both formats: what is invalid in it (half of a surrogate pair, another encoding) concerns this record
alone, and what Python's own `json` writes, such as NaN, is read.
"""

import io
import re
from collections.abc import Iterator

from .streams import BLOCK, LONGEST, BadFileError

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_OTHER = rb'[^"\[\]{}]++'
_VALUE = rb"[\[{](?:%s|%s)*+[\]}]" % (_OTHER, _STRING)
for _ in range(3):  # objects and lists of four levels, as nearly all records have, are found at the speed of C
    _VALUE = rb"[\[{](?:%s|%s|%s)*+[\]}]" % (_OTHER, _STRING, _VALUE)
# A whole value or string; otherwise a bracket of a value, or the quote of a string, that is deeper or not yet read to its end
_TOKEN = re.compile(rb'%s|%s|["\[\]{},]' % (_VALUE, _STRING), re.DOTALL)


def array_elements(file: io.BufferedReader) -> Iterator[bytes]:
    """The elements of the array in `file`, whose next byte is its `[`. An element is invalid JSON where the file is.

    Raises BadFileError if the array does not end, if text follows it, or for an element of more than `LONGEST` bytes.
    """
    file.read(1)
    buffer = bytearray()
    number = 1
    depth = position = 0
    while True:
        token = _TOKEN.search(buffer, position)
        if token is None or token[0] == b'"':
            # as much again as there is, so that a long string is not searched too often
            block = file.read(max(BLOCK, len(buffer)))
            if not block:
                raise BadFileError(f", record {number} is invalid JSON (the file ends before the array does)")
            if len(buffer) > LONGEST:
                raise BadFileError(f", record {number} has more than {LONGEST:,} bytes")
            position = len(buffer) if token is None else token.start()
            buffer += block
            continue
        position = token.end()
        match token[0]:
            case b"[" | b"{":
                depth += 1
            case b"]" if not depth:
                break
            case b"]" | b"}":
                depth -= 1
            case b"," if not depth:
                yield bytes(buffer[: position - 1]).strip()
                number += 1
                del buffer[:position]
                position = 0
    last = bytes(buffer[: position - 1]).strip()
    if last or number > 1:
        yield last
    if buffer[position:].strip() or any(block.strip() for block in iter(lambda: file.read(BLOCK), b"")):
        raise BadFileError(f", record {number + 1} is invalid JSON (text follows the end of the array)")
