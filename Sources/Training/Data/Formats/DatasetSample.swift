import JSONValues

/// One record of a dataset, whatever format it came in.
public enum DatasetSample: Sendable, Equatable {
  /// Messages with `role` and `content`, and the tools they may call: rendered by the model's chat template.
  case conversation(messages: JSONValue, tools: JSONValue?)
  /// An instruction with its answer: a conversation where the model has a chat template, else Alpaca's own prompt.
  case instruction(Instruction)
  /// A text and how it goes on.
  case completion(prompt: String, completion: String)
  /// A text that is learnt whole.
  case text(String)
  /// Two answers to one question.
  case preference(PreferencePair)
  /// A text that is cut into windows, or a piece of one: whether one came before, and whether more follows.
  case document(String, continues: Bool = false, isContinued: Bool = false)

  /// A record of the Alpaca format.
  public struct Instruction: Sendable, Equatable {
    /// The system message, if any.
    public var system: String?
    /// What to do.
    public var instruction: String
    /// What to do it with; often empty.
    public var input: String
    /// The answer.
    public var output: String

    /// The record as a conversation: the input follows the instruction after a blank line.
    public var messages: JSONValue {
      let question = input.isEmpty ? instruction : instruction + "\n\n" + input
      var messages: [JSONValue] = []
      if let system { messages.append(["role": "system", "content": .string(system)]) }
      messages.append(["role": "user", "content": .string(question)])
      messages.append(["role": "assistant", "content": .string(output)])
      return .array(messages)
    }

    /// The prompt of the Alpaca project (Taori and others, 2023), for models without a chat template.
    public var prompt: String {
      let opening = "Below is an instruction that describes a task"
      let request = "Write a response that appropriately completes the request."
      if input.isEmpty { return "\(opening). \(request)\n\n### Instruction:\n\(instruction)\n\n### Response:\n" }
      return "\(opening), paired with an input that provides further context. \(request)\n\n"
        + "### Instruction:\n\(instruction)\n\n### Input:\n\(input)\n\n### Response:\n"
    }
  }
}

extension DatasetSample {
  /// Reads a record as `format`.
  init(_ record: JSONObject, as format: DatasetFormat) throws(FormatProblem) {
    switch format {
    case .messages:
      self = .conversation(
        messages: .array(try ConversationReader.messages(record, key: "messages")),
        tools: try ConversationReader.tools(record))
    case .conversationMessages:
      self = .conversation(
        messages: .array(
          try ConversationReader.system(record) + ConversationReader.messages(record, key: "conversations")),
        tools: try ConversationReader.tools(record))
    case .shareGPT:
      self = .conversation(
        messages: .array(try ConversationReader.system(record) + ConversationReader.shareGPT(record)),
        tools: try ConversationReader.tools(record))
    case .alpaca:
      self = .instruction(
        Instruction(
          system: try optionalText(record, "system"), instruction: try requiredText(record, "instruction"),
          input: try optionalText(record, "input") ?? "", output: try requiredText(record, "output")))
    case .questionAnswer:
      let question: JSONValue = ["role": "user", "content": .string(try requiredText(record, "question"))]
      let answer: JSONValue = ["role": "assistant", "content": .string(try requiredText(record, "answer"))]
      self = .conversation(messages: .array(try ConversationReader.system(record) + [question, answer]), tools: nil)
    case .promptCompletion:
      if case .array = record["prompt"] {
        let prompt = try ConversationReader.messages(record, key: "prompt")
        if prompt.contains(where: { $0["role"]?.string == "assistant" }) {
          throw FormatProblem("`prompt` holds an assistant's turn; put the whole conversation into `messages`")
        }
        self = .conversation(
          messages: .array(prompt + (try ConversationReader.messages(record, key: "completion"))),
          tools: try ConversationReader.tools(record))
      } else {
        self = .completion(
          prompt: try requiredText(record, "prompt"), completion: try requiredText(record, "completion"))
      }
    case .preference: self = .preference(try PreferencePair(record))
    case .text: self = .text(try requiredText(record, "text"))
    case .document: throw FormatProblem("a record in a plain text file")
    }
  }
}

/// The text under a key that must be there.
private func requiredText(_ record: JSONObject, _ key: String) throws(FormatProblem) -> String {
  guard let value = record[key] else { throw FormatProblem("`\(key)` is missing") }
  guard let text = value.string else { throw FormatProblem("`\(key)` must be a string, it is \(value.kind)") }
  return text
}

/// The text under a key that may be missing, null or empty.
private func optionalText(_ record: JSONObject, _ key: String) throws(FormatProblem) -> String? {
  guard let value = record[key], !value.isNull else { return nil }
  let found = try requiredText(record, key)
  return found.isEmpty ? nil : found
}
