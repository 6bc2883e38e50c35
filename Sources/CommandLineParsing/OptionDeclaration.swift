/// An option without its Swift type: what the parser and the help need to know.
public struct OptionDeclaration: Sendable {
  /// What follows the option's name.
  public enum Arity: Sendable, Equatable {
    /// Nothing: the option is on when it is there; `negatable` ones also have a `--no-` form.
    case flag(negatable: Bool)
    /// One value; the last occurrence wins.
    case one
    /// One value per occurrence; all count.
    case many
  }

  /// The name without dashes in front: `max-tokens`.
  public let name: String
  /// Other names; one of a single letter is also understood with one dash.
  public let aliases: [String]
  /// What follows the name.
  public let arity: Arity
  /// What help writes for the value.
  public let placeholder: String
  /// One line of help.
  public let help: String
  /// The default as help shows it.
  public let defaultText: String?
  /// The heading under which help lists the option; nil means "Options".
  public let group: String?
  /// What is wrong with a value's text; nil when nothing is.
  let problem: @Sendable (String) -> String?

  /// Declares an option whose text is checked by `problem`.
  public init(
    name: String, aliases: [String] = [], arity: Arity, placeholder: String = "", help: String,
    defaultText: String? = nil, group: String? = nil, problem: @escaping @Sendable (String) -> String? = { _ in nil }
  ) {
    self.name = name
    self.aliases = aliases
    self.arity = arity
    self.placeholder = placeholder
    self.help = help
    self.defaultText = defaultText
    self.group = group
    self.problem = problem
  }
}

/// A positional argument without its Swift type.
public struct ArgumentDeclaration: Sendable {
  /// The name as help shows it: `MODEL`.
  public let name: String
  /// One line of help.
  public let help: String
  /// Whether a command line without it is refused.
  public let isRequired: Bool
  /// Whether it takes all words that are left, as only the last argument can; ``ParsedArguments/texts(of:)`` gives them.
  public let isRepeated: Bool

  /// Declares an argument.
  public init(name: String, help: String, isRequired: Bool, isRepeated: Bool = false) {
    self.name = name
    self.help = help
    self.isRequired = isRequired
    self.isRepeated = isRepeated
  }
}
