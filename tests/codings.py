"""Decoders of the content codings, none of which is the edge's own: zlib, and the C libraries of Brotli and Zstandard.

The libraries are loaded by name: with the packages of that purpose installed, httpx would send another Accept-Encoding
in every test.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import zlib

# Longer than the body of any test.
MOST = 2 << 20


def _library(name: str) -> ctypes.CDLL:
    found = ctypes.util.find_library(name)
    assert found, f"lib{name} is missing: run scripts/install-packages"
    return ctypes.CDLL(found)


def _brotli(content: bytes) -> bytes:
    out, length = ctypes.create_string_buffer(MOST), ctypes.c_size_t(MOST)
    decode = _library("brotlidec").BrotliDecoderDecompress
    decode.argtypes = [ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_char_p]
    assert decode(len(content), content, ctypes.byref(length), out) == 1, "not Brotli"
    return out.raw[: length.value]


def _zstandard(content: bytes) -> bytes:
    library = _library("zstd")
    decode, is_error = library.ZSTD_decompress, library.ZSTD_isError
    decode.restype = ctypes.c_size_t
    decode.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    is_error.argtypes = [ctypes.c_size_t]
    out = ctypes.create_string_buffer(MOST)
    length = decode(out, MOST, content, len(content))
    assert not is_error(length), "not Zstandard"
    return out.raw[:length]


def decoded(coding: str | None, content: bytes) -> bytes:
    """The content without its coding."""
    match coding:
        case None | "identity":
            return content
        case "gzip":
            return zlib.decompress(content, wbits=31)
        case "br":
            return _brotli(content)
        case "zstd":
            return _zstandard(content)
    raise AssertionError(f"unknown coding {coding}")
