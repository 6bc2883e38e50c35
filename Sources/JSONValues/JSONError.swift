/// Why a text is not the JSON that was asked for, and where.
public struct JSONError: Error, CustomStringConvertible, Equatable, Sendable {
  /// The line, counted from 1.
  public let line: Int
  /// The column in Unicode scalars, counted from 1.
  public let column: Int
  /// What is wrong there.
  public let message: String

  /// Makes an error at a place of the text.
  public init(line: Int, column: Int, message: String) {
    self.line = line
    self.column = column
    self.message = message
  }

  /// The place and the reason in one line.
  public var description: String { "line \(line), column \(column): \(message)" }
}

/// What the parser refuses.
public struct JSONParsingOptions: Sendable {
  /// How many arrays and objects may lie within each other.
  public var maximumDepth: Int
  /// Whether an object with the same key twice is an error; otherwise the last value wins, at the place of the first.
  public var refusesDuplicateKeys: Bool

  /// Makes options; the defaults accept what Python's `json.loads` accepts, save NaN, Infinity and lone surrogates.
  public init(maximumDepth: Int = 512, refusesDuplicateKeys: Bool = false) {
    self.maximumDepth = maximumDepth
    self.refusesDuplicateKeys = refusesDuplicateKeys
  }
}
