/// The progress of work on many things, or bytes, on standard error: one line that rewrites itself on a terminal, a line every ten
/// seconds in a log.
struct CountProgressLine {
  private let total: Int
  private let text: (_ done: Int, _ rate: Double) -> String
  private let isTerminal: Bool
  private let write: (String) -> Void
  private var start: Double?
  private var last = 0.0
  private var isOpen = false

  /// Counts things of a name.
  init(
    action: String, unit: String, total: Int, isTerminal: Bool = StandardError.isTerminal,
    write: @escaping (String) -> Void = StandardError.write
  ) {
    self.total = total
    text = { done, _ in "\(action) \(done) of \(total) \(unit)" }
    self.isTerminal = isTerminal
    self.write = write
  }

  /// Counts bytes, and says how many a second.
  init(
    action: String, bytes total: Int, isTerminal: Bool = StandardError.isTerminal,
    write: @escaping (String) -> Void = StandardError.write
  ) {
    self.total = total
    text = { done, rate in
      "\(action) \(Formatting.bytes(done)) of \(Formatting.bytes(total))  \(Formatting.bytes(Int(rate)))/s"
    }
    self.isTerminal = isTerminal
    self.write = write
  }

  /// Shows how many are done; `now` is any clock in seconds.
  mutating func show(_ done: Int, at now: Double) {
    guard let start else {
      (start, last) = (now, now)
      return
    }
    guard now - last >= (isTerminal ? 0.2 : 10) else { return }
    last = now
    let rate = Double(done) / max(now - start, 1e-9)
    var text = text(done, rate)
    if rate > 0 { text += "  eta \(Formatting.duration(Double(total - done) / rate))" }
    write(isTerminal ? "\r\u{1B}[K\(text)" : text + "\n")
    isOpen = isTerminal
  }

  /// Ends the line, so that other text begins on one of its own.
  mutating func finish() {
    if isOpen { write("\n") }
    isOpen = false
  }
}
