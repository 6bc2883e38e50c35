/// What training asks of a device beyond a model's own forward and backward pass.
///
/// ``Device`` says what the words mean.
public protocol TrainingOperations: AnyObject {
  /// sums[c] += Σ_r dy[r, c] · z[r, c] · rowScales[r], rows in one order: the gradient of a bias (z and rowScales nil), of a
  /// norm's γ (z: what was normed, rowScales: its 1 / rms), of a magnitude (z: what it scales). dy: compute or fp32 `[T, C]`;
  /// z: compute `[T, C]`; rowScales: fp32 `[1, T]`; sums: fp32 `[1, C]`.
  func addColumnSums(of dy: Tensor, times z: Tensor?, rowScales: Tensor?, to sums: Tensor) throws
  /// y[r, c] = x[r, c] · factors[c], or added to y. x: compute or fp32 `[T, C]`; y: compute or fp32, may be x; factors: fp32
  /// `[1, C]`.
  func scaleColumns(_ x: Tensor, by factors: Tensor, into y: Tensor, accumulate: Bool) throws
  /// Of ‖W_o + (s·B·A)_o‖ for every row o: its inverse, and magnitude_o times it (DoRA).
  ///
  /// squaredNorms: ‖W_o‖², fp32 `[1, outputs]`; scaledB: compute `[outputs, rank]`; products: A · (2 W + s·B·A)ᵀ, fp32
  /// `[rank, outputs]`; magnitudes, inverses, factors: fp32 `[1, outputs]`.
  func adaptedRowNorms(
    squaredNorms: Tensor, scaledB: Tensor, products: Tensor, magnitudes: Tensor, inverses: Tensor, factors: Tensor)
    throws
  /// gradient += dyᵀ · x. dy: compute `[T, outputs]`; x: compute `[T, inputs]`; gradient: fp32 `[outputs, inputs]`.
  func addWeightGradient(_ dy: Tensor, _ x: Tensor, to gradient: Tensor) throws
  /// Gives `matrix`, one that is kept in operands' type, new values in every direction that it serves. values: fp32
  /// `[outputs, inputs]`.
  func replace(_ matrix: any FrozenMatrix, with values: Tensor) throws
  /// Row i of `source` is added to row `rows[i]` of `destination`, which may come several times, in one order. Both fp32.
  func scatterAdd(_ source: Tensor, to destination: Tensor, rows: [Int32]) throws
  /// Adds uniform noise in ±bound: element (r, c) of x `[n, C]`, residual, draws Philox 4×32-10 of (r · C + c, stream) under
  /// `seed`, on every device alike.
  func addNoise(to x: Tensor, bound: Float, seed: UInt64, stream: UInt64) throws
  /// kept = k · x and rest = (1 − k) · x, where k of an element is 0 or 1 / (1 − p), as ``Device/linear(_:_:into:lowRank:accumulate:dropout:)``
  /// draws it for `pair`. All compute `[T, inputs]`.
  func splitDropout(_ x: Tensor, _ pair: LowRankPair, _ key: DropoutKey, kept: Tensor, rest: Tensor) throws
  /// The backward pass of a split whose parts go different ways: dx = k · kept + (1 − k) · rest, or added to dx. kept, rest:
  /// their gradients, fp32 `[T, inputs]`; dx: compute or fp32.
  func joinDropout(
    kept: Tensor, rest: Tensor, _ pair: LowRankPair, _ key: DropoutKey, into dx: Tensor, accumulate: Bool) throws
  /// average = keep · average + (1 − keep) · x; fp32, dense, of one size.
  func mix(_ x: Tensor, into average: Tensor, keep: Float) throws
  /// One AdamW step on flat fp32 parameters whose moments are 8-bit codes in blocks of 256 with a scale each (Dettmers et
  /// al., 2022).
  func adamW8bit(parameters: Tensor, gradients: Tensor, _ moments: QuantizedMoments, _ step: AdamWStep) throws
}

/// Adam's moments as 8-bit codes, in blocks of ``blockLength`` elements.
public struct QuantizedMoments: Sendable {
  /// Elements of a block; the last one may have fewer.
  public static let blockLength = 256

  /// Codes of the first moment: uint8 `[1, count]`.
  public var firstCodes: Tensor
  /// Codes of the second moment.
  public var secondCodes: Tensor
  /// What a block's values are multiplied by: fp32 `[1, blocks]`.
  public var firstScales: Tensor
  /// What a block's values are multiplied by.
  public var secondScales: Tensor
  /// What each code stands for, rising: fp32 `[1, 256]`.
  public var firstMap: Tensor
  /// What each code stands for, rising.
  public var secondMap: Tensor

  /// Moments from their parts.
  public init(
    firstCodes: Tensor, secondCodes: Tensor, firstScales: Tensor, secondScales: Tensor, firstMap: Tensor,
    secondMap: Tensor
  ) {
    self.firstCodes = firstCodes
    self.secondCodes = secondCodes
    self.firstScales = firstScales
    self.secondScales = secondScales
    self.firstMap = firstMap
    self.secondMap = secondMap
  }
}
