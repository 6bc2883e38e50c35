import CBlockFormats

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
  public static let values: [Float] = withUnsafeBytes(of: sl_nf4_values) { Array($0.bindMemory(to: Float.self)) }

  /// bitsandbytes' signed dynamic map of 256 values, ascending: what double quantization rounds absmax values to.
  public static let dynamicMap = [Float](unsafeUninitializedCapacity: 256) { values, count in
    if let base = values.baseAddress { sl_dynamic_map(base) }
    count = 256
  }
}
