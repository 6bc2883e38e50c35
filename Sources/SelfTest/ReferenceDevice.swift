// The documentation of what this implements stands in `Device`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import Tensors

#if canImport(Glibc)
  import Glibc
#endif

/// Every operation as its definition reads, in double precision, one element after the other.
///
/// Tensors are fp32 in host memory, so that results are rounded once. Slow: for small shapes.
final class ReferenceDevice: Device, @unchecked Sendable {
  let description = "float64 reference"
  let computeType = DType.float32
  let residualType = DType.float32
  let rowAlignment = 1

  /// A matrix as it is.
  final class Matrix: FrozenMatrix, @unchecked Sendable {
    let outputs: Int
    let inputs: Int
    var values: [Float]
    var byteCount: Int { values.count * 4 }
    init(_ outputs: Int, _ inputs: Int, _ values: [Float]) {
      self.outputs = outputs
      self.inputs = inputs
      self.values = values
    }
  }

  // MARK: Memory

  func allocate(byteCount: Int) throws -> DeviceBuffer {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: max(byteCount, 4), alignment: 64)
    nonisolated(unsafe) let owned = memory
    return DeviceBuffer(address: UInt(bitPattern: memory), byteCount: max(byteCount, 4)) { _ in owned.deallocate() }
  }
  func upload(_ source: UnsafeRawBufferPointer, to tensor: Tensor) throws {
    guard let base = source.baseAddress else { return }
    for row in 0..<tensor.rows {
      let bytes = tensor.columns * tensor.dtype.byteCount
      at(tensor, row)?.copyMemory(from: base + row * bytes, byteCount: bytes)
    }
  }
  func download(_ tensor: Tensor, to destination: UnsafeMutableRawBufferPointer) throws {
    guard let base = destination.baseAddress else { return }
    for row in 0..<tensor.rows {
      let bytes = tensor.columns * tensor.dtype.byteCount
      if let from = at(tensor, row) {
        (base + row * bytes).copyMemory(from: from, byteCount: bytes)
      }
    }
  }
  func at(_ tensor: Tensor, _ row: Int) -> UnsafeMutableRawPointer? {
    UnsafeMutableRawPointer(bitPattern: tensor.address + UInt(row * tensor.rowStride * tensor.dtype.byteCount))
  }
  func get(_ tensor: Tensor, _ row: Int, _ column: Int) -> Double {
    Double(at(tensor, row)?.load(fromByteOffset: column * 4, as: Float.self) ?? .nan)
  }
  func set(_ tensor: Tensor, _ row: Int, _ column: Int, _ value: Double) {
    at(tensor, row)?.storeBytes(of: Float(value), toByteOffset: column * 4, as: Float.self)
  }
  func add(_ tensor: Tensor, _ row: Int, _ column: Int, _ value: Double) {
    set(tensor, row, column, get(tensor, row, column) + value)
  }
  func each(_ tensor: Tensor, _ value: (Int, Int) -> Double) {
    for row in 0..<tensor.rows { for column in 0..<tensor.columns { set(tensor, row, column, value(row, column)) } }
  }

  func zero(_ tensor: Tensor) throws { each(tensor) { _, _ in 0 } }
  func copy(_ source: Tensor, to destination: Tensor) throws { each(destination) { get(source, $0, $1) } }
  func gather(_ source: Tensor, rows: [Int32], to destination: Tensor) throws {
    each(destination.prefix(rows.count)) { get(source, Int(rows[$0]), $1) }
  }
  func scatter(_ source: Tensor, to destination: Tensor, rows: [Int32]) throws {
    for (index, row) in rows.enumerated() {
      for column in 0..<source.columns { set(destination, Int(row), column, get(source, index, column)) }
    }
  }
  func synchronize() throws {}

  // MARK: Matrices

  func makeFrozenMatrices(_ sources: [MatrixSource], directions: ProductDirections) throws -> [any FrozenMatrix] {
    try sources.map { source in
      var values = [Float](repeating: 0, count: source.outputs * source.inputs)
      try values.withUnsafeMutableBufferPointer { values in
        if let base = values.baseAddress { try source.decode(0..<source.outputs, base) }
      }
      if source.storage == .tiled(.int8) {
        values = Int8Reference.rounded(values)
      } else if source.storage != .operands {
        values = NF4Reference.rounded(values)
      }
      return Matrix(source.outputs, source.inputs, values)
    }
  }
  func extend(_ matrix: any FrozenMatrix, directions: ProductDirections, source: MatrixSource) throws {}

  func weight(_ matrix: any FrozenMatrix, _ row: Int, _ column: Int) -> Double {
    guard let matrix = matrix as? Matrix else { return .nan }
    return Double(matrix.values[row * matrix.inputs + column])
  }
  func sum(_ count: Int, _ term: (Int) -> Double) -> Double {
    var total = 0.0
    for index in 0..<count { total += term(index) }
    return total
  }

  func linear(
    _ x: Tensor, _ projections: [Projection], into outputs: [Tensor], lowRank: [Tensor?], accumulate: Bool,
    dropout: DropoutKey?
  ) throws {
    try lowRankInput(x, projections, into: lowRank, dropout: dropout)
    for (index, projection) in projections.enumerated() {
      let y = outputs[index]
      each(y) { row, column in
        var value = accumulate ? get(y, row, column) : 0
        value += sum(x.columns) { get(x, row, $0) * weight(projection.matrix, column, $0) }
        if let pair = projection.lowRank, let s = lowRank[index] {
          value += sum(pair.rank) { get(s, row, $0) * get(pair.scaledB, column, $0) }
        }
        return value
      }
    }
  }
  func lowRankInput(_ x: Tensor, _ projections: [Projection], into lowRank: [Tensor?], dropout: DropoutKey?) throws {
    for (index, projection) in projections.enumerated() {
      guard let pair = projection.lowRank, let s = lowRank[index] else { continue }
      each(s) { row, column in
        sum(x.columns) { get(x, row, $0) * keep(row, $0, x.columns, pair, dropout) * get(pair.a, column, $0) }
      }
    }
  }
  func linearBackward(
    _ gradients: [Tensor], _ projections: [Projection], lowRank: [Tensor?], lowRankGradients: [Tensor?],
    into dx: Tensor?, dropout: DropoutKey?
  ) throws {
    if let dx { try zero(dx) }
    for (index, projection) in projections.enumerated() {
      let dy = gradients[index]
      if let dx {
        for row in 0..<dx.rows {
          for column in 0..<dx.columns {
            add(dx, row, column, sum(dy.columns) { get(dy, row, $0) * weight(projection.matrix, $0, column) })
          }
        }
      }
      guard let pair = projection.lowRank, let s = lowRank[index], let ds = lowRankGradients[index] else { continue }
      each(ds) { row, column in sum(dy.columns) { get(dy, row, $0) * get(pair.scaledB, $0, column) } }
      if let gradient = pair.gradientB {
        each(gradient) { row, column in
          get(gradient, row, column) + sum(dy.rows) { get(dy, $0, row) * get(s, $0, column) }
        }
      }
      guard let dx else { continue }
      for row in 0..<dx.rows {
        for column in 0..<dx.columns {
          let through = sum(pair.rank) { get(ds, row, $0) * get(pair.a, $0, column) }
          add(dx, row, column, through * keep(row, column, dx.columns, pair, dropout))
        }
      }
    }
  }
  func linearBackwardA(_ x: Tensor, _ projections: [Projection], lowRankGradients: [Tensor?], dropout: DropoutKey?)
    throws
  {
    for (index, projection) in projections.enumerated() {
      guard let pair = projection.lowRank, let ds = lowRankGradients[index], let gradient = pair.gradientA else {
        continue
      }
      each(gradient) { row, column in
        get(gradient, row, column)
          + sum(x.rows) { get(ds, $0, row) * get(x, $0, column) * keep($0, column, x.columns, pair, dropout) }
      }
    }
  }
  func logits(_ x: Tensor, _ head: any FrozenMatrix, into logits: Tensor) throws {
    each(logits) { row, column in sum(x.columns) { get(x, row, $0) * weight(head, column, $0) } }
  }
  func logitsBackward(_ gradient: Tensor, _ head: any FrozenMatrix, into dx: Tensor) throws {
    each(dx) { row, column in sum(gradient.columns) { get(gradient, row, $0) * weight(head, $0, column) } }
  }

  /// 0 or 1 / (1 - p), by the generator that `Device` names.
  func keep(_ row: Int, _ column: Int, _ columns: Int, _ pair: LowRankPair, _ key: DropoutKey?) -> Double {
    guard let key, pair.dropout > 0 else { return 1 }
    let index = UInt64(row * columns + column)
    let random = Self.philox(index / 4, pair.dropoutStream(key), key.seed)[Int(index % 4)]
    return random >= UInt32(Double(pair.dropout) * 4_294_967_296) ? 1 / (1 - Double(pair.dropout)) : 0
  }
  static func philox(_ counter: UInt64, _ stream: UInt64, _ seed: UInt64) -> [UInt32] {
    var c = [counter, counter >> 32, stream, stream >> 32].map { UInt32(truncatingIfNeeded: $0) }
    var k = [seed, seed >> 32].map { UInt32(truncatingIfNeeded: $0) }
    for _ in 0..<10 {
      let a = UInt64(0xD251_1F53) * UInt64(c[0])
      let b = UInt64(0xCD9E_8D57) * UInt64(c[2])
      c = [
        UInt32(b >> 32) ^ c[1] ^ k[0], UInt32(truncatingIfNeeded: b), UInt32(a >> 32) ^ c[3] ^ k[1],
        UInt32(truncatingIfNeeded: a),
      ]
      k = [k[0] &+ 0x9E37_79B9, k[1] &+ 0xBB67_AE85]
    }
    return c
  }

  // MARK: Normalization, rotation, activation

  func rmsNorm(_ x: Tensor, _ gamma: Tensor, epsilon: Float, into y: Tensor, rstd: Tensor, saved: Tensor?) throws {
    for row in 0..<x.rows {
      let squares = sum(x.columns) { get(x, row, $0) * get(x, row, $0) }
      set(rstd, 0, row, 1 / (squares / Double(x.columns) + Double(epsilon)).squareRoot())
    }
    each(y) { get(x, $0, $1) * get(rstd, 0, $0) * get(gamma, 0, $1) }
    if let saved { try copy(x, to: saved) }
  }
  func rmsNormAgain(_ saved: Tensor, rstd: Tensor, _ gamma: Tensor, into y: Tensor) throws {
    each(y) { get(saved, $0, $1) * get(rstd, 0, $0) * get(gamma, 0, $1) }
  }
  func rmsNormBackward(_ dy: Tensor, saved: Tensor, rstd: Tensor, _ gamma: Tensor, addingTo dx: Tensor, copy: Tensor?)
    throws
  {
    for row in 0..<dx.rows {
      let r = get(rstd, 0, row)
      let along =
        sum(dx.columns) { get(gamma, 0, $0) * get(dy, row, $0) * get(saved, row, $0) * r } / Double(dx.columns)
      for column in 0..<dx.columns {
        add(dx, row, column, r * (get(gamma, 0, column) * get(dy, row, column) - get(saved, row, column) * r * along))
      }
    }
    if let copy { try self.copy(dx, to: copy) }
  }
  func rotate(
    _ x: Tensor, headDimension: Int, bias: Tensor?, positions: [Int32], cosines: Tensor, sines: Tensor, inverse: Bool
  ) throws {
    let half = cosines.columns
    if let bias, !inverse { each(x) { get(x, $0, $1) + get(bias, 0, $1) } }
    for row in 0..<x.rows {
      for head in stride(from: 0, to: x.columns, by: headDimension) {
        for index in 0..<half {
          let (a, b) = (get(x, row, head + index), get(x, row, head + index + half))
          let cosine = get(cosines, Int(positions[row]), index)
          let sine = get(sines, Int(positions[row]), index) * (inverse ? -1 : 1)
          set(x, row, head + index, a * cosine - b * sine)
          set(x, row, head + index + half, b * cosine + a * sine)
        }
      }
    }
  }
  func headNorm(_ x: Tensor, _ gamma: Tensor, epsilon: Float, into y: Tensor, rstd: Tensor?) throws {
    let d = gamma.columns
    for row in 0..<x.rows {
      for head in 0..<x.columns / d {
        let part = x.columns(head * d..<(head + 1) * d)
        let squares = sum(d) { get(part, row, $0) * get(part, row, $0) }
        let r = 1 / (squares / Double(d) + Double(epsilon)).squareRoot()
        if let rstd { set(rstd, row, head, r) }
        for column in 0..<d { set(y, row, head * d + column, get(part, row, column) * r * get(gamma, 0, column)) }
      }
    }
  }
  func headNormBackward(_ gradient: Tensor, _ x: Tensor, rstd: Tensor, _ gamma: Tensor) throws {
    let d = gamma.columns
    for row in 0..<x.rows {
      for head in 0..<x.columns / d {
        let part = x.columns(head * d..<(head + 1) * d)
        let dy = gradient.columns(head * d..<(head + 1) * d)
        let r = get(rstd, row, head)
        let along = sum(d) { get(gamma, 0, $0) * get(dy, row, $0) * get(part, row, $0) * r } / Double(d)
        for column in 0..<d {
          set(dy, row, column, r * (get(gamma, 0, column) * get(dy, row, column) - get(part, row, column) * r * along))
        }
      }
    }
  }
  func addBias(_ bias: Tensor, to x: Tensor) throws { each(x) { get(x, $0, $1) + get(bias, 0, $1) } }
  func swiGLU(_ gate: Tensor, _ up: Tensor, into y: Tensor) throws {
    each(y) { get(gate, $0, $1) / (1 + exp(-get(gate, $0, $1))) * get(up, $0, $1) }
  }
  func swiGLUBackward(_ dy: Tensor, _ gate: Tensor, _ up: Tensor, y: Tensor?) throws {
    for row in 0..<gate.rows {
      for column in 0..<gate.columns {
        let (g, u, d) = (get(gate, row, column), get(up, row, column), get(dy, row, column))
        let s = 1 / (1 + exp(-g))
        set(gate, row, column, d * u * s * (1 + g * (1 - s)))
        set(up, row, column, d * g * s)
        if let y { set(y, row, column, g * s * u) }
      }
    }
  }

  // MARK: Attention

  /// The probabilities of one query of one head over its span's keys.
  private func probabilities(
    _ q: Tensor, _ k: Tensor, _ shape: AttentionShape, _ span: AttentionSpan, query: Int, head: Int
  ) -> (values: [Double], logSumExp: Double) {
    let d = shape.headDimension
    let keyHead = head / (shape.heads / shape.keyValueHeads)
    let last = query + span.keys.count - span.queries.count
    let scores = (0..<span.keys.count).map { key -> Double in
      guard key <= last, shape.window.map({ key > last - $0 }) ?? true else { return -.infinity }
      return Double(shape.scale)
        * sum(d) {
          get(q, span.queries.lowerBound + query, head * d + $0) * get(k, span.keys.lowerBound + key, keyHead * d + $0)
        }
    }
    let top = scores.max() ?? 0
    let total = scores.reduce(0) { $0 + exp($1 - top) }
    return (scores.map { exp($0 - top) / total }, top + log(total))
  }

  func attention(
    _ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: AttentionShape, _ spans: [AttentionSpan], into output: Tensor,
    logSumExp: Tensor?
  ) throws {
    let d = shape.headDimension
    for span in spans {
      for head in 0..<shape.heads {
        let keyHead = head / (shape.heads / shape.keyValueHeads)
        for query in 0..<span.queries.count {
          let p = probabilities(q, k, shape, span, query: query, head: head)
          let row = span.queries.lowerBound + query
          if let logSumExp { set(logSumExp, head, row, p.logSumExp) }
          for feature in 0..<d {
            set(
              output, row, head * d + feature,
              sum(p.values.count) { p.values[$0] * get(v, span.keys.lowerBound + $0, keyHead * d + feature) })
          }
        }
      }
    }
  }
  func attentionBackward(
    _ dOutput: Tensor, _ q: Tensor, _ k: Tensor, _ v: Tensor, _ output: Tensor, logSumExp: Tensor,
    _ shape: AttentionShape, _ spans: [AttentionSpan], into dq: Tensor, _ dk: Tensor, _ dv: Tensor, workspace: Tensor
  ) throws {
    let d = shape.headDimension
    let targets = [dq, dk, dv]
    // They may lie where q, k and v do.
    let sums = try targets.map { tensor in
      let sum = Tensor(
        try allocate(byteCount: tensor.byteCount), rows: tensor.rows, columns: tensor.columns, dtype: .float32)
      try zero(sum)
      return sum
    }
    let (dq, dk, dv) = (sums[0], sums[1], sums[2])
    defer { for (sum, target) in zip(sums, targets) { each(target) { get(sum, $0, $1) } } }
    for span in spans {
      for head in 0..<shape.heads {
        let first = head / (shape.heads / shape.keyValueHeads) * d
        for query in 0..<span.queries.count {
          let row = span.queries.lowerBound + query
          let p = probabilities(q, k, shape, span, query: query, head: head).values
          let dp = p.indices.map { key in
            sum(d) { get(dOutput, row, head * d + $0) * get(v, span.keys.lowerBound + key, first + $0) }
          }
          let delta = sum(p.count) { p[$0] * dp[$0] }
          for key in p.indices where p[key] > 0 {
            let ds = p[key] * (dp[key] - delta) * Double(shape.scale)
            let keyRow = span.keys.lowerBound + key
            for feature in 0..<d {
              add(dq, row, head * d + feature, ds * get(k, keyRow, first + feature))
              add(dk, keyRow, first + feature, ds * get(q, row, head * d + feature))
              add(dv, keyRow, first + feature, p[key] * get(dOutput, row, head * d + feature))
            }
          }
        }
      }
    }
  }
  func attentionWorkspace(_ shape: AttentionShape, _ spans: [AttentionSpan], inPlace: Bool) -> Int { 0 }

  // MARK: Loss and optimizer

  func crossEntropy(
    _ logits: Tensor, targets: [Int32], scale: Float, gradient: Tensor?, rowLosses: UnsafeMutablePointer<Float>?
  ) throws -> Double {
    var loss = 0.0
    for (row, target) in targets.enumerated() {
      let values = (0..<logits.columns).map { get(logits, row, $0) }
      let top = values.max() ?? 0
      let lse = top + log(values.reduce(0) { $0 + exp($1 - top) })
      loss += lse - values[Int(target)]
      rowLosses?[row] = Float(lse - values[Int(target)])
      if let gradient {
        for (column, value) in values.enumerated() {
          set(gradient, row, column, (exp(value - lse) - (column == Int(target) ? 1 : 0)) * Double(scale))
        }
      }
    }
    return loss
  }
  func squaredNorm(_ x: Tensor) throws -> Double {
    var total = 0.0
    for row in 0..<x.rows { for column in 0..<x.columns { total += get(x, row, column) * get(x, row, column) } }
    return total
  }
  func adamW(parameters: Tensor, gradients: Tensor, firstMoment: Tensor, secondMoment: Tensor, _ step: AdamWStep) throws
  {
    let rate = Double(step.learningRate)
    for i in 0..<parameters.count {
      let g = get(gradients, 0, i) * Double(step.gradientScale)
      let m = step.beta1 * get(firstMoment, 0, i) + (1 - step.beta1) * g
      let v = step.beta2 * get(secondMoment, 0, i) + (1 - step.beta2) * g * g
      set(firstMoment, 0, i, m)
      set(secondMoment, 0, i, v)
      let root = (v / (1 - pow(step.beta2, Double(step.step)))).squareRoot() + Double(step.epsilon)
      let w = get(parameters, 0, i) * (1 - rate * Double(step.weightDecay))
      set(parameters, 0, i, w - rate * m / (1 - pow(step.beta1, Double(step.step))) / root)
    }
  }
  func scale(_ source: Tensor, by factor: Float, to destination: Tensor) throws {
    each(destination) { get(source, $0, $1) * Double(factor) }
  }
}
