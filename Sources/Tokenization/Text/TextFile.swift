import Glibc
import JSONValues

/// Reads the small text files of a model folder.
enum TextFile {
  /// The bytes of a file; `nil` when there is no such file.
  static func read(_ path: String) throws(TokenizationError) -> [UInt8]? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else {
      if errno == ENOENT || errno == ENOTDIR { return nil }
      throw TokenizationError("\(path): \(String(cString: strerror(errno)))")
    }
    defer { close(file) }
    var status = stat()
    guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw TokenizationError("\(path): not a regular file")
    }
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeMutableBytes { Glibc.read(file, $0.baseAddress.map { $0 + done }, $0.count - done) }
      if count < 0 {
        if errno == EINTR { continue }
        throw TokenizationError("\(path): \(String(cString: strerror(errno)))")
      }
      if count == 0 { break }
      done += count
    }
    return Array(bytes.prefix(done))
  }

  /// The JSON in a file; `nil` when there is no such file.
  static func json(_ path: String) throws(TokenizationError) -> JSONValue? {
    guard let bytes = try read(path) else { return nil }
    do {
      return try bytes.withUnsafeBytes { (bytes) throws(JSONError) in try JSONValue.parse(bytes) }
    } catch {
      throw TokenizationError("\(path): \(error)")
    }
  }
}
