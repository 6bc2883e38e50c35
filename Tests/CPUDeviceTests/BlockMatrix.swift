import CBlockFormats
import CPUKernels

/// A random matrix in a format of blocks, as a file would have it, and what it decodes to.
final class BlockMatrix {
  static let formats: [sl_block_format] = [
    SL_BLOCKS_Q4_0, SL_BLOCKS_Q4_1, SL_BLOCKS_Q5_0, SL_BLOCKS_Q5_1, SL_BLOCKS_Q8_0, SL_BLOCKS_Q4_K, SL_BLOCKS_Q5_K,
    SL_BLOCKS_Q6_K,
  ]

  let format: sl_block_format
  let outputs, inputs: Int
  /// The rows one after the other, from an odd address on.
  let bytes: UnsafeMutableRawPointer
  let rowByteCount: Int
  /// fp32 `[outputs, inputs]`.
  var decoded: [Float]

  /// Elements of a block and its bytes.
  static func block(_ format: sl_block_format) -> (length: Int, byteCount: Int) {
    switch format {
    case SL_BLOCKS_Q4_0: (32, 18)
    case SL_BLOCKS_Q4_1: (32, 20)
    case SL_BLOCKS_Q5_0: (32, 22)
    case SL_BLOCKS_Q5_1: (32, 24)
    case SL_BLOCKS_Q8_0: (32, 34)
    case SL_BLOCKS_Q4_K: (256, 144)
    case SL_BLOCKS_Q5_K: (256, 176)
    default: (256, 210)
    }
  }

  init(_ format: sl_block_format, outputs: Int, blocks: Int, _ random: inout SeededGenerator) {
    let (encode, decode): (sl_block_encoder, sl_block_decoder) =
      switch format {
      case SL_BLOCKS_Q4_0: (sl_encode_q4_0, sl_decode_q4_0)
      case SL_BLOCKS_Q4_1: (sl_encode_q4_1, sl_decode_q4_1)
      case SL_BLOCKS_Q5_0: (sl_encode_q5_0, sl_decode_q5_0)
      case SL_BLOCKS_Q5_1: (sl_encode_q5_1, sl_decode_q5_1)
      case SL_BLOCKS_Q8_0: (sl_encode_q8_0, sl_decode_q8_0)
      case SL_BLOCKS_Q4_K: (sl_encode_q4_k, sl_decode_q4_k)
      case SL_BLOCKS_Q5_K: (sl_encode_q5_k, sl_decode_q5_k)
      default: (sl_encode_q6_k, sl_decode_q6_k)
      }
    let (length, byteCount) = Self.block(format)
    self.format = format
    (self.outputs, inputs, rowByteCount) = (outputs, blocks * length, blocks * byteCount)
    bytes = .allocate(byteCount: outputs * rowByteCount + 1, alignment: 64)
    // Off zero, so that minima matter; magnitudes differ from row to row.
    let values = (0..<outputs).flatMap { row in
      random.floats(blocks * length).map { ($0 + 0.3) * Float(1 + row % 5) }
    }
    encode(values, Int64(outputs * blocks), bytes + 1)
    decoded = [Float](repeating: 0, count: values.count)
    decode(bytes + 1, Int64(outputs * blocks), &decoded)
  }

  deinit { bytes.deallocate() }

  /// Where a row's blocks begin.
  func row(_ index: Int) -> UnsafeRawPointer { UnsafeRawPointer(bytes + 1 + index * rowByteCount) }

  /// The matrix packed from its blocks; freed by the caller.
  func packed(_ dtype: sl_dtype) -> (status: Int32, matrix: OpaquePointer?) {
    let rows: [UnsafeRawPointer?] = (0..<outputs).map(row)
    var matrix: OpaquePointer?
    let status = sl_pack_blocks(dtype, format, Int64(inputs), Int64(outputs), rows, &matrix)
    return (status, matrix)
  }

  /// What it decodes to, as operands of a type.
  func operands(_ dtype: sl_dtype) -> Elements { Elements(decoded, dtype) }
}
