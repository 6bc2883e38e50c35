import JSONValues
import Tokenization

/// What turning samples into tokens needs of a tokenizer.
protocol ExampleEncoder: Sendable {
  /// Ends a text; `nil` where the model has no such token.
  var endOfText: Int32? { get }
  /// Whether conversations can be rendered.
  var hasChatTemplate: Bool { get }
  /// What tells apart two encoders that give other tokens, for the cache; `nil` where nothing is to be cached.
  var fingerprint: [UInt8]? { get }
  /// Token ids of a text, in which nothing is read as a special token; with the model's opening token where `opens`.
  func tokens(of text: String, opens: Bool) -> [Int32]
  /// The first special token that a text spells and that is taken for text; `nil` where there is none.
  func specialToken(spelledIn text: String) -> String?
  /// Token ids of a conversation and which of them are the assistant's.
  func tokens(of messages: JSONValue, tools: JSONValue?) throws -> ConversationTokens
}

extension ExampleEncoder {
  var fingerprint: [UInt8]? { nil }

  func specialToken(spelledIn text: String) -> String? { nil }
}

/// A conversation in tokens.
struct ConversationTokens: Sendable {
  var ids: [Int32] = []
  /// For each id whether the assistant says it.
  var isResponse: [Bool] = []
  /// What is odd about it.
  var remarks: [DataRemark.Kind] = []
}

/// A sample in tokens, whole.
struct EncodedSample: Sendable {
  var ids: [Int32] = []
  var isTrained: [Bool] = []
  /// Behind which tokens a turn of the assistant ends: where a sample that is too long is best cut.
  var turnEnds: [Int] = []
  /// What is odd about it.
  var remarks: [DataRemark.Kind] = []
  /// Of a text that is cut into windows: whether this is a piece, and whether more of it follows.
  var document: (continues: Bool, isContinued: Bool)?
}

extension ExampleEncoder {
  /// The tokens of a sample, those of the better answer first where it has two; `trainOn` decides which are trained.
  func encode(_ sample: DatasetSample, trainOn: TrainingConfiguration.TrainOn) throws -> [EncodedSample] {
    switch sample {
    case .conversation(let messages, let tools):
      return [try conversation(messages, tools, trainOn)]
    case .instruction(let instruction):
      if hasChatTemplate { return [try conversation(instruction.messages, nil, trainOn)] }
      return [continuation(instruction.prompt, instruction.output, trainOn)]
    case .completion(let prompt, let completion):
      return [continuation(prompt, completion, trainOn)]
    case .preference(.completion(let prompt, let chosen, let rejected)):
      return [continuation(prompt, chosen, .responses), continuation(prompt, rejected, .responses)]
    case .preference(.conversation(let prompt, let chosen, let rejected, let tools)):
      return [try answer(prompt, chosen, tools), try answer(prompt, rejected, tools)]
    case .text(let text):
      return [ended(whole(text, opens: true))]
    case .document(let text, let continues, let isContinued):
      var sample = whole(text, opens: !continues)
      if !isContinued { sample = ended(sample) }
      sample.document = (continues, isContinued)
      return [sample]
    }
  }

  private func conversation(
    _ messages: JSONValue, _ tools: JSONValue?, _ trainOn: TrainingConfiguration.TrainOn
  ) throws -> EncodedSample {
    guard hasChatTemplate else {
      throw FormatProblem("the model has no chat template to render conversations; use prompt/completion or text")
    }
    let tokens = try tokens(of: messages, tools: tools)
    var remarks = tokens.remarks
    if messages.array?.contains(where: Self.isEmptyAnswer) ?? false { remarks.append(.emptyAnswer) }
    let ends = tokens.isResponse.indices.filter { tokens.isResponse[$0] }.map { $0 + 1 }
      .filter { $0 == tokens.ids.count || !tokens.isResponse[$0] }
    return EncodedSample(
      ids: tokens.ids,
      isTrained: trainOn == .all ? Array(repeating: true, count: tokens.ids.count) : tokens.isResponse, turnEnds: ends,
      remarks: remarks)
  }

  /// A question with one of its answers, of which alone is learnt: not of earlier turns of the assistant.
  private func answer(_ prompt: [JSONValue], _ answer: [JSONValue], _ tools: JSONValue?) throws -> EncodedSample {
    var sample = try conversation(.array(prompt + answer), tools, .responses)
    let earlier = prompt.count { $0["role"]?.string == "assistant" }
    guard earlier > 0 else { return sample }
    let before = try tokens(of: .array(prompt), tools: tools).ids
    let common = zip(before, sample.ids).prefix { $0 == $1 }.count
    for place in 0..<common { sample.isTrained[place] = false }
    return sample
  }

  /// An assistant's message without words, calls or reasoning.
  private static func isEmptyAnswer(_ message: JSONValue) -> Bool {
    guard message["role"]?.string == "assistant" else { return false }
    let hasCalls = message["tool_calls"]?.array.map { !$0.isEmpty } ?? false
    let reasons = message["reasoning_content"]?.string.map { !$0.isEmpty } ?? false
    return !hasCalls && !reasons && (message["content"]?.string ?? "").allSatisfy(\.isWhitespace)
  }

  /// The two texts are encoded apart, as they are when the model answers the prompt.
  private func continuation(
    _ prompt: String, _ completion: String, _ trainOn: TrainingConfiguration.TrainOn
  ) -> EncodedSample {
    let question = tokens(of: prompt, opens: true)
    var sample = ended(whole(completion, opens: false))
    sample.ids = question + sample.ids
    sample.isTrained = Array(repeating: trainOn == .all, count: question.count) + sample.isTrained
    sample.turnEnds = [sample.ids.count]
    if completion.allSatisfy(\.isWhitespace) { sample.remarks.append(.emptyAnswer) }
    if sample.remarks.isEmpty, let token = specialToken(spelledIn: prompt) {
      sample.remarks.append(.specialToken(token))
    }
    return sample
  }

  private func whole(_ text: String, opens: Bool) -> EncodedSample {
    let ids = tokens(of: text, opens: opens)
    return EncodedSample(
      ids: ids, isTrained: Array(repeating: true, count: ids.count),
      remarks: specialToken(spelledIn: text).map { [.specialToken($0)] } ?? [])
  }

  private func ended(_ sample: EncodedSample) -> EncodedSample {
    guard let endOfText, sample.ids.last != endOfText else { return sample }
    var sample = sample
    sample.ids.append(endOfText)
    sample.isTrained.append(true)
    return sample
  }
}
