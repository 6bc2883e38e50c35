import Glibc
import Synchronization

/// The user's ^C or a SIGTERM ended the work; there is nothing to add to what was said.
struct Interrupted: Error {
  /// 128 and the signal's number, as shells count.
  let status: Int32
}

/// Turns ^C and SIGTERM into a flag that long work reads now and then; the second signal exits at once.
enum Interruption {
  /// The first signal that came; 0 while none has.
  static var signal: Int32 { pending.load(ordering: .relaxed) }

  /// Whether a signal asks the work to stop.
  static var isRequested: Bool { signal != 0 }

  /// The error that ends a command after a signal.
  static var error: Interrupted { Interrupted(status: 128 + signal) }

  /// Installs the handlers.
  static func catchSignals() {
    // Touched here, so that the handler never runs a lazy initializer.
    pending.store(0, ordering: .relaxed)
    _ = farewell.load(ordering: .relaxed)
    var both = sigset_t()
    sigemptyset(&both)
    for number in [SIGINT, SIGTERM] {
      var action = sigaction()
      action.__sigaction_handler.sa_handler = { number in
        if let text = UnsafePointer<CChar>(bitPattern: farewell.load(ordering: .relaxed)) {
          _ = write(STDERR_FILENO, text, strlen(text))
          _exit(0)
        }
        if pending.exchange(number, ordering: .relaxed) != 0 { _exit(128 + number) }
      }
      // No SA_RESTART: a prompt that waits for a line must wake up.
      sigaction(number, &action, nil)
      sigaddset(&both, number)
    }
    // A parent that blocks signals hands that down.
    pthread_sigmask(SIG_UNBLOCK, &both, nil)
  }

  /// Installs the handlers for work that has nothing to lose yet: the first signal says `text` and exits with status 0.
  ///
  /// From ``beginWork()`` on, signals are as ``catchSignals()`` has them.
  static func catchSignals(beforeWorkSaying text: String) {
    farewell.store(UInt(bitPattern: strdup(text)), ordering: .relaxed)
    catchSignals()
  }

  /// There is something to lose now.
  static func beginWork() { farewell.store(0, ordering: .relaxed) }

  /// Forgets a signal that has been answered.
  static func clear() { pending.store(0, ordering: .relaxed) }
}

private let pending = Atomic<Int32>(0)
/// The address of what the first signal says before it exits; 0 for none.
private let farewell = Atomic<UInt>(0)
