import JSONValues

/// Two answers to one question, one of them better: what DPO and ORPO learn from.
public enum PreferencePair: Sendable, Equatable {
  /// A conversation and two ways in which it goes on; each list holds messages with `role` and `content`.
  case conversation(prompt: [JSONValue], chosen: [JSONValue], rejected: [JSONValue], tools: JSONValue?)
  /// A text and two ways in which it goes on.
  case completion(prompt: String, chosen: String, rejected: String)
}

extension PreferencePair {
  /// Reads a record with `chosen` and `rejected`.
  ///
  /// The question is in `prompt`, `messages`, `conversations`, `question`, or `instruction` and `input`; without any, it is
  /// what the two conversations have in common. Answers are texts, messages, or lists of messages, in either wording.
  init(_ record: JSONObject) throws(FormatProblem) {
    let tools = try ConversationReader.tools(record)
    var prompt: [JSONValue]?
    if let text = record["prompt"]?.string {
      if let chosen = record["chosen"]?.string, let rejected = record["rejected"]?.string {
        self = .completion(prompt: text, chosen: chosen, rejected: rejected)
        return
      }
      prompt = [["role": "user", "content": .string(text)]]
    } else if let value = record["prompt"] {
      prompt = try Self.turns(value, "prompt")
    } else if let value = record["messages"] {
      prompt = try Self.turns(value, "messages")
    } else if let value = record["conversations"] {
      prompt = try Self.turns(value, "conversations")
    } else if let instruction = record["instruction"]?.string {
      let input = record["input"]?.string ?? ""
      prompt = [["role": "user", "content": .string(input.isEmpty ? instruction : instruction + "\n\n" + input)]]
    } else if let question = record["question"]?.string {
      prompt = [["role": "user", "content": .string(question)]]
    }
    let system = try ConversationReader.system(record)
    var (chosen, rejected) = (try Self.answer(record, "chosen"), try Self.answer(record, "rejected"))
    // Whole conversations: the question is what they begin with.
    let common = zip(chosen, rejected).prefix { $0 == $1 }.count
    let opening = min(common, chosen.count - 1, rejected.count - 1)
    if opening > 0, chosen[0]["role"]?.string != "assistant" {
      prompt = Array(chosen[..<opening])
      chosen.removeFirst(opening)
      rejected.removeFirst(opening)
    }
    guard let prompt else {
      throw FormatProblem(
        "the pair has no question: neither `prompt`, `messages`, `conversations`, `instruction` nor `question`, and "
          + "`chosen` and `rejected` begin with nothing in common")
    }
    for (key, answer) in [("chosen", chosen), ("rejected", rejected)]
    where !answer.contains(where: { $0["role"]?.string == "assistant" }) {
      throw FormatProblem("`\(key)` holds no turn of the assistant")
    }
    self = .conversation(prompt: system + prompt, chosen: chosen, rejected: rejected, tools: tools)
  }

  private static func turns(_ value: JSONValue, _ key: String) throws(FormatProblem) -> [JSONValue] {
    guard let list = value.array else { throw FormatProblem("`\(key)` must be a list, it is \(value.kind)") }
    if list.isEmpty { throw FormatProblem("`\(key)` is empty") }
    return DatasetFormat.turnsFormat(value) == .shareGPT && list[0]["from"] != nil
      ? try ConversationReader.shareGPT(list, key) : try ConversationReader.messages(list, key)
  }

  private static func answer(_ record: JSONObject, _ key: String) throws(FormatProblem) -> [JSONValue] {
    switch record[key] {
    case .string(let text)?: return [["role": "assistant", "content": .string(text)]]
    case .object(let message)?: return try turns([.object(message)], key)
    case .array(let messages)?: return try turns(.array(messages), key)
    case nil: throw FormatProblem("`\(key)` is missing")
    case let other?: throw FormatProblem("`\(key)` must be a text or messages, it is \(other.kind)")
    }
  }
}
