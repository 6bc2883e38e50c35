import CommandLineParsing
import JSONValues
import Models
import Swiftlet

/// `swiftlet generate`: answers one prompt, streaming, or several side by side.
enum GenerateCommand: RunnableCommand {
  private static let prompt = Option(
    repeated: "prompt", aliases: ["p"], "TEXT",
    "What to answer; - reads standard input. Several, by repeating it, are answered side by side.")
  private static let batchSize = Option(
    "batch-size", "N", default: 8, in: 1...LanguageModel.mostSequences,
    "Of several prompts, how many are answered at once; where one ends, the next begins.")
  private static let messages = Option<String?>(
    "messages", "FILE.json", "A whole conversation to answer, instead of --prompt.")
  private static let system = Option<String?>("system", "TEXT", "System message before --prompt.")
  private static let raw = Option(
    flag: "raw", "Continue --prompt as it stands, without the model's chat template.")

  static let command = Command(
    name: "generate", summary: "Generate text from a prompt.",
    examples: [
      "model.gguf --prompt \"Why is the sky blue?\"", "model.gguf --adapter run --prompt Hello --json",
      "phi-4 --device cuda --quantization nf4 --prompt One --prompt Two --batch-size 2",
    ],
    arguments: [ModelOptions.model.declaration],
    options: [
      prompt.declaration, batchSize.declaration, messages.declaration, system.declaration, raw.declaration,
      ModelOptions.chatTemplate.declaration, ModelOptions.adapters.declaration, ModelOptions.strict.declaration,
      ModelOptions.parseSpecial.declaration,
      JSONOption.json.declaration,
    ] + SamplingArguments.declarations + ModelOptions.loading)

  static func run(_ arguments: ParsedArguments) throws {
    let given = try givenPrompt(arguments)
    let asJSON = arguments[JSONOption.json]
    let model = try ModelOptions.load(arguments)
    Interruption.catchSignals()
    guard given.count == 1, let prompt = given.first?.prompt(for: model) else {
      return try answer(given.map { $0.prompt(for: model) }, model, arguments)
    }
    var failure: (any Error)?
    let generation = try readingInput {
      try model.generate(prompt, options: SamplingArguments.options(arguments)) { text in
        guard !Interruption.isRequested else { return false }
        guard !asJSON else { return true }
        do { try StandardOutput.write(text) } catch { failure = error }
        return failure == nil
      }
    }
    if let failure { throw failure }
    if asJSON {
      try StandardOutput.write(JSONValue.object(summary(generation)).serialized() + "\n")
    } else {
      try StandardOutput.write("\n")
    }
    if Interruption.isRequested { throw Interruption.error }
  }

  /// Answers several prompts; each answer is written whole, in the prompts' order.
  private static func answer(_ prompts: [Prompt], _ model: Model, _ arguments: ParsedArguments) throws {
    let generations = try readingInput {
      try model.generate(
        prompts, options: SamplingArguments.options(arguments), batchSize: arguments[batchSize],
        onText: { _, _ in !Interruption.isRequested })
    }
    for generation in generations {
      try StandardOutput.write(
        (arguments[JSONOption.json] ? JSONValue.object(summary(generation)).serialized() : generation.text) + "\n")
    }
    if Interruption.isRequested { throw Interruption.error }
  }

  static func summary(_ generation: Generation) -> JSONObject {
    [
      "text": .string(generation.text), "prompt_tokens": .integer(generation.promptTokens),
      "tokens": .integer(generation.tokens.count), "finish_reason": .string(generation.finishReason.rawValue),
      "prefill_seconds": .number(generation.prefillSeconds), "decode_seconds": .number(generation.decodeSeconds),
    ]
  }

  /// What the command line asks, before the model says whether it has a chat template.
  private enum GivenPrompt {
    case text(String, system: String?, raw: Bool)
    case messages(JSONValue)

    /// A prompt is one user message where the model has a chat template, and plain text elsewhere.
    func prompt(for model: Model) -> Prompt {
      switch self {
      case .messages(let messages): return .messages(messages)
      case .text(let text, let system, let raw):
        if raw || (system == nil && model.tokenizer.chatTemplate == nil) { return .text(text) }
        let messages = [("system", system), ("user", text)].compactMap { role, content in
          content.map { JSONValue.object(["role": .string(role), "content": .string($0)]) }
        }
        return .messages(.array(messages))
      }
    }
  }

  private static func givenPrompt(_ arguments: ParsedArguments) throws -> [GivenPrompt] {
    let texts = arguments[prompt]
    if let path = arguments[messages] {
      guard texts.isEmpty else { throw InputFailure("--prompt and --messages exclude each other; give one") }
      guard arguments[system] == nil, !arguments[raw] else {
        throw InputFailure("--system and --raw go with --prompt; a conversation says everything itself")
      }
      return [.messages(try Conversation(path: path).messages)]
    }
    guard !texts.isEmpty else {
      throw InputFailure("--prompt is missing; give a text, or a conversation with --messages")
    }
    guard arguments[system] == nil || !arguments[raw] else {
      throw InputFailure("--raw leaves no place for --system; put the text into --prompt")
    }
    guard texts.count(where: { $0 == "-" }) < 2 else {
      throw InputFailure("--prompt -: standard input can be read once; give the other prompts as texts")
    }
    return try texts.map { text in
      .text(text == "-" ? try TextFiles.text("-") : text, system: arguments[system], raw: arguments[raw])
    }
  }
}
