import Tensors

/// Projections of what RMSNorm makes of one row of the residual stream, as decoding has them.
private struct NormedProduct {
  var inputs: Int
  var outputs: [Int]
  /// 0: no adapter.
  var ranks: [Int]
  /// Whether the outputs are gate and up.
  var isPaired = false
  var storage = FrozenStorage.nf4(resident: false)
}

extension Case {
  /// What a device for decoding does in one piece, the others in two.
  static let normedProducts: [Case] = [
    NormedProduct(inputs: 64, outputs: [9], ranks: [0]),
    NormedProduct(inputs: 192, outputs: [72, 24, 24], ranks: [8, 0, 3]),
    NormedProduct(inputs: 1088, outputs: [45, 16], ranks: [8, 40]),
    NormedProduct(inputs: 704, outputs: [75, 75], ranks: [4, 4], isPaired: true),
    NormedProduct(inputs: 5120, outputs: [40, 10, 10], ranks: [0, 0, 0]),
    NormedProduct(inputs: 12_288, outputs: [33, 33], ranks: [0, 8], isPaired: true),
    NormedProduct(inputs: 64, outputs: [9], ranks: [0], storage: .operands),
    NormedProduct(inputs: 576, outputs: [72, 24, 24], ranks: [8, 0, 0], storage: .operands),
    NormedProduct(inputs: 5120, outputs: [40, 70, 10], ranks: [0, 16, 0], storage: .operands),
    NormedProduct(inputs: 704, outputs: [675, 675], ranks: [4, 4], isPaired: true, storage: .operands),
    NormedProduct(inputs: 8192, outputs: [33, 33], ranks: [0, 8], isPaired: true, storage: .operands),
  ].map { shape in
    let isInNF4 = shape.storage != .operands
    let name = "norm and products \(shape.inputs) → \(shape.outputs.map(String.init).joined(separator: "+"))"
    return Case(name: "\(name)\(shape.isPaired ? ", activated" : "")\(isInNF4 ? ", NF4" : "")", isInNF4: isInNF4) {
      trial in
      let device = trial.device
      let x = try trial.floats(1, shape.inputs, scale: 3)
      let gamma = try trial.floats(1, shape.inputs)
      let matrices = try trial.matrices(
        shape.outputs, shape.inputs, kept: shape.outputs.map { _ in shape.storage })
      let projections = try shape.outputs.indices.map { index in
        let rank = shape.ranks[index]
        guard rank > 0 else { return Projection(matrices[index]) }
        return Projection(
          matrices[index],
          lowRank: LowRankPair(
            a: try trial.operand(rank, shape.inputs, scale: 0.3),
            scaledB: try trial.operand(shape.outputs[index], rank, scale: 0.3), gradientA: nil, gradientB: nil,
            dropout: 0, stream: 0))
      }
      let outputs = try shape.outputs.map { try trial.empty(1, $0) }
      let lowRank = try shape.ranks.map { $0 > 0 ? try trial.empty(1, $0) : nil }
      let activation = shape.isPaired ? try trial.empty(1, shape.outputs[0]) : nil
      if let paged = device.pagedDecoding {
        let isDone = try paged.linear(
          normOf: x, gamma, epsilon: 1e-5, projections, into: outputs, lowRank: lowRank, activation: activation)
        guard isDone else { throw DeviceError("\(name): the device makes it in two pieces") }
      } else {
        let normed = try trial.empty(1, shape.inputs)
        try device.rmsNorm(x, gamma, epsilon: 1e-5, into: normed, rstd: trial.empty(1, 1, .float32), saved: nil)
        if let activation {
          try device.linearSwiGLU(
            normed, projections, gate: outputs[0], up: outputs[1], lowRank: lowRank, into: activation, dropout: nil)
        } else {
          try device.linear(
            normed, projections, into: outputs, lowRank: lowRank, accumulate: false, dropout: nil)
        }
      }
      for (index, output) in outputs.enumerated() where !shape.isPaired {
        try trial.record("y\(index)", output, bound: Bounds.twice)
      }
      if let activation { try trial.record("activation", activation, bound: 2 * Bounds.twice) }
    }
  }
}
