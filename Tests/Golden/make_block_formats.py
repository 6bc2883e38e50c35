"""Writes block_formats.safetensors: random blocks of every format that Swiftlet decodes, and the values that gguf-py
reads from them. Needs: pip install gguf safetensors numpy. Run in this folder."""
import numpy as np
from gguf import GGMLQuantizationType as T, GGML_QUANT_SIZES, quants
from safetensors.numpy import save_file

HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
# Scales as they occur, and the edges: zeros of both signs, subnormals, the largest.
EDGES = np.array([0.0, -0.0, 6e-8, -3e-5, 6.1e-5, 65504.0], dtype=np.float16)

random = np.random.default_rng(3407)
tensors = {}
for name, places in HALVES.items():
  length, size = GGML_QUANT_SIZES[T[name]]
  count = 18 if length == 32 else 3
  blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
  for block in range(count):
    for place in places:
      scale = random.normal(0, 0.02) if block < count // 3 * 2 else EDGES[random.integers(len(EDGES))]
      blocks[block, place:place + 2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
  tensors[f"{name}.blocks"] = blocks
  tensors[f"{name}.values"] = quants.dequantize(blocks.reshape(-1), T[name]).astype(np.float32).reshape(count, length)

halves = np.concatenate([EDGES, np.array([1, -2.5, np.inf, -np.inf, 1e-7], np.float16),
                         random.normal(0, 1, 53).astype(np.float16)])
tensors["F16.blocks"] = halves.view(np.uint8)
tensors["F16.values"] = halves.astype(np.float32)
floats = np.concatenate([np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 3.3e38, 1e-40, 1.00390625, 1.01171875,
                                   65519.0, 65520.0, 6.1e-5, 2.9e-8, 3.1e-8, 1.4901161e-07, 2e-38], np.float32),
                         random.normal(0, 1, 46).astype(np.float32)])
bf16 = quants.quantize(floats, T.BF16)
tensors["BF16.blocks"] = bf16.view(np.uint8)
tensors["BF16.values"] = quants.dequantize(bf16, T.BF16)
tensors["encode.floats"] = floats
tensors["encode.bf16"] = bf16.view(np.uint16)
with np.errstate(over="ignore"):
  tensors["encode.f16"] = floats.astype(np.float16).view(np.uint16)
save_file(tensors, "block_formats.safetensors", metadata={"made_by": "make_block_formats.py"})
