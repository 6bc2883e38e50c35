import Glibc

/// A folder of a test's own, removed with everything in it when the last reference goes.
public final class TemporaryFolder: Sendable {
  /// Path of the folder.
  public let path: String

  /// Makes a new folder below `TMPDIR`, or `/tmp`.
  public init() throws {
    let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array("\(parent)/swiftlet-test-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw TemporaryFolderError(message: "no temporary folder in \(parent)") }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  deinit { Self.removeAll(path) }

  /// Writes a file into the folder and gives back its path.
  public func write(_ name: String, _ text: String) throws -> String { try write(name, Array(text.utf8)) }

  /// Writes a file into the folder and gives back its path.
  public func write(_ name: String, _ bytes: [UInt8]) throws -> String {
    let file = "\(path)/\(name)"
    guard let stream = fopen(file, "w") else { throw TemporaryFolderError(message: "cannot write \(file)") }
    defer { fclose(stream) }
    guard fwrite(bytes, 1, bytes.count, stream) == bytes.count else {
      throw TemporaryFolderError(message: "cannot write \(file)")
    }
    return file
  }

  /// Makes a folder in the folder.
  public func makeFolder(_ name: String) throws {
    guard mkdir("\(path)/\(name)", 0o777) == 0 else {
      throw TemporaryFolderError(message: "cannot make \(path)/\(name)")
    }
  }

  /// All bytes of a file; `nil` when there is none.
  public static func bytes(of path: String) -> [UInt8]? {
    guard let stream = fopen(path, "r") else { return nil }
    defer { fclose(stream) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while case let count = fread(&buffer, 1, buffer.count, stream), count > 0 { bytes += buffer[..<count] }
    return bytes
  }

  /// The text of a file; `nil` when there is none.
  public static func text(of path: String) -> String? { bytes(of: path).map { String(decoding: $0, as: UTF8.self) } }

  /// Removes a file or a folder with everything in it.
  public static func removeAll(_ path: String) {
    if unlink(path) == 0 { return }
    if let folder = opendir(path) {
      while let entry = readdir(folder) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
          pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != ".", name != ".." { removeAll("\(path)/\(name)") }
      }
      closedir(folder)
    }
    rmdir(path)
  }
}

/// Why a test has no folder to work in.
public struct TemporaryFolderError: Error, CustomStringConvertible {
  let message: String
  /// The message.
  public var description: String { message }
}
