import Hub
import Synchronization
import Training

/// The progress of a download on standard error: one line that rewrites itself on a terminal, a line now and then in a log.
final class DownloadLine: Sendable {
  private struct State {
    var began: (time: Double, bytes: Int)?
    var line = RewrittenLine()
  }
  private let name: String
  private let state = Mutex(State())

  init(_ name: String) { self.name = name }

  deinit { finish() }

  /// Shows how far it is.
  func show(_ progress: HubProgress) {
    let now = MonotonicClock.now()
    state.withLock { state in
      let began = state.began ?? (now, progress.bytesDone)
      state.began = began
      guard progress.filesLeft == 0 || state.line.isDue(at: now) else { return }
      let rate = Double(progress.bytesDone - began.bytes) / max(now - began.time, 1e-3)
      state.line.show(Self.text(name, progress, rate: rate), at: now)
    }
  }

  /// Says something between two lines of progress.
  func remark(_ text: String) {
    finish()
    StandardError.write("swiftlet: \(text)\n")
  }

  /// Ends the line, so that other text begins on one of its own.
  func finish() { state.withLock { $0.line.finish() } }

  static func text(_ name: String, _ progress: HubProgress, rate: Double) -> String {
    let left = Double(progress.bytesTotal - progress.bytesDone)
    let percent = progress.bytesTotal > 0 ? 100 * Double(progress.bytesDone) / Double(progress.bytesTotal) : 100
    var text = "\(name)  \(Formatting.bytes(progress.bytesDone)) of \(Formatting.bytes(progress.bytesTotal))"
    text += "  \(Formatting.fixed(percent, 0))%  \(Formatting.bytes(Int(max(0, min(rate, 1e15)))))/s"
    if left > 0, rate > 0 { text += "  eta \(Formatting.duration(left / rate))" }
    return text
  }
}
