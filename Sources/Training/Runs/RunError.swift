import Glibc

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
    let reason =
      switch code {
      case ENOSPC: "the disk is full; free some space and run again with --resume"
      case EDQUOT: "the disk quota is used up; free some space and run again with --resume"
      case EFBIG: "the file would be larger than this system or its limits allow"
      case EROFS: "the file system is read-only; choose another --output"
      case EACCES, EPERM: "permission denied; choose another --output"
      case ENOTDIR: "a part of the path is no folder"
      case ENOENT: "no such file or folder"
      case EEXIST: "something else has this name"
      default: String(cString: strerror(code))
      }
    return RunError(path, "cannot \(action): \(reason)")
  }
}
