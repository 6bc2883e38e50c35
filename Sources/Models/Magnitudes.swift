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
