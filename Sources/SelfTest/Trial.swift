import Models
import Tensors

/// One device's turn at a case: inputs drawn from the case's seed, so that every device sees the same, and what came out.
final class Trial {
  /// A tensor that came out.
  struct Output {
    var name: String
    var values: [Float]
    /// The largest ‖error‖ / ‖reference‖ that counts as right.
    var bound: Double
  }

  let device: any Device
  private(set) var outputs: [Output] = []
  private var random: RandomSource
  /// Bytes over which the rows of every tensor are spread; nil: they lie where they lie.
  private let span: Int?
  /// Where tensors lie whose rows are far apart, side by side between the rows of the others.
  private var far: (buffer: DeviceBuffer, used: Int)?

  /// `span`: tensors of six rows or more lie with so many bytes between their first and their last.
  init(_ device: any Device, seed: UInt64, span: Int? = nil) {
    self.device = device
    self.span = span
    random = RandomSource(seed: seed)
  }

  /// Room for rows that are far apart; nil where they need not be.
  private func farRows(_ rows: Int, _ width: Int, _ dtype: DType, offset: Int) throws -> (
    buffer: DeviceBuffer, byteOffset: Int, rowStride: Int
  )? {
    // Drivers copy rows that are up to 2³¹ bytes apart.
    guard let span, rows >= 6 else { return nil }
    // Rows of all tensors begin at multiples of a unit, each tensor's at a place of its own behind them: none meets another.
    let unit = (span / 128 + 4095) / 4096 * 4096
    let stride = (span / (rows - 1) + unit - 1) / unit * unit
    let (buffer, used) = try far ?? (device.allocate(byteCount: span + span / 4), 0)
    let bytes = ((width + offset) * dtype.byteCount + 255) / 256 * 256
    guard used + bytes <= unit, (rows - 1) * stride + unit <= span + span / 4 else { return nil }
    far = (buffer, used + bytes)
    return (buffer, used + offset * dtype.byteCount, stride / dtype.byteCount)
  }

  /// `rows` × `columns` in ±`scale`, values that bf16 holds exactly, in the type of operands; `pad`: elements between rows
  /// that must not matter, and as many before the first.
  func operand(_ rows: Int, _ columns: Int, scale: Float = 1, pad: Int = 0) throws -> Tensor {
    try tensor(rows, columns, values(rows * columns, scale), device.computeType, pad: pad)
  }

  /// The same in fp32, not limited to bf16's values.
  func floats(_ rows: Int, _ columns: Int, scale: Float = 1, pad: Int = 0) throws -> Tensor {
    let values = (0..<rows * columns).map { _ in Float(2 * random.uniform() - 1) * scale }
    return try tensor(rows, columns, values, .float32, pad: pad)
  }

  /// Memory whose every byte is 255, NaN in each type: what an operation leaves out shows.
  func empty(
    _ rows: Int, _ columns: Int, _ dtype: DType? = nil, pad: Int = 0, tail: Int = 0, isDense: Bool = false
  ) throws -> Tensor {
    let dtype = dtype ?? device.computeType
    if !isDense, let (buffer, offset, stride) = try farRows(rows, columns + tail, dtype, offset: pad) {
      let tensor = Tensor(
        buffer, byteOffset: offset, rows: rows, columns: columns, rowStride: stride, dtype: dtype, tail: tail)
      try [UInt8](repeating: 255, count: tensor.byteCount).withUnsafeBytes { try device.upload($0, to: tensor) }
      return tensor
    }
    let stride = columns + pad + tail
    let count = max(1, pad + rows * stride)
    let buffer = try device.allocate(byteCount: count * dtype.byteCount)
    let bytes = [UInt8](repeating: 255, count: count * dtype.byteCount)
    try bytes.withUnsafeBytes {
      try device.upload($0, to: Tensor(buffer, rows: 1, columns: count, dtype: dtype))
    }
    return Tensor(
      buffer, byteOffset: pad * dtype.byteCount, rows: rows, columns: columns, rowStride: stride, dtype: dtype,
      tail: tail)
  }

  /// A tensor of given values.
  func tensor(
    _ rows: Int, _ columns: Int, _ values: [Float], _ dtype: DType, pad: Int = 0, tail: Int = 0, isDense: Bool = false
  ) throws -> Tensor {
    let tensor = try empty(rows, columns, dtype, pad: pad, tail: tail, isDense: isDense)
    try fill(tensor, values)
    return tensor
  }

  /// Writes values that the tensor's type holds.
  func fill(_ tensor: Tensor, _ values: [Float]) throws {
    if tensor.dtype == .bfloat16 {
      try values.map { UInt16(truncatingIfNeeded: $0.bitPattern >> 16) }.withUnsafeBytes {
        try device.upload($0, to: tensor)
      }
    } else {
      try values.withUnsafeBytes { try device.upload($0, to: tensor) }
    }
  }

  /// Values in ±scale that bf16 holds exactly.
  func values(_ count: Int, _ scale: Float = 1) -> [Float] {
    (0..<count).map { _ in
      let value = Float(2 * random.uniform() - 1) * scale
      return Float(bitPattern: value.bitPattern & 0xffff_0000)
    }
  }

  /// Numbers in 0..<bound.
  func integers(_ count: Int, below bound: Int) -> [Int32] {
    (0..<count).map { _ in Int32(random.next(below: bound)) }
  }

  /// A frozen matrix of random values, or several that share their input.
  func matrices(_ outputs: [Int], _ inputs: Int, kept storages: [FrozenStorage]? = nil) throws -> [any FrozenMatrix] {
    let scale = 1 / Float(inputs).squareRoot()
    let sources = outputs.enumerated().map { index, outputs in
      let all = values(outputs * inputs, scale)
      return MatrixSource(outputs: outputs, inputs: inputs, storage: storages?[index] ?? .operands) { rows, target in
        for (offset, value) in all[rows.lowerBound * inputs..<rows.upperBound * inputs].enumerated() {
          target[offset] = value
        }
      }
    }
    return try device.makeFrozenMatrices(sources, directions: [.forward, .backward])
  }

  /// Notes a tensor that came out.
  func record(_ name: String, _ tensor: Tensor, bound: Double) throws {
    var values = [Float](repeating: 0, count: tensor.count)
    if tensor.dtype == .bfloat16 {
      var bits = [UInt16](repeating: 0, count: tensor.count)
      try bits.withUnsafeMutableBytes { try device.download(tensor, to: $0) }
      values = bits.map { Float(bitPattern: UInt32($0) << 16) }
    } else {
      try values.withUnsafeMutableBytes { try device.download(tensor, to: $0) }
    }
    // Errors of a few values need not level out.
    let bound = bound == Bounds.rounded && values.count < 32 ? Bounds.fewRounded : bound
    outputs.append(Output(name: name, values: values, bound: bound))
  }

  /// Notes numbers that came out.
  func record(_ name: String, _ values: [Float], bound: Double) {
    outputs.append(Output(name: name, values: values, bound: bound))
  }

  /// Notes a number that came out.
  func record(_ name: String, _ value: Double, bound: Double) {
    outputs.append(Output(name: name, values: [Float(value)], bound: bound))
  }
}
