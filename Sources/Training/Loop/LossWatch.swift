/// Tells a loss that leaps out of its recent course, and keeps a smoothed loss on the way.
struct LossWatch: Sendable, Equatable {
  /// Losses seen.
  private(set) var count = 0
  /// Their running mean, of the last twenty or so.
  private(set) var mean = 0.0
  /// Their running variance.
  private(set) var variance = 0.0

  /// Losses without which there is no course to leap from.
  static let warmUp = 20

  init() {}

  /// Goes on from saved numbers.
  init(count: Int, mean: Double, variance: Double) {
    self.count = count
    self.mean = mean
    self.variance = variance
  }

  /// Takes in a loss; true where it lies six standard deviations, and an eighth, above the mean.
  mutating func isSpike(_ loss: Double) -> Bool {
    guard loss.isFinite else { return false }
    let limit = mean + max(6 * variance.squareRoot(), 0.125 * abs(mean))
    let isSpike = count >= Self.warmUp && loss > limit
    // A spike counts as far as the limit: the next one must still be seen, and a new level be accepted in time.
    let seen = isSpike ? limit : loss
    count += 1
    let weight = max(0.05, 1 / Double(count))
    let difference = seen - mean
    mean += weight * difference
    variance = (1 - weight) * (variance + weight * difference * difference)
    return isSpike
  }
}
