import JSONValues
import Models
import Tokenization
import Training

/// What a model is asked to continue.
public enum Prompt: Sendable {
  /// A text as it stands.
  case text(String)
  /// A conversation, `[{"role": …, "content": …}, …]`, which the chat template lays out and the assistant answers.
  case messages(JSONValue)

  /// A conversation of one user's message.
  public static func user(_ text: String) -> Prompt {
    .messages([["role": "user", "content": .string(text)]])
  }
}

/// How a text is generated.
public struct GenerationOptions: Sendable, Equatable {
  /// The most tokens to generate.
  public var maxTokens: Int
  /// How tokens are chosen.
  public var sampling: SamplingOptions
  /// Texts that end the generation; they are not part of the result.
  public var stop: [String]
  /// Whether special tokens that messages spell become their ids; else they are text like any other.
  public var parseSpecialTokens: Bool

  /// Options; by default the likeliest tokens, 256 at most.
  public init(
    maxTokens: Int = 256, sampling: SamplingOptions = SamplingOptions(), stop: [String] = [],
    parseSpecialTokens: Bool = false
  ) {
    self.maxTokens = maxTokens
    self.sampling = sampling
    self.stop = stop
    self.parseSpecialTokens = parseSpecialTokens
  }
}

/// A generated text.
public struct Generation: Sendable, Equatable {
  /// Why the generation ended.
  public enum FinishReason: String, Sendable {
    /// The model ended its turn, or a stop text appeared.
    case stop
    /// The limit of tokens or the context's end was reached.
    case length
    /// The caller said so.
    case cancelled
  }

  /// The text, without special tokens.
  public var text: String
  /// Tokens of the prompt.
  public var promptTokens: Int
  /// How many of them the session had read before.
  public var rememberedTokens: Int
  /// The tokens generated, the one that ended the turn left out.
  public var tokens: [Int32]
  /// Why it ended.
  public var finishReason: FinishReason
  /// Seconds until the first token was known.
  public var prefillSeconds: Double
  /// Seconds for the other tokens.
  public var decodeSeconds: Double
}

/// What one answer of a conversation leaves for the next: the keys and values of what was read and written, so that only
/// what is new is read.
///
/// It belongs to one model with one adapter; begin another session where either changes.
public final class GenerationSession {
  private var cache: KeyValueCache?

  /// A session that has read nothing.
  public init() {}

  /// A cache that holds what it can of `tokens` except the last, with room for `length` tokens in all.
  fileprivate func cache(for tokens: [Int32], length: Int, of language: LanguageModel) throws -> KeyValueCache {
    if let cache, cache.capacity >= length {
      cache.truncate(to: min(cache.commonPrefix(with: tokens), tokens.count - 1))
      return cache
    }
    cache = nil
    // Where memory is virtual, room for all that the model can read takes none until it is used. No sequence is longer than
    // 16 Mi tokens, whatever a file says.
    let most = min(language.configuration.contextLength, 1 << 24)
    if language.device.memory == nil, most > length, let roomy = try? language.makeCache(capacity: most) {
      cache = roomy
      return roomy
    }
    let made = try language.makeCache(capacity: length)
    cache = made
    return made
  }
}

extension Model {
  /// The tokens of a prompt as the model reads them.
  ///
  /// A text is the model's own language, special tokens included. What messages spell stays text, unless
  /// `parseSpecialTokens` asks for ids.
  public func tokens(of prompt: Prompt, parseSpecialTokens: Bool = false) throws -> [Int32] {
    switch prompt {
    case .text(let text): tokenizer.encode(text)
    case .messages(let messages): try tokenizer.encodePrompt(messages, parseSpecialTokens: parseSpecialTokens)
    }
  }

  /// Continues a prompt.
  /// - Parameters:
  ///   - session: what earlier answers left; it takes in this one.
  ///   - onText: receives the text piece by piece, whole characters only, and returns false to end it.
  ///   - onToken: is asked after each token, and returns false to end it.
  public func generate(
    _ prompt: Prompt, options: GenerationOptions = GenerationOptions(), session: GenerationSession? = nil,
    onText: ((String) -> Bool)? = nil, onToken: () -> Bool = { true }
  ) throws -> Generation {
    let request = try request(prompt, options)
    let cache =
      try session?.cache(for: request.tokens, length: request.length, of: language)
      ?? language.makeCache(capacity: request.length)
    let answer = try Answer(request, options, cache, of: self)
    while true {
      if let reason = try answer.take(onText: onText, onToken: onToken) { return answer.end(reason, onText: onText) }
      try language.step([answer.sequence])
    }
  }

  /// Continues several prompts, up to `batchSize` of them side by side: where one ends, the next begins while the others go on.
  ///
  /// Each is answered as it would be alone.
  /// - Parameters:
  ///   - onText: receives a prompt's number and the text piece by piece, and returns false to end that one.
  ///   - onToken: is asked after each token, and returns false to end all; prompts that have not begun have no answer then.
  public func generate(
    _ prompts: [Prompt], options: GenerationOptions = GenerationOptions(), batchSize: Int,
    onText: ((Int, String) -> Bool)? = nil, onToken: () -> Bool = { true }
  ) throws -> [Generation] {
    guard (1...LanguageModel.mostSequences).contains(batchSize) else {
      throw ModelError("a batch holds 1 to \(LanguageModel.mostSequences) prompts, \(batchSize) were asked for")
    }
    // What is wrong with a prompt is said before any is answered.
    let requests = try prompts.map { try request($0, options) }
    var results = [Generation?](repeating: nil, count: prompts.count)
    var active: [(index: Int, answer: Answer)] = []
    var (next, goesOn) = (0, true)
    while goesOn && next < requests.count || !active.isEmpty {
      while goesOn, next < requests.count, active.count < batchSize {
        let cache = try language.makeCache(capacity: requests[next].length)
        active.append((next, try Answer(requests[next], options, cache, of: self)))
        next += 1
      }
      active = try active.filter { index, answer in
        let show = onText.map { onText in { (text: String) in onText(index, text) } }
        let reason = try answer.take(onText: show) {
          goesOn = goesOn && onToken()
          return goesOn
        }
        guard let reason else { return true }
        results[index] = answer.end(reason, onText: show)
        return false
      }
      if !goesOn {
        for (index, answer) in active { results[index] = answer.end(.cancelled, onText: nil) }
        active = []
      }
      if !active.isEmpty { try language.step(active.map(\.answer.sequence)) }
    }
    return results.compactMap { $0 }
  }

  /// A prompt's tokens and how far its answer may go.
  private func request(_ prompt: Prompt, _ options: GenerationOptions) throws -> Answer.Request {
    let tokens = try tokens(of: prompt, parseSpecialTokens: options.parseSpecialTokens)
    guard !tokens.isEmpty else { throw ModelError("the prompt is empty: give it at least one token") }
    guard options.maxTokens > 0 else { throw ModelError("at least one token must be asked for") }
    guard tokens.count < configuration.contextLength else {
      throw ModelError(
        "the prompt has \(tokens.count) tokens and the model's context \(configuration.contextLength): shorten it")
    }
    return Answer.Request(tokens: tokens, limit: min(options.maxTokens, configuration.contextLength - tokens.count))
  }
}

/// An answer that is being written.
private final class Answer {
  /// What is to be answered.
  struct Request {
    var tokens: [Int32]
    /// The most tokens of the answer.
    var limit: Int
    var length: Int { tokens.count + limit }
  }

  let sequence: DecodingSequence
  private let request: Request
  private let remembered: Int
  private let ends: Set<Int32>
  private var output: StoppableText
  private var generated: [Int32] = []
  private let began: Double
  private let firstTokenAt: Double

  /// Reads the prompt, whose first tokens `cache` may hold already.
  init(_ request: Request, _ options: GenerationOptions, _ cache: KeyValueCache, of model: Model) throws {
    self.request = request
    remembered = cache.length
    ends = Set(model.tokenizer.endOfTurnTokenIDs).union(
      model.configuration.eosTokenIDs.map { Int32(truncatingIfNeeded: $0) })
    output = StoppableText(stops: options.stop, decoder: model.tokenizer.makeStreamingDecoder(skipSpecialTokens: true))
    began = MonotonicClock.now()
    sequence = try model.language.begin(
      cache, with: Array(request.tokens[remembered...]), options.sampling, seen: request.tokens,
      plannedLength: request.length)
    firstTokenAt = MonotonicClock.now()
  }

  /// Takes in the token that was chosen last; why the answer ends with it, where it does.
  func take(onText: ((String) -> Bool)?, onToken: () -> Bool) throws -> Generation.FinishReason? {
    guard let token = sequence.last else {
      throw ModelError("the model's output is not a number: its weights or its adapter are damaged")
    }
    if ends.contains(token) { return .stop }
    generated.append(token)
    let piece = output.append(token)
    if !onToken() || !piece.isEmpty && onText.map({ !$0(piece) }) ?? false { return .cancelled }
    if output.isStopped { return .stop }
    return generated.count == request.limit ? .length : nil
  }

  /// The answer, whose last piece of text is shown.
  func end(_ reason: Generation.FinishReason, onText: ((String) -> Bool)?) -> Generation {
    let rest = output.finish()
    if !rest.isEmpty, reason != .cancelled { _ = onText?(rest) }
    return Generation(
      text: output.text, promptTokens: request.tokens.count, rememberedTokens: remembered, tokens: generated,
      finishReason: reason, prefillSeconds: firstTokenAt - began, decodeSeconds: MonotonicClock.now() - firstTokenAt)
  }
}

/// Text that grows token by token and is held back where it may be the beginning of a stop text.
struct StoppableText {
  private let stops: [String]
  private var decoder: StreamingDecoder
  private var held = ""
  /// What has been given out.
  private(set) var text = ""
  private(set) var isStopped = false

  init(stops: [String], decoder: StreamingDecoder) {
    self.stops = stops.filter { !$0.isEmpty }
    self.decoder = decoder
  }

  /// What can be shown now that `token` has come.
  mutating func append(_ token: Int32) -> String { take(decoder.append(token) ?? "") }

  /// What was still held back.
  mutating func finish() -> String {
    guard !isStopped else { return "" }
    let shown = take(decoder.finish() ?? "")
    guard !isStopped else { return shown }
    let rest = held
    held = ""
    text += rest
    return shown + rest
  }

  private mutating func take(_ piece: String) -> String {
    guard !isStopped else { return "" }
    held += piece
    var shown = held
    if let first = stops.compactMap({ Self.position(of: $0, in: held) }).min() {
      shown = String(decoding: held.utf8.prefix(first), as: UTF8.self)
      isStopped = true
      held = ""
    } else {
      let keep = stops.map { Self.overlap(of: held, with: $0) }.max() ?? 0
      shown = String(decoding: held.utf8.dropLast(keep), as: UTF8.self)
      held = String(decoding: held.utf8.suffix(keep), as: UTF8.self)
    }
    text += shown
    return shown
  }

  /// Where `needle` first stands in `text`, in UTF-8 bytes.
  private static func position(of needle: String, in text: String) -> Int? {
    let (needle, text) = (Array(needle.utf8), Array(text.utf8))
    guard needle.count <= text.count else { return nil }
    return (0...text.count - needle.count).first { text[$0..<$0 + needle.count].elementsEqual(needle) }
  }

  /// How many of the last bytes of `text` begin `stop`.
  private static func overlap(of text: String, with stop: String) -> Int {
    let (text, stop) = (Array(text.utf8), Array(stop.utf8))
    return (0..<min(text.count, stop.count)).reversed().map { $0 + 1 }
      .first { text.suffix($0).elementsEqual(stop.prefix($0)) && $0 < stop.count } ?? 0
  }
}
