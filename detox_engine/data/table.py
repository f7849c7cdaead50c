"""Rows as a file or a data set gives them, one at a time."""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from detox_engine.errors import InputError, first_line


@dataclass(frozen=True)
class Row:
    """One row: its cells, or the fault that leaves it without any."""

    number: int
    """Line of a text file (the first, where a CSV row spans several), else row, from 1."""
    cells: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    detail: str = ""
    """What exactly is wrong, for the message when no row can be read."""
    done: int = 0
    """How far the source has been read, of `Table.total`."""


@dataclass(frozen=True)
class Table:
    """A source whose columns are known and whose rows are still to be read."""

    shown: str
    columns: tuple[str, ...]
    unit: str
    """What `Row.number` counts: line or row."""
    total: int
    read: Callable[[Sequence[str]], Iterator[Row]]
    """Starts anew at each call; the argument names the columns that are needed."""
    partial: Callable[[int], bool] = lambda rows: False
    """Whether a source that gave this many rows may hold more."""


class Lines:
    """The lines of a text file and how far it has been read: UTF-8, or UTF-16 with its mark, compressed or not.

    A lone carriage return, which old spreadsheets write, ends a line where no line feed does.
    """

    def __init__(self, path: Path, shown: str) -> None:
        self.path, self.shown = path, shown
        self.number = self.done = 0

    def __iter__(self) -> Iterator[str]:
        try:
            with self.path.open("rb") as file, _unpacked(file) as raw:
                start = raw.peek(4)[:4]
                wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
                yield from self._decode_wide(raw, file) if wide else self._decode(raw, file)
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            # What a packed file says that was cut or changed.
            raise InputError(f"{self.shown} is damaged ({first_line(error)}): get the file again.") from None

    def _decode(self, raw: io.BufferedReader, file: BinaryIO) -> Iterator[str]:
        ends = b"\r" if _ends_with_returns(raw) else b"\n"
        for number, line in enumerate(self._split(raw, ends), start=1):
            self.number, self.done = number, file.tell()
            try:
                text = line.decode("utf-8-sig" if self.number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{self.shown}, line {self.number}: byte {error.start + 1} is not UTF-8 text; save the file as "
                    "UTF-8, which spreadsheets call “CSV UTF-8”."
                ) from None
            yield text.replace("\r", "\n") if ends == b"\r" else text

    def _split(self, raw: io.BufferedReader, ends: bytes) -> Iterator[bytes]:
        """Lines of bounded length: a file of a few bytes can unpack to gigabytes."""
        if ends == b"\r":
            whole = raw.read(LONGEST_LINE + 1)
            if len(whole) > LONGEST_LINE:
                raise InputError(f"{self.shown} has no line breaks: save it with one row a line.")
            yield from whole.splitlines(keepends=True)
            return
        while line := self._read_line(raw):
            yield line

    def _read_line(self, raw: io.BufferedReader) -> bytes:
        line = raw.readline(LONGEST_LINE + 1)
        if len(line) > LONGEST_LINE:
            raise InputError(f"{self.shown} has a line of more than {LONGEST_LINE:,} bytes: write one row a line.")
        return line

    def _decode_wide(self, raw: io.BufferedReader, file: BinaryIO) -> Iterator[str]:
        lines = io.TextIOWrapper(raw, encoding="utf-16", newline="\n")
        try:
            for number, line in enumerate(iter(lambda: lines.readline(LONGEST_LINE), ""), start=1):
                self.number, self.done = number, file.tell()
                if len(line) == LONGEST_LINE:
                    raise InputError(f"{self.shown} has a line of {LONGEST_LINE:,} characters: write one row a line.")
                yield line
        except UnicodeError:
            raise InputError(f"{self.shown} is not UTF-16 text after line {self.number}: save it as UTF-8.") from None
        finally:
            lines.detach()


LONGEST_NAME = 200
"""Characters of a file's name that a sentence has room for."""
LONGEST_LINE = 2**26
"""Bytes of a line that is read at most."""
PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
"""How packed files begin, and what unpacks them."""
ZSTD = b"\x28\xb5\x2f\xfd"
PACKED_ENDINGS = (".gz", ".bz2", ".xz", ".zst")


@contextmanager
def _unpacked(file: BinaryIO) -> Iterator[io.BufferedReader]:
    """The bytes of a file, unpacked by what it begins with, whatever it is called."""
    start = file.peek(8)[:8]
    unpack = next((unpack for sign, unpack in PACKED.items() if start.startswith(sign)), None)
    if unpack is not None:
        yield io.BufferedReader(unpack(file, "rb"))
    elif start.startswith(ZSTD):
        import pyarrow

        yield io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd"))
    else:
        yield file


def _ends_with_returns(raw: io.BufferedReader) -> bool:
    seen = raw.peek(2**16)[: 2**16]
    return b"\n" not in seen and b"\r" in seen


def find_file(source: str) -> Path:
    """The file a person named.

    Raises:
        InputError: there is no such file, it is a folder, it cannot be opened, or it holds nothing.
    """
    path = source
    source = source if len(source) <= LONGEST_NAME else f"{source[:LONGEST_NAME]}…"
    try:
        path = Path(path).expanduser()
        if path.is_dir():
            raise InputError(f"{source} is a folder: name one file in it.")
        if not path.is_file():
            raise InputError(
                f"There is no file {source}: check its name and folder; a data set on the Hub is written owner/name."
            )
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{source} is empty: give a file with at least two rows.")
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{source} cannot be opened ({reason}): check its name and permissions.") from None
    return path
