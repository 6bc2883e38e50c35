import CBlockFormats

/// The parts in which bitsandbytes stores a matrix in NF4: codes of four bits in blocks that share an absmax.
///
/// Blocks run along the rows laid end to end. A matrix whose rows were cut from a larger one shares its parts.
public struct NF4Storage: Sendable {
  /// Bytes of a mapped file.
  public struct Part: Sendable {
    /// The file.
    public let file: MappedFile
    /// Where the bytes lie in it.
    public let range: Range<Int>
    /// The bytes; valid while `file` lives.
    public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: file.bytes[range]) }
  }

  /// The largest magnitude of each block.
  public enum Absmax: Sendable {
    /// fp32, one per block.
    case plain(Part)
    /// Double quantization: absmax = map[code] · scale + offset, with one code in each byte of `codes` and the scales
    /// (fp32), each for `blockLength` codes.
    case nested(codes: Part, scales: Part, map: [Float], offset: Float, blockLength: Int)
  }

  /// Two codes in each byte, the first in the high half.
  public let codes: Part
  /// What the codes of a block are multiplied by.
  public let absmax: Absmax
  /// Elements that share an absmax.
  public let blockLength: Int
  /// The type that the matrix had before it was quantized, and that decoded values are rounded to: fp32, bf16 or f16.
  public let originalFormat: StorageFormat
  /// Which of the codes is the first of this matrix.
  public private(set) var firstElement = 0

  init(codes: Part, absmax: Absmax, blockLength: Int, originalFormat: StorageFormat) {
    self.codes = codes
    self.absmax = absmax
    self.blockLength = blockLength
    self.originalFormat = originalFormat
  }

  /// The matrix that begins so many elements later.
  func skipping(_ elements: Int) -> NF4Storage {
    var copy = self
    copy.firstElement += elements
    return copy
  }

  /// Decodes elements to the bits that bitsandbytes' `dequantize_4bit` gives; those of the matrix count from 0.
  func decode(_ elements: Range<Int>, into target: UnsafeMutablePointer<Float>) {
    guard !elements.isEmpty, let source = codes.bytes.baseAddress else { return }
    let first = firstElement + elements.lowerBound
    let blocks = first / blockLength..<(firstElement + elements.upperBound - 1) / blockLength + 1
    let absmax = absmaxValues(of: blocks)
    let rounding: sl_rounding =
      switch originalFormat {
      case .bfloat16: SL_ROUND_BF16
      case .float16: SL_ROUND_F16
      default: SL_ROUND_NOT
      }
    sl_decode_nf4(source, absmax, Int64(blockLength), Int64(first), Int64(elements.count), rounding, target)
  }

  /// The absmax of some blocks of the codes.
  private func absmaxValues(of blocks: Range<Int>) -> [Float] {
    [Float](unsafeUninitializedCapacity: blocks.count) { values, count in
      count = blocks.count
      guard let target = values.baseAddress else { return }
      switch absmax {
      case .plain(let part):
        UnsafeMutableRawBufferPointer(values).copyBytes(
          from: part.bytes[4 * blocks.lowerBound..<4 * blocks.upperBound])
      case .nested(let codes, let scales, let map, let offset, let length):
        guard let source = codes.bytes.baseAddress, let nested = scales.bytes.baseAddress else { return }
        sl_decode_absmax(
          source, nested, map, offset, Int64(length), Int64(blocks.lowerBound), Int64(blocks.count), target)
      }
    }
  }

  /// The bytes that all parts take.
  public var byteCount: Int {
    switch absmax {
    case .plain(let part): codes.range.count + part.range.count
    case .nested(let bytes, let scales, _, _, _): codes.range.count + bytes.range.count + scales.range.count
    }
  }

  /// Gives back the memory of the parts' pages.
  func releasePages() {
    codes.file.release(codes.range)
    switch absmax {
    case .plain(let part): part.file.release(part.range)
    case .nested(let bytes, let scales, _, _, _):
      bytes.file.release(bytes.range)
      scales.file.release(scales.range)
    }
  }
}
