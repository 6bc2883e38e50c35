/// How a device keeps the elements of a frozen matrix.
public enum FrozenStorage: Sendable, Equatable {
  /// In the type of matrix operands.
  case operands
  /// In NF4 with double quantization, as bitsandbytes defines it; dequantized for each use.
  ///
  /// `resident`: dequantized once, when it is loaded, and kept in the type of matrix operands: the same numbers, in more
  /// memory and less time.
  case nf4(resident: Bool)
  /// Quantized, and opened some rows at a time for each use: a head, which only ``Device/logits(_:_:into:)`` and
  /// ``Device/logitsBackward(_:_:into:)`` read.
  case tiled(TiledFormat)

  /// How a matrix that is opened some rows at a time is quantized.
  public enum TiledFormat: Sendable, Equatable {
    /// In 8 bits: blocks of 64 elements, each with an fp32 scale, its largest magnitude / 127.
    case int8
    /// In NF4 with double quantization.
    case nf4
  }
}

extension FrozenStorage {
  /// Whether the matrix is opened some rows at a time.
  public var isTiled: Bool {
    if case .tiled = self { return true }
    return false
  }
}
