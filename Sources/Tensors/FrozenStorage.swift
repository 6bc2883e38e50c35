/// How a device keeps the elements of a frozen matrix.
public enum FrozenStorage: Sendable, Equatable {
  /// In the type of matrix operands.
  case operands
  /// In NF4 with double quantization, as bitsandbytes defines it; dequantized for each use.
  ///
  /// `resident`: dequantized once, when it is loaded, and kept in the type of matrix operands: the same numbers, in more
  /// memory and less time.
  case nf4(resident: Bool)
}
