/// A command of a tool, declared as data.
public struct Command: Sendable {
  /// The word on the command line.
  public let name: String
  /// One line of help.
  public let summary: String
  /// Command lines that help shows.
  public let examples: [String]
  /// Positional arguments in order.
  public let arguments: [ArgumentDeclaration]
  /// Options in the order in which help shows them.
  public let options: [OptionDeclaration]

  /// Declares a command.
  public init(
    name: String, summary: String, examples: [String] = [], arguments: [ArgumentDeclaration] = [],
    options: [OptionDeclaration] = []
  ) {
    self.name = name
    self.summary = summary
    self.examples = examples
    self.arguments = arguments
    self.options = options
  }
}

/// A command-line tool: a name and its commands.
public struct Tool: Sendable {
  /// The name that the user types.
  public let name: String
  /// The version that `--version` prints.
  public let version: String
  /// One line of help.
  public let summary: String
  /// Commands in the order in which help shows them.
  public let commands: [Command]

  /// Declares a tool.
  public init(name: String, version: String, summary: String, commands: [Command]) {
    self.name = name
    self.version = version
    self.summary = summary
    self.commands = commands
  }

  /// What a command line asks for.
  public enum Request: Sendable {
    /// Print this text.
    case print(String)
    /// Run the command of this name.
    case run(command: String, ParsedArguments)
  }
}

/// A command line that cannot be run, in one line; the exit status that goes with it is 2.
public struct CommandLineError: Error, Equatable, CustomStringConvertible {
  /// The line.
  public let description: String

  /// Keeps the line.
  public init(_ description: String) { self.description = description }
}

/// The values of a command line, read by the options and arguments that declare them.
public struct ParsedArguments: Sendable {
  var options: [String: [String]] = [:]
  var arguments: [String: String] = [:]

  /// The option's value, or its default.
  public subscript<Value>(_ option: Option<Value>) -> Value { option.read(options[option.declaration.name] ?? []) }

  /// The argument's value.
  public subscript<Value>(_ argument: Argument<Value>) -> Value {
    argument.read(arguments[argument.declaration.name])
  }

  /// The texts given for an option, `true` and `false` for a flag, or for a repeated argument, in order; nil when it was not
  /// given.
  public func texts(of option: String) -> [String]? { options[option] }

  /// The text given for a positional argument.
  public func text(of argument: String) -> String? { arguments[argument] }
}
