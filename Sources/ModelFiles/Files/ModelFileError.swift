import Glibc

/// Why a file cannot be read or written: which file, and what is wrong with it.
public struct ModelFileError: Error, CustomStringConvertible, Equatable, Sendable {
  /// The file or folder.
  public let path: String
  /// What is wrong, and what to do about it.
  public let message: String

  /// Makes an error about a file.
  public init(_ path: String, _ message: String) {
    self.path = path
    self.message = message
  }

  /// The path and the reason in one line.
  public var description: String { "\(path): \(message)" }

  /// An error of the system, in words.
  static func system(_ path: String, _ action: String, _ code: Int32 = errno) -> ModelFileError {
    ModelFileError(path, "cannot \(action): \(SystemFailure.reason(code))")
  }
}

/// Failures of the system in words.
package enum SystemFailure {
  /// What an error number means, and what to do.
  /// - Parameters:
  ///   - again: how what failed is run again.
  ///   - elsewhere: how another place is named, where being refused says that one is needed.
  package static func reason(_ code: Int32, again: String = "run again", elsewhere: String? = nil) -> String {
    switch code {
    case ENOSPC: "the disk is full; free some space and \(again)"
    case EDQUOT: "the disk quota is used up; free some space and \(again)"
    case EFBIG: "the file would be larger than this system or its limits allow"
    case EROFS: "the file system is read-only; choose another \(elsewhere ?? "folder")"
    case EACCES, EPERM: elsewhere.map { "permission denied; choose another \($0)" } ?? "permission denied"
    case ENOENT: "no such file or folder"
    case ENOTDIR: "a part of the path is no folder"
    case EISDIR: "this is a folder"
    case EEXIST: "something else has this name"
    case EMFILE, ENFILE: "too many open files"
    default: String(cString: strerror(code))
    }
  }
}

/// A name from a file as it is shown in messages: in quotes, short, without control characters.
func quoted(_ name: String) -> String {
  let shown = name.unicodeScalars.prefix(120).map { $0.value < 0x20 || $0.value == 0x7F ? "?" : Character($0) }
  return "'\(String(shown))\(name.unicodeScalars.count > 120 ? "…" : "")'"
}
