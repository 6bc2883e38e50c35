import CPUDevice
import Tensors
import Testing

extension KernelStateTests {
  /// Linear layers with their pairs against float64, through the device: fused where the processor multiplies by panels,
  /// one product after the other elsewhere.
  @Suite struct FusedLinearTests {}
}

extension KernelStateTests.FusedLinearTests {
  struct Shape: Sendable, CustomTestStringConvertible {
    var rows, inputs: Int
    var outputs: [Int]
    var rank: Int
    var dropout: Float = 0
    var testDescription: String {
      "\(rows) × \(inputs) → \(outputs), rank \(rank)" + (dropout > 0 ? ", dropout \(dropout)" : "")
    }
    /// What decides on the input's elements.
    var key: DropoutKey? { dropout > 0 ? DropoutKey(seed: 3407 << 32 | 11, counter: 9) : nil }
  }

  // Ranks beside multiples of 16, odd too; widths beside multiples of the panels' 48 and of 16; rows beside multiples of 8,
  // few and many; a sum long enough for several passes.
  static let shapes = [
    Shape(rows: 64, inputs: 96, outputs: [96, 48, 48], rank: 16),
    Shape(rows: 37, inputs: 50, outputs: [70, 70], rank: 4),
    Shape(rows: 2, inputs: 34, outputs: [18], rank: 3), Shape(rows: 301, inputs: 64, outputs: [200], rank: 40),
    Shape(rows: 19, inputs: 3400, outputs: [100, 100], rank: 8),
    Shape(rows: 130, inputs: 48, outputs: [64, 32], rank: 0),
    Shape(rows: 64, inputs: 96, outputs: [96, 48, 48], rank: 16, dropout: 0.25),
    Shape(rows: 37, inputs: 50, outputs: [70, 70], rank: 4, dropout: 0.5),
    Shape(rows: 301, inputs: 202, outputs: [200], rank: 56, dropout: 0.1),
    Shape(rows: 19, inputs: 3400, outputs: [100, 100], rank: 8, dropout: 0.25),
  ]

  /// A layer's tensors on a device and their values as the device rounded them.
  private struct Layer {
    let shape: Shape
    let device: CPUDevice
    let x: Tensor
    let projections: [Projection]
    let weights, a, b: [[Double]]
    let gradients: [Tensor]

    init(_ shape: Shape, threads: Int? = nil) throws {
      self.shape = shape
      device = CPUDevice(compute: .bfloat16, threads: threads)
      var random = SeededGenerator(UInt64(shape.rows * 31 + shape.inputs))
      let device = device
      func operand(_ rows: Int, _ columns: Int) throws -> Tensor {
        try device.filled(random.floats(rows * columns), rows, columns, .bfloat16)
      }
      x = try operand(shape.rows, shape.inputs)
      gradients = try shape.outputs.map { try operand(shape.rows, $0) }
      var weights: [[Double]] = []
      var a: [[Double]] = []
      var b: [[Double]] = []
      projections = try shape.outputs.map { outputs in
        let plain = try operand(outputs, shape.inputs)
        let values = try device.values(plain)
        weights.append(values.map { Double($0) })
        let matrix = try device.makeFrozenMatrix(
          outputs: outputs, inputs: shape.inputs, directions: [.forward, .backward]
        ) { rows, target in
          for (index, value) in values[rows.lowerBound * shape.inputs..<rows.upperBound * shape.inputs].enumerated() {
            target[index] = value
          }
        }
        guard shape.rank > 0 else { return Projection(matrix) }
        let pair = LowRankPair(
          a: try operand(shape.rank, shape.inputs), scaledB: try operand(outputs, shape.rank),
          gradientA: try device.filled(random.floats(shape.rank * shape.inputs), shape.rank, shape.inputs, .float32),
          gradientB: try device.filled(random.floats(outputs * shape.rank), outputs, shape.rank, .float32),
          dropout: shape.dropout, stream: UInt32(weights.count))
        a.append(try device.values(pair.a).map { Double($0) })
        b.append(try device.values(pair.scaledB).map { Double($0) })
        return Projection(matrix, lowRank: pair)
      }
      (self.weights, self.a, self.b) = (weights, a, b)
    }

    func make(_ columns: Int, _ dtype: DType, _ value: Float = 7) throws -> Tensor {
      try device.filled([Float](repeating: value, count: shape.rows * columns), shape.rows, columns, dtype)
    }
    func lowRank() throws -> [Tensor?] {
      try shape.outputs.map { _ in shape.rank > 0 ? try make(shape.rank, .bfloat16) : nil }
    }
    /// What the j-th pair's dropout multiplies elements of x by, row after row.
    func factors(_ j: Int) -> [Double] {
      guard let key = shape.key, let pair = projections[j].lowRank else {
        return [Double](repeating: 1, count: shape.rows * shape.inputs)
      }
      return (0..<shape.rows * shape.inputs).map {
        philox(UInt64($0), key.counter << 20 ^ UInt64(pair.stream), key.seed)
          < UInt32(Double(shape.dropout) * 4_294_967_296) ? 0 : 1 / (1 - Double(shape.dropout))
      }
    }
    func doubles(_ tensor: Tensor) throws -> [Double] { try device.values(tensor).map { Double($0) } }
  }

  /// op(a) · b.
  private func product(_ m: Int, _ k: Int, _ n: Int, _ a: (Int, Int) -> Double, _ b: (Int, Int) -> Double) -> [Double] {
    (0..<m * n).map { at in (0..<k).reduce(0) { $0 + a(at / n, $1) * b($1, at % n) } }
  }

  @Test(arguments: shapes) func forward(_ shape: Shape) throws {
    let layer = try Layer(shape)
    let x = try layer.doubles(layer.x)
    for dtype in [DType.float32, .bfloat16] {
      for accumulate in [false, true] {
        let outputs = try shape.outputs.map { try layer.make($0, dtype, 2) }
        let lowRank = try layer.lowRank()
        try layer.device.linear(
          layer.x, layer.projections, into: outputs, lowRank: lowRank, accumulate: accumulate, dropout: shape.key)
        let again = try layer.lowRank()
        try layer.device.lowRankInput(layer.x, layer.projections, into: again, dropout: shape.key)
        for (j, width) in shape.outputs.enumerated() {
          let (k, r, w) = (shape.inputs, shape.rank, layer.weights[j])
          var expected = product(shape.rows, k, width, { x[$0 * k + $1] }, { w[$1 * k + $0] })
          if let s = lowRank[j] {
            let (a, b, low) = (layer.a[j], layer.b[j], try layer.doubles(s))
            let factors = layer.factors(j)
            #expect(
              relativeError(
                low, product(shape.rows, k, r, { x[$0 * k + $1] * factors[$0 * k + $1] }, { a[$1 * k + $0] })) < 5e-3)
            #expect(try again[j].map { try layer.doubles($0) } == low)
            let through = product(shape.rows, r, width, { low[$0 * r + $1] }, { b[$1 * r + $0] })
            for index in expected.indices { expected[index] += through[index] }
          }
          if accumulate { for index in expected.indices { expected[index] += 2 } }
          let tolerance = dtype == .float32 ? 1e-5 : 8e-3
          #expect(relativeError(try layer.doubles(outputs[j]), expected) < tolerance, "\(dtype) \(accumulate) \(j)")
        }
      }
    }
  }

  @Test(arguments: shapes) func backward(_ shape: Shape) throws {
    let layer = try Layer(shape)
    let (k, r) = (shape.inputs, shape.rank)
    let lowRank = try shape.outputs.map { _ in
      r > 0 ? try layer.make(r, .bfloat16, 0.5) : nil
    }
    for dtype in [DType.float32, .bfloat16] {
      let dx = try layer.make(k, dtype)
      let lowRankGradients = try layer.lowRank()
      let before = try layer.projections.map { try $0.lowRank?.gradientB.map { try layer.doubles($0) } }
      try layer.device.linearBackward(
        layer.gradients, layer.projections, lowRank: lowRank, lowRankGradients: lowRankGradients, into: dx,
        dropout: shape.key)
      var expected = [Double](repeating: 0, count: shape.rows * k)
      for (j, width) in shape.outputs.enumerated() {
        let (dy, w) = (try layer.doubles(layer.gradients[j]), layer.weights[j])
        let direct = product(shape.rows, width, k, { dy[$0 * width + $1] }, { w[$0 * k + $1] })
        for index in expected.indices { expected[index] += direct[index] }
        guard let ds = lowRankGradients[j], let sum = layer.projections[j].lowRank?.gradientB else { continue }
        let (a, b, low) = (layer.a[j], layer.b[j], try layer.doubles(ds))
        #expect(relativeError(low, product(shape.rows, width, r, { dy[$0 * width + $1] }, { b[$0 * r + $1] })) < 5e-3)
        let through = product(shape.rows, r, k, { low[$0 * r + $1] }, { a[$0 * k + $1] })
        let factors = layer.factors(j)
        for index in expected.indices { expected[index] += through[index] * factors[index] }
        var gradient = product(width, shape.rows, r, { dy[$1 * width + $0] }, { _, _ in 0.5 })
        for index in gradient.indices { gradient[index] += before[j]?[index] ?? 0 }
        #expect(relativeError(try layer.doubles(sum), gradient) < 1e-5)
      }
      #expect(relativeError(try layer.doubles(dx), expected) < (dtype == .float32 ? 1e-5 : 5e-3), "\(dtype)")

      let beforeA = try layer.projections.map { try $0.lowRank?.gradientA.map { try layer.doubles($0) } }
      try layer.device.linearBackwardA(
        layer.x, layer.projections, lowRankGradients: lowRankGradients, dropout: shape.key)
      let x = try layer.doubles(layer.x)
      for j in shape.outputs.indices {
        guard let ds = lowRankGradients[j], let sum = layer.projections[j].lowRank?.gradientA else { continue }
        let low = try layer.doubles(ds), factors = layer.factors(j)
        var gradient = product(r, shape.rows, k, { low[$1 * r + $0] }, { x[$0 * k + $1] * factors[$0 * k + $1] })
        for index in gradient.indices { gradient[index] += beforeA[j]?[index] ?? 0 }
        // What dropout leaves is rounded before it is multiplied.
        #expect(relativeError(try layer.doubles(sum), gradient) < (shape.dropout > 0 ? 3e-3 : 1e-5))
      }
    }
  }

  /// The activation in one piece with its products gives the bits of one after the other, on any number of threads.
  @Test(arguments: [shapes[0], shapes[1], shapes[4], shapes[6], shapes[7]], [1, 2, 7]) func activation(
    _ shape: Shape, _ threads: Int
  ) throws {
    var shape = shape
    shape.outputs = [shape.outputs[0], shape.outputs[0]]
    let width = shape.outputs[0]
    let apart = try Layer(shape, threads: 2)
    let together = try Layer(shape, threads: threads)
    let gates = try [apart, together].map { try [$0.make(width, .bfloat16), $0.make(width, .bfloat16)] }
    let activations = try [apart, together].map { try $0.make(width, .bfloat16) }
    let lows = try [apart, together].map { try $0.lowRank() }
    try apart.device.linear(
      apart.x, apart.projections, into: gates[0], lowRank: lows[0], accumulate: false, dropout: shape.key)
    try apart.device.swiGLU(gates[0][0], gates[0][1], into: activations[0])
    try together.device.linearSwiGLU(
      together.x, together.projections, gate: gates[1][0], up: gates[1][1], lowRank: lows[1], into: activations[1],
      dropout: shape.key)
    for j in 0..<2 { #expect(try apart.doubles(gates[0][j]) == together.doubles(gates[1][j])) }
    #expect(try apart.doubles(activations[0]) == together.doubles(activations[1]))

    // Backward: x's width is the MLP's, and the layer's output the residual stream.
    let down = [Layer](repeating: apart, count: 1) + [together]
    let inner = try down.map { try [$0.make(shape.inputs, .bfloat16, 0.5), $0.make(shape.inputs, .bfloat16, -0.75)] }
    let results = try down.map { try $0.make(shape.inputs, .bfloat16) }
    let ds = try down.map { [try $0.lowRank()[0]] }
    let s = try down.map { [try $0.lowRank()[0]] }
    try apart.device.linearBackward(
      [apart.gradients[0]], [apart.projections[0]], lowRank: s[0], lowRankGradients: ds[0], into: results[0],
      dropout: shape.key)
    try apart.device.swiGLUBackward(results[0], inner[0][0], inner[0][1], y: results[0])
    try together.device.linearSwiGLUBackward(
      together.gradients[0], [together.projections[0]], lowRank: s[1], lowRankGradients: ds[1], gate: inner[1][0],
      up: inner[1][1], activation: results[1], dropout: shape.key)
    for j in 0..<2 { #expect(try apart.doubles(inner[0][j]) == together.doubles(inner[1][j])) }
    #expect(try apart.doubles(results[0]) == together.doubles(results[1]))
    let sums = [apart, together].map { $0.projections[0].lowRank?.gradientB }
    #expect(try sums[0].map { try apart.doubles($0) } == sums[1].map { try together.doubles($0) })
  }
}

/// The random number of an element: Philox 4×32-10, from its authors' description.
func philox(_ index: UInt64, _ stream: UInt64, _ seed: UInt64) -> UInt32 {
  func halves(_ value: UInt64) -> (UInt32, UInt32) { (UInt32(truncatingIfNeeded: value), UInt32(value >> 32)) }
  let counter = halves(index / 4)
  let streams = halves(stream)
  var c = [counter.0, counter.1, streams.0, streams.1]
  var (k0, k1) = halves(seed)
  for _ in 0..<10 {
    let a = halves(UInt64(c[0]) * 0xD251_1F53)
    let b = halves(UInt64(c[2]) * 0xCD9E_8D57)
    c = [b.1 ^ c[1] ^ k0, b.0, a.1 ^ c[3] ^ k1, a.0]
    k0 &+= 0x9E37_79B9
    k1 &+= 0xBB67_AE85
  }
  return c[Int(index % 4)]
}

extension CPUDevice {
  /// A tensor of `values`, rounded to `dtype`.
  fileprivate func filled(_ values: [Float], _ rows: Int, _ columns: Int, _ dtype: DType) throws -> Tensor {
    func make(_ dtype: DType) throws -> Tensor {
      Tensor(
        try allocate(byteCount: rows * columns * dtype.byteCount), rows: rows, columns: columns, dtype: dtype)
    }
    let plain = try make(.float32)
    try values.withUnsafeBytes { try upload($0, to: plain) }
    let result = try make(dtype)
    try copy(plain, to: result)
    return result
  }

  /// A tensor's elements.
  fileprivate func values(_ tensor: Tensor) throws -> [Float] {
    let plain = Tensor(
      try allocate(byteCount: tensor.rows * tensor.columns * 4), rows: tensor.rows, columns: tensor.columns,
      dtype: .float32)
    try copy(tensor, to: plain)
    var result = [Float](repeating: 0, count: tensor.rows * tensor.columns)
    try result.withUnsafeMutableBytes { try download(plain, to: $0) }
    return result
  }
}
