/// One low-rank pair (LoRA) beside a frozen matrix: y += x · Aᵀ · (s·B)ᵀ.
///
/// `a` and `scaledB` are copies in the type of matrix operands, refreshed after each optimizer step; the gradients are
/// fp32 and are accumulated, not assigned, so that several micro-batches add up.
public struct LowRankPair: Sendable {
  /// A: `[rank, inputs]`.
  public let a: Tensor
  /// s·B: `[outputs, rank]`, the scale already inside.
  public let scaledB: Tensor
  /// dA: fp32 `[rank, inputs]`; nil when the adapter is only used, not trained.
  public let gradientA: Tensor?
  /// d(s·B): fp32 `[outputs, rank]`.
  ///
  /// The gradient of B is s times this; the optimizer applies s.
  public let gradientB: Tensor?
  /// The probability that an element of x is dropped before A sees it, in training.
  public let dropout: Float
  /// Distinguishes this pair's dropout from every other pair's.
  public let stream: UInt32

  /// DoRA's factors of the projection's columns; nil without.
  public var magnitude: Magnitude?

  /// The rank.
  public var rank: Int { a.rows }

  /// y = (x · Wᵀ + x · Aᵀ · (s·B)ᵀ) ∘ m / ‖W + s·B·A‖, the norm of each row taken as a constant (Liu et al., 2024).
  public struct Magnitude: Sendable {
    /// m / ‖W + s·B·A‖ of each output: fp32 `[1, outputs]`.
    public let factors: Tensor
    /// What Σ dy · (y before the factors) is added to: fp32 `[1, outputs]`; nil when the adapter is only used.
    public let gradient: Tensor?

    /// Factors and the place of their gradient.
    public init(factors: Tensor, gradient: Tensor?) {
      self.factors = factors
      self.gradient = gradient
    }
  }

  /// A pair from its parts.
  public init(a: Tensor, scaledB: Tensor, gradientA: Tensor?, gradientB: Tensor?, dropout: Float, stream: UInt32) {
    self.a = a
    self.scaledB = scaledB
    self.gradientA = gradientA
    self.gradientB = gradientB
    self.dropout = dropout
    self.stream = stream
  }
}
