/// Why a dataset cannot be used, and where.
public struct DatasetError: Error, CustomStringConvertible, Equatable, Sendable {
  /// The file.
  public let path: String
  /// The line in it, counted from 1, where the record begins; `nil` when the whole file is meant.
  public let line: Int?
  /// What is wrong and what to do.
  public let message: String

  /// An error at a line of a file.
  public init(path: String, line: Int? = nil, _ message: String) {
    self.path = path
    self.line = line
    self.message = message
  }

  /// The one line that a user sees: `data.jsonl:12: what is wrong`.
  public var description: String { "\(path)\(line.map { ":\($0)" } ?? ""): \(message)" }
}
