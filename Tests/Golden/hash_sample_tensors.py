"""Prints the hashes in CheckpointTests.swift: FNV-1a over the 32-bit patterns of tensors of the sample model, decoded by
gguf-py and with the rows of queries and keys in transformers' order. Needs: pip install gguf. Argument: the .gguf file."""
import sys
import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

reader = GGUFReader(sys.argv[1])
tensors = {tensor.name: tensor for tensor in reader.tensors}
heads = {"attn_q": reader.fields["llama.attention.head_count"].contents(),
         "attn_k": reader.fields["llama.attention.head_count_kv"].contents()}
for name in ["token_embd.weight", "blk.0.attn_q.weight", "blk.29.attn_k.weight", "blk.15.ffn_down.weight",
             "output_norm.weight"]:
  values = dequantize(tensors[name].data, tensors[name].tensor_type).astype(np.float32)
  count = heads.get(name.split(".")[-2], 0)
  if count:
    values = values.reshape(count, values.shape[0] // count // 2, 2, -1).swapaxes(1, 2)
  digest = 0xcbf29ce484222325
  for bits in np.ascontiguousarray(values).reshape(-1).view(np.uint32).tolist():
    digest = (digest ^ bits) * 0x100000001b3 & 0xffffffffffffffff
  print(f"{name} 0x{digest:016x}")
