/// A matrix that a checkpoint stores in NF4 (Dettmers et al., 2023) as bitsandbytes does, in blocks of 64 elements of the
/// rows laid end to end.
///
/// The pointers are the checkpoint's and valid while it lives.
public struct NF4Blocks: @unchecked Sendable {
  /// Elements of a block that share one absmax.
  public static let blockLength = 64
  /// Absmax values that share one nested absmax.
  public static let nestedBlockLength = 256

  /// The largest magnitude of each block.
  public enum Absmax: @unchecked Sendable {
    /// fp32, one per block.
    case plain(UnsafeRawBufferPointer)
    /// Double quantization: absmax = `map`[code] · nested[(first + block) / 256] + `offset`.
    /// - codes: one byte per block.
    /// - nested: fp32.
    /// - map: 256 values.
    /// - first: blocks of the first nested one that belong to rows before this matrix's.
    case nested(
      codes: UnsafeRawBufferPointer, nested: UnsafeRawBufferPointer, map: [Float], offset: Float, first: Int)
  }

  /// Two elements in each byte, the first in the high half.
  public let codes: UnsafeRawBufferPointer
  /// What a code of each block is multiplied by.
  public let absmax: Absmax

  /// Blocks from their parts.
  public init(codes: UnsafeRawBufferPointer, absmax: Absmax) {
    self.codes = codes
    self.absmax = absmax
  }
}

/// The numbers that NF4 consists of (bitsandbytes 0.50; QLoRA, Dettmers et al., 2023, appendix E).
public enum NF4 {
  /// What each code stands for, as a part of its block's absmax.
  public static let values: [Float] = [
    -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
  ]

  /// bitsandbytes' signed dynamic map of 256 values, ascending: what double quantization rounds absmax values to.
  ///
  /// For each of seven decades the midpoints of 2ⁱ even parts of it, with both signs; and 0 and 1. In fp32, with the fused
  /// products of PyTorch's `linspace`, so that every bit is theirs.
  public static let dynamicMap: [Float] = {
    var values: [Float] = [0, 1]
    for (decade, scale) in ([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1] as [Float]).enumerated() {
      let parts = 1 << decade
      let step = (1 - 0.1 as Float) / Float(parts)
      func edge(_ index: Int) -> Float {
        index < (parts + 1) / 2
          ? Float(0.1).addingProduct(step, Float(index)) : Float(1).addingProduct(-step, Float(parts - index))
      }
      for index in 0..<parts {
        let value = scale * ((edge(index) + edge(index + 1)) / 2)
        values += [value, -value]
      }
    }
    return values.sorted()
  }()
}
