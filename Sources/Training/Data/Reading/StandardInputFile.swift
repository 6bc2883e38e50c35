import Glibc

/// Standard input as a file that can be read more than once: its bytes go to a file without a name, which goes with the
/// last reference.
final class StandardInputFile: Sendable {
  private let descriptor: Int32

  /// Reads standard input to its end.
  init() throws(DatasetError) {
    let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array("\(folder)/swiftlet-input-XXXXXX".utf8CString)
    descriptor = mkstemp(&template)
    guard descriptor >= 0 else {
      throw DatasetError(
        path: "-", "no temporary file can be made in \(folder) (TMPDIR): \(String(cString: strerror(errno)))")
    }
    unlink(&template)
    var buffer = [UInt8](repeating: 0, count: 1 << 18)
    while true {
      let count = read(STDIN_FILENO, &buffer, buffer.count)
      if count == 0 { break }
      if count < 0 {
        if errno == EINTR { continue }
        throw DatasetError(path: "-", "standard input cannot be read: \(String(cString: strerror(errno)))")
      }
      var done = 0
      while done < count {
        let written = buffer.withUnsafeBytes { write(descriptor, $0.baseAddress.map { $0 + done }, count - done) }
        if written < 0 {
          if errno == EINTR { continue }
          throw DatasetError(
            path: "-", "standard input cannot be kept in \(folder) (TMPDIR): \(String(cString: strerror(errno)))")
        }
        done += written
      }
    }
  }

  deinit { close(descriptor) }

  /// A path that opens the bytes from their beginning.
  var file: String { "/proc/self/fd/\(descriptor)" }
}
