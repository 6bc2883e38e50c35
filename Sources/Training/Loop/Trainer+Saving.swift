import ModelFiles
import Models

// Checkpoints are copied in memory and written by a thread of their own: a step waits for the copy alone.
extension Trainer {
  static let optimizerFileName = "optimizer.safetensors"
  /// The parameters themselves, where a checkpoint shows their running average.
  static let parametersFileName = "parameters.safetensors"

  /// Saves the run as it stands, and marks it as the best so far where it is.
  func save(isBest: Bool) throws {
    let values = try snapshot()
    let parameters = try average?.parameters()
    let moments = try optimizer.state()
    let (store, metrics, state) = (folder.checkpoints, metrics, state)
    let byteCount = checkpointByteCount
    try saving.start {
      // The log must not lack lines that the checkpoint says are written.
      try metrics.synchronize()
      try store.save(step: state.step, byteCount: byteCount) { path in
        try values.save(to: path)
        try StateTensors.write(moments, to: "\(path)/\(Self.optimizerFileName)")
        if let parameters { try StateTensors.write(parameters, to: "\(path)/\(Self.parametersFileName)") }
        try state.save(to: path)
      }
      if isBest {
        try store.markBest(step: state.step)
        // Only now is the earlier best one of the others.
        try store.prune(keeping: state.step)
      }
    }
  }

  /// Writes what the run's folder gets at its end.
  func writeResult() throws {
    if configuration.loadBestAtEnd, let best = state.bestStep,
      let entry = folder.checkpoints.entries.first(where: { $0.step == best })
    {
      try folder.checkpoints.verify(entry)
      try learned.load(folder: entry.path)
      try learned.snapshot(baseModel: configuration.model).save(to: folder.path)
    } else {
      try snapshot().save(to: folder.path)
    }
  }

  /// What a checkpoint shows: the running average, where there is one.
  private func snapshot() throws -> any LearnedSnapshot {
    try average?.snapshot(baseModel: configuration.model) ?? learned.snapshot(baseModel: configuration.model)
  }

  private var checkpointByteCount: Int {
    learned.count * (average == nil ? 4 : 8) + optimizer.stateByteCount + (1 << 20)
  }

  /// What the rest of the run will write.
  var diskNeeds: DiskNeeds {
    let left = state.totalSteps - state.step
    func times(_ steps: Int?) -> Int { steps.map { $0 > 0 ? left / $0 + 1 : 0 } ?? 0 }
    let evaluations = configuration.isEvaluated ? times(configuration.evalSteps) + 1 : 0
    return DiskNeeds(
      checkpoint: checkpointByteCount, result: learned.count * 4,
      saves: min(left, times(configuration.saveSteps) + evaluations + 1),
      limit: configuration.saveLimit, metricsLines: times(configuration.logSteps) + evaluations)
  }
}
