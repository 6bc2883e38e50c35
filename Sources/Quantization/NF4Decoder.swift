import CBlockFormats
import ModelFiles

/// The values that codes stand for.
struct NF4Decoder: Sendable {
  let codes: [UInt8]
  /// The absmax of each block.
  let absmax: [Float]

  init(_ matrix: NF4Matrix) {
    codes = matrix.codes
    absmax = matrix.absmax.decoded
  }

  /// Decodes a range of the rows laid end to end.
  func decode(_ elements: Range<Int>, into target: UnsafeMutablePointer<Float>) {
    let length = NF4Encoder.blockLength
    absmax.withUnsafeBufferPointer { absmax in
      guard let base = absmax.baseAddress, !elements.isEmpty else { return }
      sl_decode_nf4(
        codes, base + elements.lowerBound / length, Int64(length), Int64(elements.lowerBound), Int64(elements.count),
        SL_ROUND_NOT, target)
    }
  }
}
