import Glibc
import JSONValues

/// Texts that a command line names: a file, or `-` for standard input.
enum TextFiles {
  /// The bytes of a file; ``InputFailure`` when it cannot be read.
  static func bytes(_ path: String) throws -> [UInt8] {
    let name = path == "-" ? "standard input" : path
    let descriptor = path == "-" ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw InputFailure("\(name) cannot be opened: \(String(cString: strerror(errno)))")
    }
    defer { if path != "-" { close(descriptor) } }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = read(descriptor, &chunk, chunk.count)
      if count == 0 { return bytes }
      if count > 0 {
        bytes += chunk.prefix(count)
      } else if errno != EINTR {
        throw InputFailure("\(name) cannot be read: \(String(cString: strerror(errno)))")
      }
    }
  }

  /// The text of a UTF-8 file, without a byte-order mark.
  static func text(_ path: String) throws -> String {
    let bytes = try bytes(path)
    guard
      let text = String(
        validating: bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? bytes.dropFirst(3) : bytes[...], as: UTF8.self)
    else { throw InputFailure("\(path) is not UTF-8 text; convert it first") }
    return text
  }

  /// The value of a JSON file; the error names file, line and column.
  static func json(_ path: String) throws -> JSONValue {
    let bytes = try bytes(path)
    do {
      return try JSONValue.parse(bytes)
    } catch {
      throw InputFailure("\(path):\(error.line):\(error.column): \(error.message)")
    }
  }
}

/// A conversation: a JSON array of messages, or an object that holds one under `messages`, and `tools` beside it.
struct Conversation {
  var messages: JSONValue
  var tools: JSONValue?

  init(path: String) throws {
    let value = try TextFiles.json(path)
    let messages = value["messages"] ?? value
    guard messages.array != nil else {
      throw InputFailure("\(path) holds no messages; write [{\"role\": \"user\", \"content\": \"...\"}]")
    }
    self.messages = messages
    tools = value.object == nil ? nil : value["tools"]
  }
}
