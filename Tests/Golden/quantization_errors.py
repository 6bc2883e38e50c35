"""Errors of llama.cpp's own quantization, which ours must not exceed; usage: quantization_errors.py > quantization_errors.json

Calls ggml_quantize_chunk in the library that xllamacpp carries, without an importance matrix, on numbers that
Tests/ModelFilesTests/BlockEncodingTests.swift draws too: output i of SplitMix64, its top 24 bits as a fraction u; a normal
number is the sum of twelve less six. Ran with xllamacpp 2026.10.11549, gguf 0.19.0, numpy 2.
"""
import ctypes
import json
import pathlib

import gguf
import numpy as np
import xllamacpp

library = ctypes.CDLL(str(next(pathlib.Path(xllamacpp.__file__).parent.glob("*.so"))))
library.ggml_quantize_chunk.restype = ctypes.c_size_t
COUNT = 256 * 256
TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]


def uniform(seed, count):
    state = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    value = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (value ^ (value >> np.uint64(31))) >> np.uint64(40)


def inputs():
    fraction = uniform(7, 12 * COUNT).astype(np.float64) / 16777216
    normal = fraction.reshape(COUNT, 12).sum(axis=1) - 6
    scales = 2.0 ** (np.arange(COUNT) // 32 % 8 - 4)
    return {"normal": normal * 0.02, "heavy": normal * normal * normal * 0.01, "shifted": normal * 0.01 + 0.03,
            "uniform": fraction[:COUNT] - 0.5, "scaled": normal * scales}


def main():
    with np.errstate(over="ignore"):
        data = inputs()
    result = {}
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        length, size = gguf.GGML_QUANT_SIZES[kind]
        result[name] = {}
        for what, values in data.items():
            x = np.ascontiguousarray(values, np.float32)
            out = np.zeros(COUNT // length * size, np.uint8)
            library.ggml_quantize_chunk(
                ctypes.c_int(kind.value), x.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p),
                ctypes.c_int64(0), ctypes.c_int64(1), ctypes.c_int64(COUNT), None)
            y = gguf.quants.dequantize(out, kind).astype(np.float64)
            error = np.sqrt(np.sum((y - x) ** 2) / np.sum(x.astype(np.float64) ** 2))
            result[name][what] = float(f"{error:.6g}")
            if name == "Q8_0":
                # FNV-1a of the bytes, which are to be the same.
                digest = 0xCBF29CE484222325
                for byte in out.tobytes():
                    digest = (digest ^ byte) * 0x100000001B3 % 2**64
                result.setdefault("Q8_0 bytes", {})[what] = f"{digest:016x}"
    print(json.dumps(result, indent=1))


main()
