/// One setting of a run: its names, its help, and how text becomes its value.
///
/// The table ``all`` is the one place that holds each name. A command line shows `name` with two dashes, a YAML file
/// shows ``key``.
public struct TrainingOption: Sendable {
  /// What kind of value the option takes.
  public enum Kind: Sendable, Equatable {
    /// On or off, without a value.
    case flag
    /// A whole number.
    case integer
    /// A number.
    case number
    /// A byte count such as `24GB`.
    case byteCount
    /// A time such as `1h30m`.
    case duration
    /// Free text, such as a path.
    case text
    /// One of a few words.
    case choice([String])
    /// Several texts, one per occurrence.
    case texts
    /// Several words, separated by commas or one per occurrence.
    case words
  }

  /// The value of an option as a YAML file shows it.
  public enum Value: Sendable, Equatable {
    /// `true` or `false`.
    case flag(Bool)
    /// A plain scalar: a number or a word of a choice.
    case plain(String)
    /// Free text, which a writer quotes when it could be read as something else.
    case text(String)
    /// A list of texts.
    case texts([String])
  }

  /// Where help shows the option.
  public enum Group: String, Sendable, CaseIterable {
    /// What is read and written.
    case data = "Data"
    /// The adapter's shape.
    case adapter = "Adapter"
    /// Steps and the learning rate.
    case optimization = "Optimization"
    /// Evaluation and saving.
    case run = "Evaluation and saving"
    /// Device, memory, threads.
    case machine = "Machine"
  }

  /// The name with dashes: `learning-rate`.
  public let name: String
  /// Other names with dashes: `lr`.
  public let aliases: [String]
  /// Where help shows the option.
  public let group: Group
  /// What kind of value it takes.
  public let kind: Kind
  /// What help writes for the value; empty for a flag.
  public let placeholder: String
  /// One line of help, without the default.
  public let help: String
  /// Whether a command line gives it as a positional argument.
  public let isPositional: Bool
  let assign: @Sendable (inout TrainingConfiguration, [String]) throws(TrainingConfigurationError) -> Void
  let read: @Sendable (TrainingConfiguration) -> Value?

  /// The name with underscores, as YAML files have it: `learning_rate`.
  public var key: String { String(name.map { $0 == "-" ? "_" : $0 }) }

  /// Sets the option from text: all values of a list, else the last one; `true` or `false` for a flag.
  public func set(_ texts: [String], in configuration: inout TrainingConfiguration)
    throws(TrainingConfigurationError)
  {
    try assign(&configuration, texts)
  }

  /// The option's value in `configuration`; nil when it is unset.
  public func value(in configuration: TrainingConfiguration) -> Value? { read(configuration) }

  /// The value in `configuration` as one word for help and logs; nil when it is unset or an empty text.
  public func text(in configuration: TrainingConfiguration) -> String? {
    switch read(configuration) {
    case nil: nil
    case .flag(let on): on ? "true" : "false"
    case .plain(let text): text
    case .text(let text): text.isEmpty ? nil : text
    case .texts(let texts): texts.isEmpty ? nil : texts.joined(separator: ",")
    }
  }
}
