/// The progress of work on many things, or bytes, on standard error, with the time that remains.
struct CountProgressLine {
  private let total: Int
  private let text: (_ done: Int, _ rate: Double) -> String
  private var start: Double?
  private var line: RewrittenLine

  /// Counts things of a name.
  init(action: String, unit: String, total: Int, line: RewrittenLine = RewrittenLine()) {
    self.total = total
    text = { done, _ in "\(action) \(done) of \(total) \(unit)" }
    self.line = line
  }

  /// Counts bytes, and says how many a second.
  init(action: String, bytes total: Int, line: RewrittenLine = RewrittenLine()) {
    self.total = total
    text = { done, rate in
      "\(action) \(Formatting.bytes(done)) of \(Formatting.bytes(total))  \(Formatting.bytes(Int(rate)))/s"
    }
    self.line = line
  }

  /// Shows how many are done; `now` is any clock in seconds.
  mutating func show(_ done: Int, at now: Double) {
    guard let start else {
      start = now
      return line.skip(at: now)
    }
    guard line.isDue(at: now) else { return }
    let rate = Double(done) / max(now - start, 1e-9)
    line.show(
      text(done, rate) + (rate > 0 ? "  eta \(Formatting.duration(Double(total - done) / rate))" : ""), at: now)
  }

  /// Ends the line, so that other text begins on one of its own.
  mutating func finish() { line.finish() }
}
