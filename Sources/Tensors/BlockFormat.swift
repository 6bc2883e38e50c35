/// The formats of quantized blocks, as GGUF defines them, that a device may read without decoding them first.
public enum BlockFormat: Sendable, CaseIterable {
  /// Blocks of 32 with one scale, and in `_1` one minimum.
  case q4_0, q4_1, q5_0, q5_1, q8_0
  /// Blocks of 256 in parts that have small scales of their own.
  case q4_K, q5_K, q6_K
}
