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

  private let isTerminal: Bool
  private let columns: () -> Int
  private let write: (String) -> Void
  private var lastLine: (time: Double, step: Int)?
  private var isOpen = false

  init(
    isTerminal: Bool = StandardError.isTerminal, columns: @escaping () -> Int = { StandardError.columns },
    write: @escaping (String) -> Void = StandardError.write
  ) {
    self.isTerminal = isTerminal
    self.columns = columns
    self.write = write
  }

  /// Shows a step; `now` is any clock in seconds.
  mutating func show(_ step: Step, at now: Double) {
    let text = Self.text(step)
    guard isTerminal else {
      if isDue(step, now) {
        write(text + "\n")
        lastLine = (now, step.step)
      }
      return
    }
    // What is remarkable stays on the screen; the next step begins a new line.
    write("\r\u{1B}[K" + text.prefix(max(20, columns() - 1)) + (step.isRemarkable ? "\n" : ""))
    isOpen = !step.isRemarkable
  }

  /// Ends the line, so that other text begins on one of its own.
  mutating func finish() {
    if isOpen { write("\n") }
    isOpen = false
  }

  private func isDue(_ step: Step, _ now: Double) -> Bool {
    guard let lastLine, !step.isRemarkable, step.step < step.totalSteps else { return true }
    return now - lastLine.time >= Self.logInterval || (step.step - lastLine.step) * 10 >= step.totalSteps
  }

  static func text(_ step: Step) -> String {
    let total = step.totalSteps.description
    let number = step.step.description
    let padding = String(repeating: " ", count: max(0, total.count - number.count))
    var text = "step \(padding)\(number)/\(total)  loss \(Formatting.fixed(step.loss, 4))"
    if let accuracy = step.rewardAccuracy { text += "  won \(Formatting.fixed(100 * accuracy, 0))%" }
    if step.isSkipped { text += "  SKIPPED: not finite" }
    if step.isSpike { text += "  SPIKE" }
    if let evalLoss = step.evalLoss { text += "  eval \(Formatting.fixed(evalLoss, 4))" }
    text += "  lr \(Formatting.scientific(step.learningRate))  grad \(Formatting.fixed(step.gradientNorm, 3))"
    text += "  \(Formatting.count(step.tokensPerSecond)) tokens/s"
    if step.step < step.totalSteps { text += "  eta \(Formatting.duration(step.eta))" }
    return text
  }
}
