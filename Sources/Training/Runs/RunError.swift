import Glibc
import ModelFiles

/// Why a run's folder cannot be written, read or resumed.
public struct RunError: Error, CustomStringConvertible, Equatable, Sendable {
  /// The file or folder.
  public let path: String
  /// What is wrong and what to do.
  public let message: String

  /// An error about a file or folder.
  public init(_ path: String, _ message: String) {
    self.path = path
    self.message = message
  }

  /// The one line that a user sees.
  public var description: String { "\(path): \(message)" }

  /// An error of the system, in words.
  static func system(_ path: String, _ action: String, _ code: Int32 = errno) -> RunError {
    let reason = SystemFailure.reason(code, again: "run again with --resume", elsewhere: "--output")
    return RunError(path, "cannot \(action): \(reason)")
  }
}
