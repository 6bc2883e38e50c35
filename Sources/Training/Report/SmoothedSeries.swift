/// The running mean of a noisy series, as TensorBoard draws it: exponential, without a bias towards its start.
public struct SmoothedSeries: Sendable, Equatable {
  private let keep: Double
  private var sum = 0.0
  private var weight = 0.0

  /// A mean that keeps this share of its past with each value.
  public init(keep: Double = 0.9) { self.keep = keep }

  /// The mean so far; `nil` before the first value.
  public var value: Double? { weight > 0 ? sum / weight : nil }

  /// Takes in a value, unless it is not finite, and gives the mean.
  public mutating func add(_ value: Double) -> Double {
    if value.isFinite {
      sum = keep * sum + (1 - keep) * value
      weight = keep * weight + (1 - keep)
    }
    return self.value ?? value
  }
}
