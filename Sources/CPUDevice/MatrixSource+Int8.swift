import Tensors

extension MatrixSource {
  /// The same matrix with its elements as 8 bits leave them (``FrozenStorage/TiledFormat/int8``), to be kept as operands: this
  /// device has no products with 8 bits.
  func roundedTo8Bits() throws -> MatrixSource {
    let length = 64
    guard inputs % length == 0 else {
      throw DeviceError("a matrix of \(inputs) inputs cannot be kept in 8 bits: that is no multiple of \(length)")
    }
    let (inputs, decode) = (inputs, decode)
    return MatrixSource(outputs: outputs, inputs: inputs) { rows, target in
      try decode(rows, target)
      for start in stride(from: 0, to: rows.count * inputs, by: length) {
        let block = target + start
        var highest: Float = 0
        for index in 0..<length { highest = max(highest, abs(block[index])) }
        let (factor, scale) = (highest > 0 ? 127 / highest : 0, highest / 127)
        for index in 0..<length { block[index] = (block[index] * factor).rounded(.toNearestOrEven) * scale }
      }
    }
  }
}
