/// An option of a command, with the Swift type of its value.
///
///     static let maxTokens = Option("max-tokens", "N", default: 256, in: 1...1_000_000, "Tokens to generate at most.")
///     ...
///     arguments[Self.maxTokens]   // Int
///
///     $ swiftlet generate model.gguf --prompt Hello --max-tokens 20
public struct Option<Value: Sendable>: Sendable {
  /// What the parser and the help need to know.
  public let declaration: OptionDeclaration
  let read: @Sendable ([String]) -> Value
}

extension Option where Value: CommandValue {
  /// An option with a default.
  public init(
    _ name: String, aliases: [String] = [], _ placeholder: String, default fallback: Value, group: String? = nil,
    _ help: String, check: @escaping @Sendable (Value) -> String? = { _ in nil }
  ) {
    declaration = OptionDeclaration(
      name: name, aliases: aliases, arity: .one, placeholder: placeholder, help: help, defaultText: fallback.shown,
      group: group, problem: { problem(of: $0, check) })
    read = { texts in texts.last.flatMap(Value.parse) ?? fallback }
  }
}

extension Option where Value: CommandValue & Comparable {
  /// An option with a default and limits.
  public init(
    _ name: String, aliases: [String] = [], _ placeholder: String, default fallback: Value,
    in range: ClosedRange<Value>, group: String? = nil, _ help: String
  ) {
    self.init(
      name, aliases: aliases, placeholder, default: fallback, group: group, help,
      check: { range.contains($0) ? nil : outside($0, range) })
  }
}

extension Option {
  /// An option that is nil when it is not given.
  public init<Wrapped: CommandValue>(
    _ name: String, aliases: [String] = [], _ placeholder: String, group: String? = nil, _ help: String,
    check: @escaping @Sendable (Wrapped) -> String? = { _ in nil }
  ) where Value == Wrapped? {
    declaration = OptionDeclaration(
      name: name, aliases: aliases, arity: .one, placeholder: placeholder, help: help, group: group,
      problem: { problem(of: $0, check) })
    read = { texts in texts.last.flatMap(Wrapped.parse) }
  }

  /// An option with limits that is nil when it is not given.
  public init<Wrapped: CommandValue & Comparable>(
    _ name: String, aliases: [String] = [], _ placeholder: String, in range: ClosedRange<Wrapped>,
    group: String? = nil, _ help: String
  ) where Value == Wrapped? {
    self.init(
      name, aliases: aliases, placeholder, group: group, help,
      check: { range.contains($0) ? nil : outside($0, range) })
  }
}

extension Option where Value == [String] {
  /// An option that may be given several times.
  public init(
    repeated name: String, aliases: [String] = [], _ placeholder: String, group: String? = nil, _ help: String
  ) {
    declaration = OptionDeclaration(
      name: name, aliases: aliases, arity: .many, placeholder: placeholder, help: help, group: group)
    read = { $0 }
  }
}

extension Option where Value == Bool {
  /// An option without a value, off unless it is given.
  public init(flag name: String, aliases: [String] = [], group: String? = nil, _ help: String) {
    declaration = OptionDeclaration(
      name: name, aliases: aliases, arity: .flag(negatable: false), help: help, group: group)
    read = { $0.last == "true" }
  }
}

/// A positional argument of a command, with the Swift type of its value.
public struct Argument<Value: Sendable>: Sendable {
  /// What the parser and the help need to know.
  public let declaration: ArgumentDeclaration
  let read: @Sendable (String?) -> Value
}

extension Argument where Value == String {
  /// An argument that must be there.
  public init(_ name: String, _ help: String) {
    declaration = ArgumentDeclaration(name: name, help: help, isRequired: true)
    read = { $0 ?? "" }
  }
}

extension Argument where Value == String? {
  /// An argument that may be left out.
  public init(optional name: String, _ help: String) {
    declaration = ArgumentDeclaration(name: name, help: help, isRequired: false)
    read = { $0 }
  }
}

private func problem<Value: CommandValue>(of text: String, _ check: (Value) -> String?) -> String? {
  guard let value = Value.parse(text) else { return "\"\(text)\" is not \(Value.noun)" }
  return check(value)
}

private func outside<Value: CommandValue & Comparable>(_ value: Value, _ range: ClosedRange<Value>) -> String {
  "\(value.shown) is not in \(range.lowerBound.shown) ... \(range.upperBound.shown)"
}
