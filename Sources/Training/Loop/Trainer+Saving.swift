import ModelFiles
import Models

// Checkpoints are copied in memory and written by a thread of their own: a step waits for the copy alone.
extension Trainer {
  static let optimizerFileName = "optimizer.safetensors"
  /// The parameters themselves, where a checkpoint shows their running average.
  static let parametersFileName = "parameters.safetensors"

  /// Saves the run as it stands, and marks it as the best so far where it is.
  func save(isBest: Bool) throws {
    let began = MonotonicClock.now()
    defer { longestSaveStall = max(longestSaveStall, MonotonicClock.now() - began) }
    let values = try snapshot()
    let parameters = try average?.parameters()
    let moments = try optimizer.state()
    let (store, metrics, state, companions) = (folder.checkpoints, metrics, state, companions)
    let byteCount = checkpointByteCount
    savedStep = state.step
    try saving.start {
      // The log must not lack lines that the checkpoint says are written.
      try metrics.synchronize()
      try store.save(step: state.step, byteCount: byteCount) { path in
        try values.save(to: path)
        try writeAtomically(companions, into: path)
        try StateTensors.write(moments, to: "\(path)/\(Self.optimizerFileName)")
        if let parameters { try StateTensors.write(parameters, to: "\(path)/\(Self.parametersFileName)") }
        try state.save(to: path)
      }
      if isBest { try store.markBest(step: state.step) }
    }
  }

  /// Marks the checkpoint of this step, which is there already, as the best so far.
  func markSavedAsBest() throws {
    try saving.finish()
    try folder.checkpoints.markBest(step: state.step)
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
    try writeAtomically(companions, into: folder.path)
  }

  /// What a checkpoint shows: the running average, where there is one.
  private func snapshot() throws -> any LearnedSnapshot {
    try average?.snapshot(baseModel: configuration.model) ?? learned.snapshot(baseModel: configuration.model)
  }

  private var companionByteCount: Int { companions.reduce(0) { $0 + $1.bytes.count } }

  private var checkpointByteCount: Int {
    Self.copyByteCount(of: learned, average: average, optimizer: optimizer) + companionByteCount + (1 << 20)
  }

  /// Bytes of the copy that a checkpoint is written from.
  static func copyByteCount(of learned: any LearnedParameters, average: RunningAverage?, optimizer: Optimizer) -> Int {
    learned.count * (average == nil ? 4 : 8) + optimizer.stateByteCount
  }

  /// What the rest of the run will write.
  var diskNeeds: DiskNeeds {
    let left = state.totalSteps - state.step
    func times(_ steps: Int?) -> Int { steps.map { $0 > 0 ? left / $0 + 1 : 0 } ?? 0 }
    let evaluations = configuration.isEvaluated ? times(configuration.evalSteps) + 1 : 0
    let (asked, _) = (times(configuration.sampleSteps ?? configuration.evalSteps) + 2)
      .multipliedReportingOverflow(by: configuration.samplePrompts.count)
    let longest = configuration.samplePrompts.map(\.utf8.count).max() ?? 0
    return DiskNeeds(
      checkpoint: checkpointByteCount, result: learned.count * 4 + companionByteCount,
      saves: min(left, times(configuration.saveSteps) + evaluations + 1),
      limit: configuration.saveLimit,
      lines: (times(configuration.logSteps) + evaluations, configuration.tensorBoard ? 1300 : 500),
      // A token has eight bytes at most in all but strange languages, and what is escaped takes six times as much.
      answers: (asked, 3 * (longest + 8 * configuration.sampleTokens)))
  }
}
