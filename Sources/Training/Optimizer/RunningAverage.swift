import ModelFiles
import Models
import Tensors

/// A running average of what a run learns (EMA), which can take its place for a while.
final class RunningAverage {
  /// How much of the average a step keeps.
  let decay: Double
  private let learned: any LearnedParameters
  private let device: any Device
  private let average: Tensor
  private let kept: Tensor

  /// An average that begins with the parameters as they are.
  init(of learned: any LearnedParameters, decay: Double, on device: any Device) throws {
    self.learned = learned
    self.decay = decay
    self.device = device
    func vector() throws -> Tensor {
      Tensor(
        try device.allocate(byteCount: max(learned.count, 1) * 4), rows: 1, columns: learned.count, dtype: .float32)
    }
    average = try vector()
    kept = try vector()
    try device.copy(learned.parameters, to: average)
  }

  /// Takes in the parameters after `step` steps; the first ones count more, so that the beginning is soon forgotten.
  func update(step: Int) throws {
    let keep = min(decay, Double(1 + step) / Double(10 + step))
    try device.mix(learned.parameters, into: average, keep: Float(keep))
  }

  /// Runs `work` with the average in place of the parameters.
  func inPlace<Result>(_ work: () throws -> Result) throws -> Result {
    try device.copy(learned.parameters, to: kept)
    try device.copy(average, to: learned.parameters)
    try learned.refresh()
    let result: Result
    do {
      result = try work()
    } catch {
      try? putBack()
      throw error
    }
    try putBack()
    return result
  }

  private func putBack() throws {
    try device.copy(kept, to: learned.parameters)
    try learned.refresh()
  }

  // MARK: State

  /// The average in the host's memory.
  func snapshot(baseModel: String?) throws -> any LearnedSnapshot {
    try learned.snapshot(of: average, baseModel: baseModel)
  }

  /// A copy of the parameters themselves in the host's memory, beside the average that a checkpoint shows.
  func parameters() throws -> [StateTensor] {
    [
      StateTensor(
        name: Self.name, shape: [learned.count], format: .float32,
        bytes: try device.floats(learned.parameters).withUnsafeBytes { Array($0) })
    ]
  }

  /// Takes the parameters as they were loaded from a checkpoint for the average, and those in `path` for the parameters.
  func restore(from path: String) throws {
    try device.copy(learned.parameters, to: average)
    try StateTensors.read(path, [(Self.name, [learned.count], .float32)]) { _, bytes in
      try device.upload(bytes, to: learned.parameters)
    }
    try learned.refresh()
  }

  private static let name = "parameters"
}
