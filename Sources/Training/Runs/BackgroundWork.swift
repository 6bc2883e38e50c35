import ModelFiles
import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// Work on a thread of its own, one piece at a time: what writes a checkpoint while training goes on.
final class BackgroundWork {
  private final class Outcome: Sendable {
    let failure = Mutex<(any Error)?>(nil)
  }

  private var running: (thread: pthread_t, outcome: Outcome)?

  /// Waits for the work before, throws its error if it failed, and begins `work`.
  func start(_ work: @escaping @Sendable () throws -> Void) throws {
    try finish()
    let outcome = Outcome()
    let body: @Sendable () -> Void = {
      do { try work() } catch { outcome.failure.withLock { $0 = error } }
    }
    guard let thread = startThread(body) else {
      // No thread to be had: then it takes the caller's time.
      return try work()
    }
    running = (thread, outcome)
  }

  /// Waits for the work; throws its error if it failed.
  func finish() throws {
    guard let (thread, outcome) = running else { return }
    running = nil
    pthread_join(thread, nil)
    if let failure = outcome.failure.withLock({ $0 }) { throw failure }
  }

  deinit { try? finish() }
}
