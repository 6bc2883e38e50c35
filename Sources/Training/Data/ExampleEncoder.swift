import JSONValues
import Tokenization

/// What turning samples into tokens needs of a tokenizer.
protocol ExampleEncoder: Sendable {
  /// Ends a text; `nil` where the model has no such token.
  var endOfText: Int32? { get }
  /// Whether conversations can be rendered.
  var hasChatTemplate: Bool { get }
  /// Token ids of a text, in which nothing is read as a special token; with the model's opening token where `opens`.
  func tokens(of text: String, opens: Bool) -> [Int32]
  /// Token ids of a conversation and which of them are the assistant's.
  func tokens(of messages: JSONValue, tools: JSONValue?) throws -> (ids: [Int32], isResponse: [Bool])
}

/// A sample in tokens, whole.
struct EncodedSample: Sendable {
  var ids: [Int32] = []
  var isTrained: [Bool] = []
  /// Whether it may be cut into windows; else it is cut off at the limit.
  var isDocument = false
}

extension ExampleEncoder {
  /// The tokens of a sample; `trainOn` decides which of them are trained.
  func encode(_ sample: DatasetSample, trainOn: TrainingConfiguration.TrainOn) throws -> EncodedSample {
    switch sample {
    case .conversation(let messages, let tools):
      return try conversation(messages, tools, trainOn)
    case .instruction(let instruction):
      if hasChatTemplate { return try conversation(instruction.messages, nil, trainOn) }
      return continuation(instruction.prompt, instruction.output, trainOn)
    case .completion(let prompt, let completion):
      return continuation(prompt, completion, trainOn)
    case .text(let text):
      return whole(text, isDocument: false)
    case .document(let text):
      return whole(text, isDocument: true)
    }
  }

  private func conversation(
    _ messages: JSONValue, _ tools: JSONValue?, _ trainOn: TrainingConfiguration.TrainOn
  ) throws -> EncodedSample {
    guard hasChatTemplate else {
      throw FormatProblem("the model has no chat template to render conversations; use prompt/completion or text")
    }
    let (ids, isResponse) = try tokens(of: messages, tools: tools)
    return EncodedSample(ids: ids, isTrained: trainOn == .all ? Array(repeating: true, count: ids.count) : isResponse)
  }

  /// The two texts are encoded apart, as they are when the model answers the prompt.
  private func continuation(
    _ prompt: String, _ completion: String, _ trainOn: TrainingConfiguration.TrainOn
  ) -> EncodedSample {
    let question = tokens(of: prompt, opens: true)
    let answer = ended(tokens(of: completion, opens: false))
    let isTrained =
      Array(repeating: trainOn == .all, count: question.count) + Array(repeating: true, count: answer.count)
    return EncodedSample(ids: question + answer, isTrained: isTrained)
  }

  private func whole(_ text: String, isDocument: Bool) -> EncodedSample {
    let ids = ended(tokens(of: text, opens: true))
    return EncodedSample(ids: ids, isTrained: Array(repeating: true, count: ids.count), isDocument: isDocument)
  }

  private func ended(_ ids: [Int32]) -> [Int32] {
    guard let endOfText, ids.last != endOfText else { return ids }
    return ids + [endOfText]
  }
}
