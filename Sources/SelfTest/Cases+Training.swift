import Tensors

#if canImport(Glibc)
  import Glibc
#endif

// What training asks for beyond the model's passes.
extension Case {
  static let training: [Case] =
    [(5, 33, 0), (64, 128, 0), (37, 200, 8), (1, 8, 0)].map { rows, columns, pad in
      Case(name: "columns \(rows) × \(columns), \(pad) between rows", run: columnwise(rows, columns, pad))
    }
    + [(1, 5, 3), (16, 64, 48), (8, 130, 33)].map { rank, outputs, inputs in
      Case(name: "row norms \(outputs) × \(inputs) rank \(rank)", run: rowNorms(rank, outputs, inputs))
    }
    + [(3, 8, 8), (33, 40, 24), (64, 64, 128)].map { rows, outputs, inputs in
      Case(name: "weights \(outputs) × \(inputs) of \(rows)") { trial in
        let device = trial.device
        let gradient = try trial.floats(outputs, inputs)
        let (dy, x) = (try trial.operand(rows, outputs, pad: 8), try trial.operand(rows, inputs, pad: 8))
        try device.addWeightGradient(dy, x, to: gradient)
        try trial.record("gradient", gradient, bound: Bounds.float)
        let matrix = try trial.matrices([outputs], inputs)[0]
        try device.replace(matrix, with: trial.tensor(outputs, inputs, trial.values(outputs * inputs), .float32))
        let (y, dx) = (try trial.empty(rows, outputs, .float32), try trial.empty(rows, inputs, .float32))
        try device.logits(x, matrix, into: y)
        try device.logitsBackward(dy, matrix, into: dx)
        try trial.record("y", y, bound: Bounds.float)
        try trial.record("dx", dx, bound: Bounds.float)
      }
    }
    + [(1, 5, 3), (40, 33, 7), (64, 64, 100)].map { count, columns, targets in
      Case(name: "scatter \(count) × \(columns) over \(targets), noise, mean") { trial in
        let device = trial.device
        let table = try trial.floats(targets, columns)
        let source = try trial.floats(count, columns, pad: 3)
        try device.scatterAdd(source, to: table, rows: trial.integers(count, below: targets))
        try trial.record("sums", table, bound: Bounds.float)
        let noisy = try trial.floats(count, columns, pad: 5)
        try device.addNoise(to: noisy, bound: 0.37, seed: 3407, stream: 1 << 40 | 7)
        try trial.record("noisy", noisy, bound: Bounds.float)
        let average = try trial.floats(1, count * columns)
        try device.mix(trial.floats(1, count * columns), into: average, keep: 0.9)
        try trial.record("mean", average, bound: Bounds.float)
      }
    }
    + [(1, 3, 0), (9, 64, 8), (33, 130, 5)].map { rows, columns, pad in
      Case(name: "dropout of \(rows) × \(columns) in two ways, \(pad) between rows", run: dropout(rows, columns, pad))
    }
    + [1, 300, 5000].map { count in Case(name: "8-bit AdamW of \(count)", run: adamW8bit(count)) }

  private static func columnwise(_ rows: Int, _ columns: Int, _ pad: Int) -> @Sendable (Trial) throws -> Void {
    { trial in
      let device = trial.device
      let (dy, z) = (try trial.operand(rows, columns, pad: pad), try trial.operand(rows, columns, pad: pad))
      let (floats, rowScales) = (try trial.floats(rows, columns, pad: pad), try trial.floats(1, rows))
      let sums = try trial.floats(1, columns)
      try device.addColumnSums(of: dy, times: nil, rowScales: nil, to: sums)
      try trial.record("sums", sums, bound: Bounds.float)
      try device.addColumnSums(of: dy, times: z, rowScales: nil, to: sums)
      try trial.record("sums of products", sums, bound: Bounds.float)
      try device.addColumnSums(of: floats, times: z, rowScales: rowScales, to: sums)
      try trial.record("scaled sums", sums, bound: Bounds.float)
      let factors = try trial.floats(1, columns)
      let narrow = try trial.empty(rows, columns, pad: pad)
      try device.scaleColumns(z, by: factors, into: narrow, accumulate: false)
      try trial.record("scaled", narrow, bound: Bounds.rounded)
      try device.scaleColumns(z, by: factors, into: floats, accumulate: true)
      try trial.record("added", floats, bound: Bounds.float)
      try device.scaleColumns(floats, by: factors, into: floats, accumulate: false)
      try trial.record("in place", floats, bound: Bounds.float)
      try device.scaleColumns(dy, by: factors, into: dy, accumulate: false)
      try trial.record("narrow in place", dy, bound: Bounds.rounded)
    }
  }

  private static func dropout(_ rows: Int, _ columns: Int, _ pad: Int) -> @Sendable (Trial) throws -> Void {
    { trial in
      let device = trial.device
      let key = DropoutKey(seed: 3407, counter: 11)
      let none = try trial.operand(1, 1)
      let pair = LowRankPair(a: none, scaledB: none, gradientA: nil, gradientB: nil, dropout: 0.3, stream: 5)
      let x = try trial.operand(rows, columns, pad: pad)
      func room() throws -> Tensor { try trial.operand(rows, columns, pad: pad) }
      let (kept, rest) = (try room(), try room())
      try device.splitDropout(x, pair, key, kept: kept, rest: rest)
      try trial.record("kept", kept, bound: Bounds.rounded)
      try trial.record("rest", rest, bound: Bounds.rounded)
      let (one, other) = (try trial.floats(rows, columns, pad: pad), try trial.floats(rows, columns, pad: pad))
      let sum = try trial.floats(rows, columns, pad: pad)
      try device.joinDropout(kept: one, rest: other, pair, key, into: sum, accumulate: true)
      try trial.record("added", sum, bound: Bounds.float)
      try device.joinDropout(kept: one, rest: other, pair, key, into: sum, accumulate: false)
      try trial.record("joined", sum, bound: Bounds.float)
      try device.joinDropout(kept: one, rest: other, pair, key, into: x, accumulate: false)
      try trial.record("narrow", x, bound: Bounds.rounded)
    }
  }

  private static func rowNorms(_ rank: Int, _ outputs: Int, _ inputs: Int) -> @Sendable (Trial) throws -> Void {
    { trial in
      let device = trial.device
      let squares = try trial.tensor(1, outputs, trial.values(outputs).map { 1 + abs($0) }, .float32)
      let b = try trial.operand(outputs, rank, scale: 0.3)
      let products = try trial.floats(rank, outputs, scale: 0.3)
      let (inverses, factors) = (try trial.empty(1, outputs, .float32), try trial.empty(1, outputs, .float32))
      try device.adaptedRowNorms(
        squaredNorms: squares, scaledB: b, products: products, magnitudes: trial.floats(1, outputs),
        inverses: inverses, factors: factors)
      try trial.record("inverses", inverses, bound: Bounds.float)
      try trial.record("factors", factors, bound: Bounds.float)
    }
  }

  private static func adamW8bit(_ count: Int) -> @Sendable (Trial) throws -> Void {
    { trial in
      let device = trial.device
      let blocks = (count + QuantizedMoments.blockLength - 1) / QuantizedMoments.blockLength
      let (w, g) = (try trial.floats(1, count), try trial.floats(1, count))
      func codes() throws -> Tensor {
        let tensor = try trial.empty(1, count, .uint8)
        try trial.integers(count, below: 256).map { UInt8($0) }.withUnsafeBytes { try device.upload($0, to: tensor) }
        return tensor
      }
      func scales() throws -> Tensor {
        try trial.tensor(1, blocks, trial.values(blocks).map { 0.5 + abs($0) }, .float32)
      }
      // Maps that rise as an optimizer's do, finest near zero.
      let signed = (0..<256).map { index in Float(pow(Double(index) / 127.5 - 1, 3)) }
      let unsigned = (0..<256).map { index in Float(pow(Double(index) / 255, 2)) }
      let moments = QuantizedMoments(
        firstCodes: try codes(), secondCodes: try codes(), firstScales: try scales(), secondScales: try scales(),
        firstMap: try trial.tensor(1, 256, signed, .float32), secondMap: try trial.tensor(1, 256, unsigned, .float32))
      try device.adamW8bit(
        parameters: w, gradients: g, moments,
        AdamWStep(
          learningRate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1, gradientScale: 0.7, step: 3))
      try trial.record("parameters", w, bound: Bounds.approximate)
      try trial.record("first scales", moments.firstScales, bound: Bounds.float)
      try trial.record("second scales", moments.secondScales, bound: Bounds.float)
      for (name, tensor, map) in [("first", moments.firstCodes, signed), ("second", moments.secondCodes, unsigned)] {
        var found = [UInt8](repeating: 0, count: count)
        try found.withUnsafeMutableBytes { try device.download(tensor, to: $0) }
        // A value halfway between two codes may become either.
        trial.record("\(name) codes", found.map { map[Int($0)] }, bound: Bounds.rounded)
      }
    }
  }
}
