import JSONValues

/// What happened to the samples of a dataset on their way to examples.
public struct ExampleCounts: Sendable, Equatable {
  /// Samples read.
  public var samples = 0
  /// Examples made of them.
  public var examples = 0
  /// Samples of which something was cut off.
  public var truncated = 0
  /// Of these, samples that were cut within a turn, since not even the first fits.
  public var cutWithinTurn = 0
  /// Samples left out because they are too long.
  public var tooLong = 0
  /// Samples split into several examples.
  public var split = 0
  /// Samples left out because the cut took every trained token.
  public var cutBeforeResponse = 0
  /// Samples left out because they have no trained token, however long the limit.
  public var withoutResponse = 0
  /// Tokens of the examples.
  public var tokens = 0
  /// Tokens that the loss counts.
  public var trainedTokens = 0
  /// Tokens of the longest example.
  public var longest = 0

  /// Counts of nothing.
  public init() {}

  /// Samples left out.
  public var dropped: Int { tooLong + cutBeforeResponse + withoutResponse }

  static let keys: [(name: String, path: WritableKeyPath<ExampleCounts, Int> & Sendable)] = [
    ("samples", \.samples), ("examples", \.examples), ("truncated", \.truncated),
    ("cut_within_turn", \.cutWithinTurn), ("too_long", \.tooLong), ("split", \.split),
    ("cut_before_response", \.cutBeforeResponse), ("without_response", \.withoutResponse), ("tokens", \.tokens),
    ("trained_tokens", \.trainedTokens), ("longest", \.longest),
  ]

  /// The counts for a file.
  public var json: JSONValue {
    .object(JSONObject(Self.keys.map { ($0.name, .integer(self[keyPath: $0.path])) }))
  }

  init?(_ json: JSONValue) {
    for (name, path) in Self.keys {
      guard let value = json[name]?.integer, value >= 0 else { return nil }
      self[keyPath: path] = value
    }
  }

  /// One line for people.
  func description(_ options: TokenizedDataset.Options) -> String {
    let limit = options.maxSequenceLength
    let noun = options.pairs ? "pair" : "example"
    var parts = ["\(examples) \(noun)\(examples == 1 ? "" : "s"), \(tokens) tokens, \(trainedTokens) trained"]
    if truncated > 0 {
      let within = cutWithinTurn > 0 && cutWithinTurn < truncated ? " (\(cutWithinTurn) within a turn)" : ""
      parts.append("\(truncated) cut to \(limit) tokens\(within)")
    }
    if split > 0 { parts.append("\(split) split into pieces of \(limit) tokens") }
    if tooLong > 0 { parts.append("\(tooLong) left out (longer than \(limit) tokens)") }
    if cutBeforeResponse > 0 { parts.append("\(cutBeforeResponse) left out (cut before the first trained token)") }
    if withoutResponse > 0 { parts.append("\(withoutResponse) left out (nothing to train on)") }
    return parts.joined(separator: "; ")
  }

  /// Why no example is left.
  func nothingLeft(_ options: TokenizedDataset.Options) -> String {
    let start = "\(TokenizedDataset.nothingToTrainOn): "
    if tooLong > 0 {
      return start
        + "\(tooLong) of \(samples) samples are longer than \(options.maxSequenceLength) tokens and left out; "
        + "raise --max-seq-length or cut them (--long-samples cut)"
    }
    if cutBeforeResponse == 0 {
      let missing = options.trainOn == .responses ? "no response of the assistant" : "no second token"
      return start + "the \(samples) samples have \(missing)"
    }
    return start + "\(cutBeforeResponse) of \(samples) samples are cut before their first "
      + "trained token; raise --max-seq-length (\(options.maxSequenceLength))"
  }
}
