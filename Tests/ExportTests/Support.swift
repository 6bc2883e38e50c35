import Testing

/// Expects an error of one line that contains a text.
func expectError(
  _ text: String, _ location: SourceLocation = #_sourceLocation, _ body: () throws -> Void
) {
  do {
    try body()
    Issue.record("no error was thrown, one with \"\(text)\" was expected", sourceLocation: location)
  } catch {
    #expect("\(error)".contains(text) && !"\(error)".contains("\n"), "\(error)", sourceLocation: location)
  }
}
