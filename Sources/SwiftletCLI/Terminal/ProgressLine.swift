import Training

/// The progress of a run on standard error: one line that rewrites itself on a terminal, a line now and then in a log.
struct ProgressLine {
  /// What one step reports.
  struct Step {
    var step: Int
    var totalSteps: Int
    var loss: Double
    var learningRate: Double
    var gradientNorm: Double
    var tokensPerSecond: Double
    /// Seconds that remain.
    var eta: Double
    /// Bytes of memory in use.
    var memoryBytes: Int
    var evalLoss: Double?
    /// Of pairs of answers: the share in which the better one is the likelier.
    var rewardAccuracy: Double?
    /// Whether the step changed nothing, because its loss or gradient was no finite number.
    var isSkipped = false
    /// Whether the loss leapt out of its course.
    var isSpike = false

    /// Whether the line must not be written over, nor left out of a log.
    var isRemarkable: Bool { evalLoss != nil || isSkipped || isSpike }
  }

  /// In a log: seconds after which a line is due, whatever the progress.
  static let logInterval = 10.0

  private var line: RewrittenLine
  private var lastLine: (time: Double, step: Int)?
  private var mean = SmoothedSeries()

  init(
    isTerminal: Bool = StandardError.isTerminal, columns: @escaping () -> Int = { StandardError.columns },
    write: @escaping (String) -> Void = StandardError.write
  ) {
    line = RewrittenLine(isTerminal: isTerminal, columns: columns, write: write)
  }

  /// Shows a step; `now` is any clock in seconds.
  mutating func show(_ step: Step, at now: Double) {
    let mean = mean.add(step.loss)
    guard line.isTerminal || isDue(step, now) else { return }
    line.show(Self.text(step, mean: mean, columns: line.room), at: now)
    lastLine = (now, step.step)
    // What is remarkable stays on the screen; the next step begins a new line.
    if step.isRemarkable { line.finish() }
  }

  /// Ends the line, so that other text begins on one of its own.
  mutating func finish() { line.finish() }

  private func isDue(_ step: Step, _ now: Double) -> Bool {
    guard let lastLine, !step.isRemarkable, step.step < step.totalSteps else { return true }
    return now - lastLine.time >= Self.logInterval || (step.step - lastLine.step) * 10 >= step.totalSteps
  }

  /// The step in one line; where it has more than so many characters, without what matters least.
  static func text(_ step: Step, mean: Double, columns: Int = .max) -> String {
    let total = step.totalSteps.description
    let number = step.step.description
    let padding = String(repeating: " ", count: max(0, total.count - number.count))
    var parts: [(text: String, rank: Int)] = [
      ("step \(padding)\(number)/\(total)", 0), ("loss \(Formatting.fixed(step.loss, 4))", 0),
      ("mean \(Formatting.fixed(mean, 4))", 3),
    ]
    if let accuracy = step.rewardAccuracy { parts.append(("won \(Formatting.fixed(100 * accuracy, 0))%", 2)) }
    if step.isSkipped { parts.append(("SKIPPED: not finite", 0)) }
    if step.isSpike { parts.append(("SPIKE", 0)) }
    if let evalLoss = step.evalLoss { parts.append(("eval \(Formatting.fixed(evalLoss, 4))", 0)) }
    parts += [
      ("lr \(Formatting.scientific(step.learningRate))", 5), ("grad \(Formatting.fixed(step.gradientNorm, 3))", 4),
      ("\(Formatting.count(step.tokensPerSecond)) tokens/s", 2), (Formatting.bytes(step.memoryBytes), 6),
    ]
    if step.step < step.totalSteps { parts.append(("eta \(Formatting.duration(step.eta))", 1)) }
    func line() -> String { parts.map(\.text).joined(separator: "  ") }
    while line().count > columns, let worst = parts.map(\.rank).max(), worst > 0 {
      parts.removeAll { $0.rank == worst }
    }
    return line()
  }
}
