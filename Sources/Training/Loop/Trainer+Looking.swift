import Models

// Looking at the model between steps: the held-out loss, and answers to prompts.
extension Trainer {
  /// The caller asked to stop; what was under way is dropped.
  struct StopRequest: Error {}

  /// What the model is seen to do after a step.
  struct Look {
    var loss: Double?
    var samples: [SampleAnswer] = []
  }

  /// Evaluates and asks, as far as this step's number wants it; nothing, and it stays due, where a stop breaks it off.
  func look() throws -> Look {
    /// Whether what comes every `steps`, and before the first and after the last one, comes now.
    func isDue(_ steps: Int?) -> Bool {
      state.step == 0 || state.step == state.totalSteps || steps.map { state.step % $0 == 0 } ?? false
    }
    var seen = Look()
    do {
      if heldOut != nil, isDue(configuration.evalSteps) { seen.loss = try evaluate() }
      if isDue(configuration.sampleSteps ?? configuration.evalSteps) { seen.samples = try answers() }
    } catch is StopRequest {
      state.isLookDue = true
      return Look()
    }
    state.isLookDue = false
    if let loss = seen.loss { note(evalLoss: loss) }
    return seen
  }

  /// Looks before the first step, or after one whose look was broken off.
  func lookBetweenSteps(_ session: inout Session) throws {
    let seen = try look()
    if state.isLookDue { throw StopRequest() }
    session.evalLoss = seen.loss
    var line = MetricsLine(step: state.step)
    (line.evalLoss, line.samples) = (seen.loss, seen.samples)
    if line.evalLoss != nil || !line.samples.isEmpty { try metrics.append(line) }
    if state.step > 0, state.bestStep == state.step { try markSavedAsBest() }
  }

  /// Mean loss of the held-out data: of its trained tokens, or of its pairs.
  private func evaluate() throws -> Double {
    guard let (data, examples) = heldOut else { return .nan }
    return try withAverage {
      func forEachBatch(_ work: (PackedBatch) throws -> Void) throws {
        for start in stride(from: 0, to: examples.count, by: configuration.batchSize) {
          let batch = try data.batch(of: examples[start..<min(start + configuration.batchSize, examples.count)])
          try goOn()
          if batch.trainedTokenCount > 0 { try work(batch) }
        }
      }
      var totals = objective.totals([])
      try forEachBatch { totals.add(objective.totals([$0])) }
      var loss = 0.0
      try forEachBatch { loss += try objective.evaluate(model, $0, totals) }
      return loss
    }
  }

  private func answers() throws -> [SampleAnswer] {
    guard let sampler, !configuration.samplePrompts.isEmpty else { return [] }
    return try withAverage {
      try goOn()
      let answers = try sampler(configuration.samplePrompts, configuration.sampleTokens) { !isStopRequested() }
      try goOn()
      return zip(configuration.samplePrompts, answers).map { SampleAnswer(prompt: $0, answer: $1) }
    }
  }

  /// Runs `work` with what the run will leave: the running average, where there is one.
  private func withAverage<Result>(_ work: () throws -> Result) throws -> Result {
    try average?.inPlace(work) ?? work()
  }

  func note(evalLoss: Double) {
    if state.step == 0 {
      state.firstEvalLoss = evalLoss
      return
    }
    let best = state.bestEvalLoss ?? .infinity
    state.evaluationsWithoutProgress =
      evalLoss < best - configuration.earlyStoppingThreshold ? 0 : state.evaluationsWithoutProgress + 1
    if evalLoss < best {
      state.bestEvalLoss = evalLoss
      state.bestStep = state.step
    }
  }

  /// Ends what is under way where a stop is asked for.
  func goOn() throws {
    if isStopRequested() { throw StopRequest() }
  }
}
