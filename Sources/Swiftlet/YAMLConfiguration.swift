import CommandLineParsing
import Training

/// A YAML file of training options: the keys of ``TrainingOption`` with values not yet read.
///
///     model: SmolLM2-135M-Instruct.Q4_1.gguf
///     data: [chats.jsonl, more.jsonl]
///     learning_rate: 2e-4
///
/// A command line overrides it: apply the file first, then the flags.
public struct YAMLConfiguration: Sendable {
  /// One key of the file.
  struct Entry: Sendable {
    let option: TrainingOption
    let key: String
    let value: YAMLMapping.Value
    let line: Int
  }

  /// The name that errors show.
  public let file: String
  let entries: [Entry]

  /// Reads a file.
  public init(path: String) throws(YAMLError) {
    try self.init(bytes: try readConfigurationFile(path), file: path)
  }

  /// Reads a text; `file` is the name that errors show.
  public init(text: String, file: String = "configuration") throws(YAMLError) {
    try self.init(bytes: Array(text.utf8), file: file)
  }

  init(bytes: [UInt8], file: String) throws(YAMLError) {
    self.file = file
    var entries: [Entry] = []
    for (key, value, line) in try YAMLMapping.parse(bytes, file: file) {
      guard let option = TrainingOption.named(key) else { throw Self.unknown(key, file: file, line: line) }
      if let earlier = entries.first(where: { $0.option.name == option.name }) {
        throw YAMLError(
          file: file, line: line, message: "\(key) repeats \(earlier.key) of line \(earlier.line); remove one")
      }
      entries.append(Entry(option: option, key: key, value: value, line: line))
    }
    self.entries = entries
  }

  /// Sets every option that the file names; a `null` leaves the option as it is.
  public func apply(to configuration: inout TrainingConfiguration) throws(YAMLError) {
    for entry in entries {
      let texts: [String]
      switch (entry.value, entry.option.kind) {
      case (.null, _): continue
      case (.scalar(let text), _): texts = [text]
      case (.sequence(let items), .texts), (.sequence(let items), .words): texts = items
      case (.sequence, let kind):
        throw YAMLError(file: file, line: entry.line, message: "\(entry.key): a list is not \(kind.noun)")
      }
      do {
        try entry.option.set(texts, in: &configuration)
      } catch {
        throw YAMLError(file: file, line: entry.line, message: "\(entry.key): \(error.reason)")
      }
    }
  }

  /// The line on which the file sets the option; nil when it does not.
  public func line(of option: String) -> Int? { entries.first { $0.option.name == option }?.line }

  private static func unknown(_ key: String, file: String, line: Int) -> YAMLError {
    let names = TrainingOption.all.flatMap { [$0.key] + $0.aliases.filter { $0.count > 1 } }
    let message = "unknown key \"\(key)\""
    guard let near = nearestWord(to: key, in: names) else {
      return YAMLError(file: file, line: line, message: message + "; the keys are the options of tune with _ for -")
    }
    let shown = String(near.map { $0 == "-" ? "_" : $0 })
    return YAMLError(file: file, line: line, message: message + "; did you mean \(shown)?")
  }
}

/// A YAML file that cannot be used, in one line with file and line number.
public struct YAMLError: Error, Equatable, CustomStringConvertible {
  /// The file as the user named it.
  public let file: String
  /// The line, from 1; nil when the error is not of one line.
  public let line: Int?
  /// What is wrong and what to do.
  public let message: String

  /// One line for the user.
  public var description: String { line.map { "\(file):\($0): \(message)" } ?? "\(file): \(message)" }
}
