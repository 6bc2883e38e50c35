import Glibc

/// The learning rate of every step: a warm-up from 0, then a decay, as transformers' `get_scheduler` defines them.
///
/// Step `s` (counted from 0) uses the factor that `LambdaLR` gives before its `s`-th `step()`. The first step of a warm-up
/// therefore has learning rate 0.
public struct LearningRateSchedule: Sendable, Equatable {
  /// How it goes on after the warm-up.
  public let shape: TrainingConfiguration.Scheduler
  /// The learning rate at the end of the warm-up.
  public let peak: Double
  /// Steps of the warm-up.
  public let warmupSteps: Int
  /// Steps of the run.
  public let totalSteps: Int
  /// The learning rate of the end as a share of the peak, 0 to 1; `constant` has none.
  public let minimumRatio: Double
  /// Steps of the fall at the end, for `wsd`.
  public let decaySteps: Int

  /// A schedule over `totalSteps` steps, the first `warmupSteps` of them rising.
  public init(
    shape: TrainingConfiguration.Scheduler, peak: Double, warmupSteps: Int, totalSteps: Int, minimumRatio: Double = 0,
    decayRatio: Double = 0.1
  ) {
    self.shape = shape
    self.peak = peak
    self.warmupSteps = max(0, warmupSteps)
    self.totalSteps = max(0, totalSteps)
    self.minimumRatio = min(max(0, minimumRatio), 1)
    decaySteps = Self.warmupSteps(ratio: decayRatio, totalSteps: self.totalSteps)
  }

  /// Steps of a warm-up over the share `ratio` of a run, rounded up.
  public static func warmupSteps(ratio: Double, totalSteps: Int) -> Int {
    let steps = (Double(totalSteps) * min(max(0, ratio), 1)).rounded(.up)
    return Int(exactly: steps) ?? totalSteps
  }

  /// The learning rate of step `step`, counted from 0.
  public func learningRate(atStep step: Int) -> Double { peak * factor(atStep: step) }

  /// The share of the peak at step `step`, counted from 0.
  public func factor(atStep step: Int) -> Double {
    if step < warmupSteps { return Double(max(0, step)) / Double(max(1, warmupSteps)) }
    let decaySteps = Double(max(1, totalSteps - warmupSteps))
    func halfCosine(_ share: Double) -> Double { max(0, 0.5 * (1 + cos(Double.pi * min(1, share)))) }
    let decayed: Double
    switch shape {
    case .constant: return 1
    case .linear: decayed = max(0, Double(totalSteps - step) / decaySteps)
    case .cosine: decayed = halfCosine(Double(step - warmupSteps) / decaySteps)
    case .wsd:
      // What the warm-up leaves too few steps for is taken from the fall.
      let begin = max(warmupSteps, totalSteps - self.decaySteps)
      if step < begin { return 1 }
      decayed = step < totalSteps ? halfCosine(Double(step - begin) / Double(max(1, totalSteps - begin))) : 0
    }
    return decayed * (1 - minimumRatio) + minimumRatio
  }
}
