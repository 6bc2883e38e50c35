import CPUDevice
import Tensors
import Testing

/// Matrices kept in NF4 against the same numbers kept in operands.
@Suite struct NF4DeviceTests {
  struct Layer {
    let device: CPUDevice
    let kept: [Projection]
    let plain: [Projection]
    let inputs: Int
    let outputs: [Int]

    init(_ compute: CPUDevice.Compute, outputs: [Int], inputs: Int, rank: Int) throws {
      let device = CPUDevice(compute: compute)
      let values = outputs.map { count in (0..<count * inputs).map { _ in Float.random(in: -0.1...0.1) } }
      func sources(_ storage: FrozenStorage) -> [MatrixSource] {
        zip(outputs, values).map { outputs, values in
          MatrixSource(outputs: outputs, inputs: inputs, storage: storage) { rows, target in
            for (index, row) in rows.enumerated() {
              for column in 0..<inputs { target[index * inputs + column] = values[row * inputs + column] }
            }
          }
        }
      }
      let both: ProductDirections = [.forward, .backward]
      let pairs = try outputs.map { outputs in
        LowRankPair(
          a: try Self.random(device, rank, inputs), scaledB: try Self.random(device, outputs, rank),
          gradientA: try Self.zeros(device, rank, inputs), gradientB: try Self.zeros(device, outputs, rank), dropout: 0,
          stream: 0)
      }
      func projections(_ storage: FrozenStorage) throws -> [Projection] {
        let matrices = try device.makeFrozenMatrices(sources(storage), directions: both)
        return zip(matrices, pairs).map { Projection($0, lowRank: $1) }
      }
      self.device = device
      kept = try projections(.nf4(resident: false))
      plain = try projections(.nf4(resident: true))
      (self.inputs, self.outputs) = (inputs, outputs)
    }

    static func random(_ device: CPUDevice, _ rows: Int, _ columns: Int) throws -> Tensor {
      let floats = try zeros(device, rows, columns)
      let values = (0..<rows * columns).map { _ in Float.random(in: -1...1) }
      try values.withUnsafeBytes { try device.upload($0, to: floats) }
      let result = Tensor(
        try device.allocate(byteCount: rows * columns * device.computeType.byteCount), rows: rows, columns: columns,
        dtype: device.computeType)
      try device.copy(floats, to: result)
      return result
    }

    static func zeros(_ device: CPUDevice, _ rows: Int, _ columns: Int, _ dtype: DType = .float32) throws -> Tensor {
      let result = Tensor(
        try device.allocate(byteCount: rows * columns * dtype.byteCount), rows: rows, columns: columns, dtype: dtype)
      try device.zero(result)
      return result
    }

    /// Forward and backward over rows: outputs, dx, and the gradients of the pairs.
    func run(_ projections: [Projection], _ x: Tensor, _ dy: [Tensor]) throws -> [[Float]] {
      let rows = x.rows
      for projection in projections {
        if let pair = projection.lowRank, let a = pair.gradientA, let b = pair.gradientB {
          try device.zero(a)
          try device.zero(b)
        }
      }
      let y = try outputs.map { try Self.zeros(device, rows, $0, device.computeType) }
      let low = try projections.map { try Self.zeros(device, rows, $0.lowRank?.rank ?? 1, device.computeType) }
      let lowGradients = try low.map { try Self.zeros(device, rows, $0.columns, device.computeType) }
      let dx = try Self.zeros(device, rows, inputs)
      try device.linear(x, projections, into: y, lowRank: low, accumulate: false, dropout: nil)
      try device.linearBackward(dy, projections, lowRank: low, lowRankGradients: lowGradients, into: dx, dropout: nil)
      try device.linearBackwardA(x, projections, lowRankGradients: lowGradients, dropout: nil)
      return try y.map(floats) + [floats(dx)]
        + projections.compactMap { try $0.lowRank?.gradientA.map(floats) }
        + projections.compactMap { try $0.lowRank?.gradientB.map(floats) }
    }

    func floats(_ tensor: Tensor) throws -> [Float] {
      let copy = try Self.zeros(device, tensor.rows, tensor.columns)
      try device.copy(tensor, to: copy)
      var values = [Float](repeating: 0, count: copy.count)
      try values.withUnsafeMutableBytes { try device.download(copy, to: $0) }
      return values
    }
  }

  @Test(arguments: [CPUDevice.Compute.bfloat16, .float32], [1, 2, 33, 64])
  func givesWhatTheSameNumbersInOperandsGive(_ compute: CPUDevice.Compute, _ rows: Int) throws {
    for (outputs, inputs) in [([96, 48, 32], 128), ([160], 192), ([64, 64], 64)] {
      let layer = try Layer(compute, outputs: outputs, inputs: inputs, rank: 16)
      let x = try Layer.random(layer.device, rows, inputs)
      let dy = try outputs.map { try Layer.random(layer.device, rows, $0) }
      let (kept, plain) = (try layer.run(layer.kept, x, dy), try layer.run(layer.plain, x, dy))
      for (a, b) in zip(kept, plain) {
        let norm = b.reduce(0.0) { $0 + Double($1 * $1) }
        let error = zip(a, b).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
        // Sums are taken in another order; in panels they are the same bits.
        #expect(error <= 1e-4 * norm, "\(compute) \(rows) \(outputs) \(inputs)")
      }
      func byteCount(_ projections: [Projection]) -> Int { projections.reduce(0) { $0 + $1.matrix.byteCount } }
      #expect(byteCount(layer.kept) < byteCount(layer.plain) / 3)
    }
  }

  @Test func rowsThatAreNoBlocksAreRefused() throws {
    let device = CPUDevice()
    let source = MatrixSource(outputs: 4, inputs: 40, storage: .nf4(resident: false)) { _, _ in }
    #expect(throws: DeviceError.self) { _ = try device.makeFrozenMatrices([source], directions: .forward) }
  }
}
