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
    let reason =
      switch code {
      case ENOSPC: "the disk is full; free some space and run again"
      case EDQUOT: "the disk quota is used up; free some space and run again"
      case EFBIG: "the file would be larger than this system or its limits allow"
      case EROFS: "the file system is read-only; choose another folder"
      case EACCES, EPERM: "permission denied"
      case ENOENT: "no such file or folder"
      case ENOTDIR: "a part of the path is no folder"
      case EISDIR: "this is a folder"
      case EMFILE, ENFILE: "too many open files"
      default: String(cString: strerror(code))
      }
    return ModelFileError(path, "cannot \(action): \(reason)")
  }
}

/// A name from a file as it is shown in messages: in quotes, short, without control characters.
func quoted(_ name: String) -> String {
  let shown = name.unicodeScalars.prefix(120).map { $0.value < 0x20 || $0.value == 0x7F ? "?" : Character($0) }
  return "'\(String(shown))\(name.unicodeScalars.count > 120 ? "…" : "")'"
}
