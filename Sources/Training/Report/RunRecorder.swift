import Glibc
import JSONValues
import ModelFiles

/// Follows a run and writes what people look at: TensorBoard's events and the report.
///
/// It reads the run's own `metrics.jsonl`, so that both show what the log says, after an interruption too. What cannot be
/// written is no reason to stop a run; the log itself is the trainer's care.
public final class RunRecorder {
  /// Seconds between two reports of a run that is under way.
  private static let reportInterval = 30.0

  private let folder: RunFolder
  private let report: RunReport
  private let dataJSON: JSONValue
  private var reader: MetricsReader
  private var points: [MetricsLine]
  private let events: EventFile?
  private var smoothed = SmoothedSeries()
  private var lastReport = -Double.infinity

  /// Begins to follow a run.
  ///
  /// - Parameters:
  ///   - remarks: Lines under the report's title.
  ///   - stepsDone: Steps of earlier processes.
  ///   - writesEvents: Whether TensorBoard gets anything.
  public init(
    _ folder: RunFolder, remarks: [String], totalSteps: Int, stepsDone: Int, data: JSONValue,
    settings: [(name: String, value: String)], writesEvents: Bool
  ) {
    self.folder = folder
    dataJSON = data
    let name = folder.path.split(separator: "/").last.map(String.init) ?? folder.path
    report = RunReport(
      name: name, remarks: remarks, totalSteps: totalSteps, points: [], data: data, settings: settings)
    reader = MetricsReader(path: folder.metricsPath)
    // What earlier processes logged is in their files already.
    points = stepsDone > 0 ? reader.newPoints() : []
    for loss in points.compactMap(\.loss) { _ = smoothed.add(loss) }
    events =
      writesEvents
      ? EventFile(folder: "\(folder.path)/tensorboard", time: Self.now, step: stepsDone) : nil
    if stepsDone == 0 {
      events?.add(
        [(name: "configuration", text: settings.map { "    \($0.name): \($0.value)" }.joined(separator: "\n"))],
        time: Self.now, step: 0)
    }
    try? writeAtomically(data.serialized(pretty: true) + "\n", to: "\(folder.path)/data.json")
  }

  /// Takes in what the log has since the last call; writes the report now and then.
  public func update() {
    let new = reader.newPoints()
    for point in new { note(point) }
    points += new
    let now = MonotonicClock.now()
    if !new.isEmpty, now - lastReport >= Self.reportInterval { writeReport(at: now) }
  }

  /// Takes in the rest of the log and writes the report.
  public func finish() {
    let new = reader.newPoints()
    for point in new { note(point) }
    points += new
    writeReport(at: MonotonicClock.now())
  }

  private func note(_ point: MetricsLine) {
    guard let events else { return }
    var values: [(name: String, value: Double)] = []
    func add(_ name: String, _ value: Double?) { if let value { values.append((name, value)) } }
    add("train/loss", point.loss)
    add("train/loss_smoothed", point.loss.map { smoothed.add($0) })
    add("train/learning_rate", point.learningRate)
    add("train/grad_norm", point.gradientNorm)
    add("train/tokens_per_second", point.tokensPerSecond)
    add("train/tokens", point.tokens.map(Double.init))
    add("train/memory_bytes", point.memoryBytes.map { Double($0) })
    add("train/reward_margin", point.rewardMargin)
    add("train/reward_accuracy", point.rewardAccuracy)
    add("eval/loss", point.evalLoss)
    add("eval/perplexity", point.evalLoss.map { exp($0) })
    events.add(values, time: Self.now, step: point.step)
    events.add(
      point.samples.enumerated().map { index, sample in
        (name: "answers/\(index + 1)", text: "**\(sample.prompt)**\n\n\(sample.answer)")
      }, time: Self.now, step: point.step)
  }

  private func writeReport(at now: Double) {
    lastReport = now
    var report = report
    report.points = points
    try? writeAtomically(report.html, to: "\(folder.path)/report.html")
  }

  private static var now: Double {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }
}
