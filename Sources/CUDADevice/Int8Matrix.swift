import Tensors

/// A matrix in 8 bits on the GPU: blocks of 64 elements of its rows laid end to end, each with a scale.
struct Int8Matrix {
  static let blockLength = 64

  var rows: Int
  var columns: Int
  /// Signed: `[1, rows · columns]`.
  var codes: Tensor
  /// What the codes of a block are multiplied by: fp32 `[1, blocks]`.
  var scales: Tensor

  /// Bytes of codes and scales.
  var byteCount: Int { codes.byteCount + scales.byteCount }

  /// Some of the rows.
  func rows(_ range: Range<Int>) -> Int8Matrix {
    let elements = range.lowerBound * columns..<range.upperBound * columns
    let blocks = elements.lowerBound / Self.blockLength..<elements.upperBound / Self.blockLength
    return Int8Matrix(
      rows: range.count, columns: columns, codes: codes.columns(elements), scales: scales.columns(blocks))
  }
}

extension CUDADevice {
  /// Room for a matrix that is about to be quantized.
  func makeInt8(rows: Int, columns: Int) throws -> Int8Matrix {
    guard columns % Int8Matrix.blockLength == 0 else {
      throw DeviceError(
        "8 bits on a GPU want rows of a multiple of \(Int8Matrix.blockLength) elements, \(columns) were given")
    }
    return Int8Matrix(
      rows: rows, columns: columns, codes: try frozenMemory.tensor(columns: rows * columns, .uint8, on: self),
      scales: try frozenMemory.tensor(columns: rows * columns / Int8Matrix.blockLength, .float32, on: self))
  }

  /// Quantizes whole rows at `address`.
  func quantize(_ address: UInt64, _ dtype: DType, to matrix: Int8Matrix) throws {
    let count = matrix.rows * matrix.columns
    try launch(
      "int8_quantize_\(quantizedName(dtype))",
      Grid(x: min((count / 8 + 255) / 256, context.multiprocessors * 16), threadsX: 256),
      [count.word, address, matrix.codes.word, matrix.scales.word, (address % 16 == 0).word])
  }

  /// The matrix's elements, rounded to bf16, into `target` `[rows, columns]`.
  func dequantize(_ matrix: Int8Matrix, into target: Tensor) throws {
    try launch(
      "int8_dequantize", .rows(matrix.rows, by: matrix.columns / 8),
      [
        matrix.rows.word, matrix.columns.word, matrix.codes.word, matrix.scales.word, target.word,
        target.rowStride.word, isAligned(target).word,
      ])
  }

  /// How kernels that quantize call a type.
  func quantizedName(_ dtype: DType) -> String {
    switch dtype {
    case .bfloat16: "bf16"
    case .float16: "f16"
    default: "f32"
    }
  }
}
