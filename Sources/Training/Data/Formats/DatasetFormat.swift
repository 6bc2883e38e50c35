import JSONValues

/// What the records of a data file look like; recognised by their keys in the first record, and binding for the others.
public enum DatasetFormat: String, Sendable, CaseIterable {
  /// Conversations in `messages`, each message with `role` and `content`.
  case messages
  /// The same in `conversations`.
  case conversationMessages
  /// Conversations in `conversations`, each message with `from` and `value`.
  case shareGPT
  /// `instruction`, perhaps `input`, and `output`: one question and its answer.
  case alpaca
  /// `question` and `answer`.
  case questionAnswer
  /// `prompt` and `completion`, laid end to end without a chat template (or, as lists of messages, one conversation).
  case promptCompletion
  /// `chosen` and `rejected`: two answers to one question.
  case preference
  /// `text`, one document per record.
  case text
  /// A plain text file: one document, cut into windows.
  case document

  /// The format's name with the keys that it reads.
  public var description: String {
    switch self {
    case .messages: "messages (role/content)"
    case .conversationMessages: "messages in `conversations` (role/content)"
    case .shareGPT: "ShareGPT (from/value)"
    case .alpaca: "Alpaca (instruction/input/output)"
    case .questionAnswer: "question/answer"
    case .promptCompletion: "prompt/completion"
    case .preference: "preference pairs (chosen/rejected)"
    case .text: "text records"
    case .document: "plain text"
    }
  }

  /// The keys that the format reads.
  var keys: [String] {
    switch self {
    case .messages: ["messages", "tools"]
    case .conversationMessages, .shareGPT: ["conversations", "system", "tools"]
    case .alpaca: ["instruction", "input", "output", "system"]
    case .questionAnswer: ["question", "answer", "system"]
    case .promptCompletion: ["prompt", "completion", "tools"]
    case .preference:
      [
        "chosen", "rejected", "prompt", "messages", "conversations", "instruction", "input", "question", "system",
        "tools",
      ]
    case .text: ["text"]
    case .document: []
    }
  }

  /// The formats of records, for messages.
  static let known =
    "`messages`, `conversations`, `instruction`/`output`, `question`/`answer`, `prompt`/`completion`, "
    + "`chosen`/`rejected` or `text` (other names: --field NAME=KEY)"

  /// The format of a record, or why it has none.
  ///
  /// A record that fits several is read as the first of these; the keys left unread are reported.
  static func recognise(_ record: JSONObject) -> Result<DatasetFormat, FormatProblem> {
    if record["chosen"] != nil, record["rejected"] != nil { return .success(.preference) }
    if record["messages"] != nil { return .success(.messages) }
    if let conversations = record["conversations"] { return .success(turnsFormat(conversations)) }
    if record["instruction"] != nil, record["output"] != nil { return .success(.alpaca) }
    if record["question"] != nil, record["answer"] != nil { return .success(.questionAnswer) }
    if record["prompt"] != nil, record["completion"] != nil { return .success(.promptCompletion) }
    if record["text"] != nil { return .success(.text) }
    let keys = record.isEmpty ? "no keys" : "the keys " + record.keys.prefix(8).map(quoted).joined(separator: ", ")
    return .failure(.init("the record has \(keys); expected \(known)"))
  }

  /// In which words a list of turns is written.
  static func turnsFormat(_ turns: JSONValue) -> DatasetFormat {
    turns[0]?["from"] == nil && turns[0]?["role"] != nil ? .conversationMessages : .shareGPT
  }
}

extension TrainingConfiguration.DataFormat {
  /// The format that a record has when a user says this; `nil` for `auto`.
  func format(of record: JSONObject) -> DatasetFormat? {
    switch self {
    case .auto: nil
    case .messages: record["messages"] == nil && record["conversations"] != nil ? .conversationMessages : .messages
    case .sharegpt: .shareGPT
    case .alpaca: .alpaca
    case .questionAnswer: .questionAnswer
    case .promptCompletion: .promptCompletion
    case .preference: .preference
    case .text: .text
    }
  }
}

/// What is wrong with a record; its place is added by whoever knows it.
struct FormatProblem: Error {
  let message: String
  init(_ message: String) { self.message = message }
}
