/// One line of text on standard error that rewrites itself on a terminal, and is written every ten seconds into a log.
struct RewrittenLine {
  let isTerminal: Bool
  private let columns: () -> Int
  private let write: (String) -> Void
  private var last: Double?
  private var isOpen = false

  init(
    isTerminal: Bool = StandardError.isTerminal, columns: @escaping () -> Int = { StandardError.columns },
    write: @escaping (String) -> Void = StandardError.write
  ) {
    self.isTerminal = isTerminal
    self.columns = columns
    self.write = write
  }

  /// Whether a text is due again; `now` is any clock in seconds.
  func isDue(at now: Double) -> Bool { last.map { now - $0 >= (isTerminal ? 0.2 : 10) } ?? true }

  /// Lets time pass as though a text had been shown.
  mutating func skip(at now: Double) { last = now }

  /// Characters that fit on the line.
  var room: Int { isTerminal ? max(20, columns() - 1) : .max }

  /// Shows a text in place of the one before.
  mutating func show(_ text: String, at now: Double) {
    last = now
    write(isTerminal ? "\r\u{1B}[K" + text.prefix(room) : text + "\n")
    isOpen = isTerminal
  }

  /// Ends the line, so that other text begins on one of its own.
  mutating func finish() {
    if isOpen { write("\n") }
    isOpen = false
  }
}
