import Tensors

/// DoRA's magnitudes of an adapter: what each row of W + s·B·A is scaled to, beside the norm that it has.
///
/// The norms follow A and B and are computed again after each step; they count as constants in the gradient, as in PEFT.
final class Magnitudes {
  /// A matrix that is adapted.
  struct Base {
    /// W.
    var matrix: any FrozenMatrix
    /// ‖W_o‖² of every row.
    var squaredRowNorms: [Float]
  }

  /// m / ‖W + s·B·A‖ of all rows: fp32 `[1, Σ outputs]`.
  let factors: Tensor
  /// 1 / ‖W + s·B·A‖ of all rows.
  let inverses: Tensor
  private let magnitudes: Tensor
  private let squaredNorms: Tensor
  private let products: Tensor
  private let lowRank: Tensor
  private let bases: [Base]
  private var pairs: [LowRankPair?]
  private let device: any Device

  /// The magnitudes in `parameters` (fp32 `[1, Σ outputs]`) of matrices in their order.
  init(_ bases: [Base], rank: Int, _ parameters: Tensor, on device: any Device) throws {
    self.bases = bases
    self.device = device
    magnitudes = parameters
    pairs = bases.map { _ in nil }
    squaredNorms = try device.tensor(bases.flatMap(\.squaredRowNorms))
    func room(_ rows: Int, _ columns: Int, _ dtype: DType) throws -> Tensor {
      Tensor(
        try device.allocate(byteCount: max(rows * columns, 1) * dtype.byteCount), rows: rows, columns: columns,
        dtype: dtype)
    }
    factors = try room(1, parameters.columns, .float32)
    inverses = try room(1, parameters.columns, .float32)
    products = try room(rank, bases.map { $0.matrix.outputs }.max() ?? 1, .float32)
    lowRank = try room(rank, rank, device.computeType)
  }

  /// Says which pair lies beside a matrix.
  func add(_ pair: LowRankPair, at index: Int) { pairs[index] = pair }

  /// ‖W_o‖ of all rows: what magnitudes begin with.
  func rowNorms() throws -> [Float] { try device.floats(squaredNorms).map { $0.squareRoot() } }

  /// Brings factors and norms up to date with A, B and the magnitudes.
  ///
  /// ‖W_o + (s·B·A)_o‖² = ‖W_o‖² + (s·B)_o · (A · (2 W + s·B·A)ᵀ)_o, so that no product of full size is formed.
  func refresh() throws {
    var first = 0
    for (base, pair) in zip(bases, pairs) {
      let range = first..<first + base.matrix.outputs
      first = range.upperBound
      guard let pair else { continue }
      let products = products.reshaped(rows: pair.rank, columns: range.count)
      try device.linear(
        pair.a, [Projection(base.matrix)], into: [products], lowRank: [nil], accumulate: false, dropout: nil)
      try device.linear(
        pair.a, [Projection(base.matrix, lowRank: pair)], into: [products], lowRank: [lowRank], accumulate: true,
        dropout: nil)
      try device.adaptedRowNorms(
        squaredNorms: squaredNorms.columns(range), scaledB: pair.scaledB, products: products,
        magnitudes: magnitudes.columns(range), inverses: inverses.columns(range), factors: factors.columns(range))
    }
  }
}

extension Block {
  /// `device.linear` of modules that read the same x, the columns of those with a magnitude scaled by it.
  func project(
    _ x: Tensor, _ modules: [TargetModule], into outputs: [Tensor], _ memory: BlockMemory, accumulate: Bool = false,
    dropout: DropoutKey?, on device: any Device
  ) throws {
    let projections = modules.map { self[$0] }
    // An adapter may be taken away for a while: its room then stands empty.
    let unscaled = modules.map { hasMagnitude($0) ? memory.unscaled[$0] : nil }
    let scales = unscaled.contains { $0 != nil }
    // A group that adds to its output has one module.
    try device.linear(
      x, projections, into: zip(unscaled, outputs).map { $0 ?? $1 }, lowRank: memory.lowRank(modules),
      accumulate: accumulate && !scales, dropout: dropout)
    guard scales else { return }
    for (index, projection) in projections.enumerated() {
      guard let magnitude = projection.lowRank?.magnitude, let z = unscaled[index] else { continue }
      try device.scaleColumns(z, by: magnitude.factors, into: outputs[index], accumulate: accumulate)
    }
  }

  /// Turns the gradients of modules' outputs into those of what their magnitudes scale, in place, and adds to the
  /// magnitudes' own.
  func unscale(
    _ gradients: [Tensor], _ modules: [TargetModule], _ memory: BlockMemory, on device: any Device
  ) throws {
    for (gradient, module) in zip(gradients, modules) {
      guard let magnitude = self[module].lowRank?.magnitude, let z = memory.unscaled[module] else { continue }
      if let sums = magnitude.gradient {
        try device.addColumnSums(of: gradient, times: z, rowScales: nil, to: sums)
      }
      try device.scaleColumns(gradient, by: magnitude.factors, into: gradient, accumulate: false)
    }
  }

  /// Whether a module's output is scaled by a magnitude.
  func hasMagnitude(_ module: TargetModule) -> Bool { self[module].lowRank?.magnitude != nil }
}
