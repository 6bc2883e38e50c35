/// Why a template cannot be read or rendered, and where.
public struct TemplateError: Error, CustomStringConvertible, Equatable, Sendable {
  /// The line, counted from 1; 0 where there is no place to name.
  public let line: Int
  /// The column in characters, counted from 1.
  public let column: Int
  /// What is wrong there.
  public let message: String
  /// Whether the template itself refused its input (`raise_exception`).
  public let isRaisedByTemplate: Bool

  /// Makes an error at a place.
  public init(line: Int, column: Int, message: String, isRaisedByTemplate: Bool = false) {
    self.line = line
    self.column = column
    self.message = message
    self.isRaisedByTemplate = isRaisedByTemplate
  }

  init(_ message: String, at location: SourceLocation) {
    self.init(line: location.line, column: location.column, message: message)
  }

  /// The place and the reason in one line.
  public var description: String {
    let place = line > 0 ? "chat template, line \(line), column \(column): " : "chat template: "
    // A template may raise a text of several lines.
    return place + message.split(whereSeparator: \.isNewline).joined(separator: " ")
  }
}

/// A place in a template.
struct SourceLocation: Equatable, Sendable {
  /// Counted from 1.
  var line: Int
  /// Counted from 1, in characters.
  var column: Int
}
