/// A device that does what another does and, when asked, adds up where the time goes.
package final class TimedDevice: Device, @unchecked Sendable {
  private let base: any Device
  private var isTiming = false
  /// The device's own timer; where it has none, operations are over when they return, and `seconds` adds them up.
  private var timer: (any DeviceTimer)?
  private var seconds: [TimeShare: Double] = [:]

  /// Times `base`.
  package init(_ base: any Device) { self.base = base }

  /// Runs `work` and returns the seconds of each share of it.
  package func timing(_ work: () throws -> Void) throws -> [TimeShare: Double] {
    seconds = [:]
    timer = try base.makeTimer()
    isTiming = true
    defer {
      isTiming = false
      timer = nil
    }
    try work()
    return try timer?.seconds() ?? seconds
  }

  private func time<Result>(_ share: TimeShare, _ work: () throws -> Result) throws -> Result {
    guard isTiming else { return try work() }
    if let timer {
      try timer.begin(share)
      let result = try work()
      try timer.end()
      return result
    }
    let start = ContinuousClock.now
    let result = try work()
    let elapsed = (ContinuousClock.now - start).components
    seconds[share, default: 0] += Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18
    return result
  }

  // MARK: What the device is

  package var description: String { base.description }
  package var computeType: DType { base.computeType }
  package var residualType: DType { base.residualType }
  package var rowAlignment: Int { base.rowAlignment }
  package var headRows: Int { base.headRows }
  package func operandTail(ranks: [Int]) -> Int? { base.operandTail(ranks: ranks) }
  package var memory: DeviceMemory? { base.memory }
  package func limitMemory(to limit: Int?) { base.limitMemory(to: limit) }
  package var pagedDecoding: (any PagedDecoding)? { base.pagedDecoding }
  package func resetPeak() { base.resetPeak() }
  package func makeTimer() throws -> (any DeviceTimer)? { try base.makeTimer() }
  package var embedsTokens: Bool { base.embedsTokens }
  package func attentionWorkspace(_ shape: AttentionShape, _ spans: [AttentionSpan], inPlace: Bool) -> Int {
    base.attentionWorkspace(shape, spans, inPlace: inPlace)
  }
  package func concurrently(tasks: Int, _ body: @Sendable (Int) throws -> Void) throws {
    try base.concurrently(tasks: tasks, body)
  }
  package func synchronize() throws { try base.synchronize() }

  // MARK: Memory

  package func frozenFootprint(_ groups: [FrozenShape], places: Int) -> FrozenFootprint {
    base.frozenFootprint(groups, places: places)
  }
  package func makeHostStore(places byteCounts: [Int]) throws -> any HostStore {
    try base.makeHostStore(places: byteCounts)
  }
  package func allocate(byteCount: Int) throws -> DeviceBuffer { try base.allocate(byteCount: byteCount) }
  package func allocateGrowing(byteCount: Int) throws -> DeviceBuffer {
    try base.allocateGrowing(byteCount: byteCount)
  }
  package func upload(_ source: UnsafeRawBufferPointer, to tensor: Tensor) throws {
    try time(.memory) { try base.upload(source, to: tensor) }
  }
  package func download(_ tensor: Tensor, to destination: UnsafeMutableRawBufferPointer) throws {
    try time(.memory) { try base.download(tensor, to: destination) }
  }
  package func zero(_ tensor: Tensor) throws { try time(.memory) { try base.zero(tensor) } }
  package func copy(_ source: Tensor, to destination: Tensor) throws {
    try time(.memory) { try base.copy(source, to: destination) }
  }
  package func gather(_ source: Tensor, rows: [Int32], to destination: Tensor) throws {
    try time(.memory) { try base.gather(source, rows: rows, to: destination) }
  }
  package func scatter(_ source: Tensor, to destination: Tensor, rows: [Int32]) throws {
    try time(.memory) { try base.scatter(source, to: destination, rows: rows) }
  }

  // MARK: Matrices

  package func makeRandomMatrices(
    outputs: [Int], inputs: Int, bound: Float, seed: UInt64, storage: FrozenStorage, segment: MatrixSegment?
  ) throws -> [any FrozenMatrix] {
    try base.makeRandomMatrices(
      outputs: outputs, inputs: inputs, bound: bound, seed: seed, storage: storage, segment: segment)
  }
  package func makeMatrixStream(_ shapes: [FrozenShape], places: Int) throws -> (any MatrixStream)? {
    try base.makeMatrixStream(shapes, places: places)
  }
  package func embed(_ tokens: [Int32], _ table: any FrozenMatrix, into x: Tensor) throws {
    try time(.memory) { try base.embed(tokens, table, into: x) }
  }
  package func makeFrozenMatrices(_ sources: [MatrixSource], directions: ProductDirections) throws
    -> [any FrozenMatrix]
  {
    try base.makeFrozenMatrices(sources, directions: directions)
  }
  package func extend(_ matrix: any FrozenMatrix, directions: ProductDirections, source: MatrixSource) throws {
    try base.extend(matrix, directions: directions, source: source)
  }
  package func linear(
    _ x: Tensor, _ projections: [Projection], into outputs: [Tensor], lowRank: [Tensor?], accumulate: Bool,
    dropout: DropoutKey?
  ) throws {
    try time(.matrixProducts) {
      try base.linear(x, projections, into: outputs, lowRank: lowRank, accumulate: accumulate, dropout: dropout)
    }
  }
  package func lowRankInput(_ x: Tensor, _ projections: [Projection], into lowRank: [Tensor?], dropout: DropoutKey?)
    throws
  {
    try time(.matrixProducts) { try base.lowRankInput(x, projections, into: lowRank, dropout: dropout) }
  }
  package func linearBackward(
    _ gradients: [Tensor], _ projections: [Projection], lowRank: [Tensor?], lowRankGradients: [Tensor?],
    into dx: Tensor?, dropout: DropoutKey?
  ) throws {
    try time(.matrixProducts) {
      try base.linearBackward(
        gradients, projections, lowRank: lowRank, lowRankGradients: lowRankGradients, into: dx, dropout: dropout)
    }
  }
  package func linearBackwardA(
    _ x: Tensor, _ projections: [Projection], lowRankGradients: [Tensor?], dropout: DropoutKey?
  ) throws {
    try time(.matrixProducts) {
      try base.linearBackwardA(x, projections, lowRankGradients: lowRankGradients, dropout: dropout)
    }
  }
  package func linearSwiGLU(
    _ x: Tensor, _ gateUp: [Projection], gate: Tensor, up: Tensor, lowRank: [Tensor?], into activation: Tensor,
    dropout: DropoutKey?
  ) throws {
    try time(.matrixProducts) {
      try base.linearSwiGLU(x, gateUp, gate: gate, up: up, lowRank: lowRank, into: activation, dropout: dropout)
    }
  }
  package func linearSwiGLUBackward(
    _ dy: Tensor, _ down: [Projection], lowRank: [Tensor?], lowRankGradients: [Tensor?], gate: Tensor, up: Tensor,
    activation: Tensor, dropout: DropoutKey?
  ) throws {
    try time(.matrixProducts) {
      try base.linearSwiGLUBackward(
        dy, down, lowRank: lowRank, lowRankGradients: lowRankGradients, gate: gate, up: up, activation: activation,
        dropout: dropout)
    }
  }
  package func logits(_ x: Tensor, _ head: any FrozenMatrix, into logits: Tensor) throws {
    try time(.matrixProducts) { try base.logits(x, head, into: logits) }
  }
  package func logitsBackward(_ gradient: Tensor, _ head: any FrozenMatrix, into dx: Tensor) throws {
    try time(.matrixProducts) { try base.logitsBackward(gradient, head, into: dx) }
  }

  // MARK: Normalization, rotation, activation, attention

  package func rmsNorm(_ x: Tensor, _ gamma: Tensor, epsilon: Float, into y: Tensor, rstd: Tensor, saved: Tensor?)
    throws
  {
    try time(.elementwise) { try base.rmsNorm(x, gamma, epsilon: epsilon, into: y, rstd: rstd, saved: saved) }
  }
  package func rmsNormAgain(_ saved: Tensor, rstd: Tensor, _ gamma: Tensor, into y: Tensor) throws {
    try time(.elementwise) { try base.rmsNormAgain(saved, rstd: rstd, gamma, into: y) }
  }
  package func rmsNormBackward(
    _ dy: Tensor, saved: Tensor, rstd: Tensor, _ gamma: Tensor, addingTo dx: Tensor, copy: Tensor?
  ) throws {
    try time(.elementwise) {
      try base.rmsNormBackward(dy, saved: saved, rstd: rstd, gamma, addingTo: dx, copy: copy)
    }
  }
  package func rotate(
    _ x: Tensor, headDimension: Int, bias: Tensor?, positions: [Int32], cosines: Tensor, sines: Tensor, inverse: Bool
  ) throws {
    try time(.elementwise) {
      try base.rotate(
        x, headDimension: headDimension, bias: bias, positions: positions, cosines: cosines, sines: sines,
        inverse: inverse)
    }
  }
  package func addBias(_ bias: Tensor, to x: Tensor) throws { try time(.elementwise) { try base.addBias(bias, to: x) } }
  package func headNorm(_ x: Tensor, _ gamma: Tensor, epsilon: Float, into y: Tensor, rstd: Tensor?) throws {
    try time(.elementwise) { try base.headNorm(x, gamma, epsilon: epsilon, into: y, rstd: rstd) }
  }
  package func headNormBackward(_ gradient: Tensor, _ x: Tensor, rstd: Tensor, _ gamma: Tensor) throws {
    try time(.elementwise) { try base.headNormBackward(gradient, x, rstd: rstd, gamma) }
  }
  package func attention(
    _ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: AttentionShape, _ spans: [AttentionSpan], into output: Tensor,
    logSumExp: Tensor?
  ) throws {
    try time(.attention) { try base.attention(q, k, v, shape, spans, into: output, logSumExp: logSumExp) }
  }
  package func attentionBackward(
    _ dOutput: Tensor, _ q: Tensor, _ k: Tensor, _ v: Tensor, _ output: Tensor, logSumExp: Tensor,
    _ shape: AttentionShape, _ spans: [AttentionSpan], into dq: Tensor, _ dk: Tensor, _ dv: Tensor, workspace: Tensor
  ) throws {
    try time(.attention) {
      try base.attentionBackward(
        dOutput, q, k, v, output, logSumExp: logSumExp, shape, spans, into: dq, dk, dv, workspace: workspace)
    }
  }
  package func swiGLU(_ gate: Tensor, _ up: Tensor, into y: Tensor) throws {
    try time(.elementwise) { try base.swiGLU(gate, up, into: y) }
  }
  package func swiGLUBackward(_ dy: Tensor, _ gate: Tensor, _ up: Tensor, y: Tensor?) throws {
    try time(.elementwise) { try base.swiGLUBackward(dy, gate, up, y: y) }
  }

  // MARK: Loss and optimizer

  package func crossEntropy(
    _ logits: Tensor, targets: [Int32], scale: Float, gradient: Tensor?, rowLosses: UnsafeMutablePointer<Float>?
  ) throws -> Double {
    try time(.crossEntropy) {
      try base.crossEntropy(logits, targets: targets, scale: scale, gradient: gradient, rowLosses: rowLosses)
    }
  }
  package func squaredNorm(_ x: Tensor) throws -> Double { try time(.optimizer) { try base.squaredNorm(x) } }
  package func adamW(
    parameters: Tensor, gradients: Tensor, firstMoment: Tensor, secondMoment: Tensor, _ step: AdamWStep
  ) throws {
    try time(.optimizer) {
      try base.adamW(
        parameters: parameters, gradients: gradients, firstMoment: firstMoment, secondMoment: secondMoment, step)
    }
  }
  package func scale(_ source: Tensor, by factor: Float, to destination: Tensor) throws {
    try time(.optimizer) { try base.scale(source, by: factor, to: destination) }
  }

  // MARK: Training

  package func addColumnSums(of dy: Tensor, times z: Tensor?, rowScales: Tensor?, to sums: Tensor) throws {
    try time(.elementwise) { try base.addColumnSums(of: dy, times: z, rowScales: rowScales, to: sums) }
  }
  package func scaleColumns(_ x: Tensor, by factors: Tensor, into y: Tensor, accumulate: Bool) throws {
    try time(.elementwise) { try base.scaleColumns(x, by: factors, into: y, accumulate: accumulate) }
  }
  package func adaptedRowNorms(
    squaredNorms: Tensor, scaledB: Tensor, products: Tensor, magnitudes: Tensor, inverses: Tensor, factors: Tensor
  ) throws {
    try time(.optimizer) {
      try base.adaptedRowNorms(
        squaredNorms: squaredNorms, scaledB: scaledB, products: products, magnitudes: magnitudes, inverses: inverses,
        factors: factors)
    }
  }
  package func addWeightGradient(_ dy: Tensor, _ x: Tensor, to gradient: Tensor) throws {
    try time(.matrixProducts) { try base.addWeightGradient(dy, x, to: gradient) }
  }
  package func replace(_ matrix: any FrozenMatrix, with values: Tensor) throws {
    try time(.optimizer) { try base.replace(matrix, with: values) }
  }
  package func scatterAdd(_ source: Tensor, to destination: Tensor, rows: [Int32]) throws {
    try time(.memory) { try base.scatterAdd(source, to: destination, rows: rows) }
  }
  package func addNoise(to x: Tensor, bound: Float, seed: UInt64, stream: UInt64) throws {
    try time(.elementwise) { try base.addNoise(to: x, bound: bound, seed: seed, stream: stream) }
  }
  package func splitDropout(_ x: Tensor, _ pair: LowRankPair, _ key: DropoutKey, kept: Tensor, rest: Tensor) throws {
    try time(.elementwise) { try base.splitDropout(x, pair, key, kept: kept, rest: rest) }
  }
  package func joinDropout(
    kept: Tensor, rest: Tensor, _ pair: LowRankPair, _ key: DropoutKey, into dx: Tensor, accumulate: Bool
  ) throws {
    try time(.elementwise) {
      try base.joinDropout(kept: kept, rest: rest, pair, key, into: dx, accumulate: accumulate)
    }
  }
  package func mix(_ x: Tensor, into average: Tensor, keep: Float) throws {
    try time(.optimizer) { try base.mix(x, into: average, keep: keep) }
  }
  package func adamW8bit(
    parameters: Tensor, gradients: Tensor, _ moments: QuantizedMoments, _ step: AdamWStep
  ) throws {
    try time(.optimizer) { try base.adamW8bit(parameters: parameters, gradients: gradients, moments, step) }
  }
}
