/// Why a tokenizer or one of its files cannot be used: one line for the user.
public struct TokenizationError: Error, CustomStringConvertible, Equatable, Sendable {
  /// What is wrong, where, and what to do.
  public let description: String

  /// Makes an error of one line.
  public init(_ description: String) {
    self.description = description
  }
}
