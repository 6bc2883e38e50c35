/// A type that an option or argument can have.
public protocol CommandValue: Sendable, SendableMetatype {
  /// The value that `text` writes; nil when it writes none.
  static func parse(_ text: String) -> Self?
  /// What an error says was expected: "a whole number".
  static var noun: String { get }
  /// The value as help shows it.
  var shown: String { get }
}

extension String: CommandValue {
  /// Any text is a value.
  public static func parse(_ text: String) -> String? { text }
  /// What an error says was expected.
  public static var noun: String { "a text" }
  /// The text itself.
  public var shown: String { self }
}

extension Int: CommandValue {
  /// A whole number in decimal digits.
  public static func parse(_ text: String) -> Int? { Int(text) }
  /// What an error says was expected.
  public static var noun: String { "a whole number" }
  /// Decimal digits.
  public var shown: String { description }
}

extension UInt64: CommandValue {
  /// A whole number from 0 in decimal digits.
  public static func parse(_ text: String) -> UInt64? { UInt64(text) }
  /// What an error says was expected.
  public static var noun: String { "a whole number from 0" }
  /// Decimal digits.
  public var shown: String { description }
}

extension Double: CommandValue {
  /// A finite number.
  public static func parse(_ text: String) -> Double? { Double(text).flatMap { $0.isFinite ? $0 : nil } }
  /// What an error says was expected.
  public static var noun: String { "a number" }
  /// Without a fraction when there is none.
  public var shown: String { Int(exactly: self)?.description ?? description }
}

/// An option with one of a few words: conform a `String` enumeration to it.
public protocol CommandChoice: CommandValue, RawRepresentable<String>, CaseIterable {}

extension CommandChoice {
  /// The case whose raw value is `text`, in upper or lower case.
  public static func parse(_ text: String) -> Self? { Self(rawValue: text.lowercased()) }
  /// What an error says was expected.
  public static var noun: String {
    let words = allCases.map(\.rawValue)
    return words.count == 1 ? words[0] : "one of " + words.joined(separator: ", ")
  }
  /// The raw value.
  public var shown: String { rawValue }
}
