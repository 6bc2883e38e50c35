import CommandLineParsing
import JSONValues
import Swiftlet

/// `swiftlet eval`: how well a model predicts a text, and how far it is from another model.
enum EvalCommand: RunnableCommand {
  private static let perplexity = Option<String?>("perplexity", "FILE", "Text whose perplexity is measured.")
  private static let kl = Option<String?>(
    "kl", aliases: ["kl-divergence"], "FILE", "Text over which the model is compared with --reference.")
  private static let reference = Option<String?>(
    "reference", "MODEL", "Model that the distributions of --kl are compared with: the one before it was quantized.")
  private static let window = Option(
    "window", "N", default: 512, in: 2...16_777_216, "Tokens per window; windows do not overlap.")
  private static let maxTokens = Option<Int?>(
    "max-tokens", "N", in: 2...1_000_000_000, "Tokens of the text to use at most; all when not given.")

  static let command = Command(
    name: "eval", summary: "Measure the perplexity of a text, or the distance from another model.",
    examples: [
      "model.gguf --perplexity wiki.txt", "model.gguf --adapter run --perplexity wiki.txt --window 1024 --json",
      "model-nf4 --kl wiki.txt --reference model",
    ],
    arguments: [ModelOptions.model.declaration],
    options: [
      perplexity.declaration, kl.declaration, reference.declaration, window.declaration, maxTokens.declaration,
      ModelOptions.adapters.declaration, ModelOptions.strict.declaration, JSONOption.json.declaration,
    ] + ModelOptions.loading)

  static func run(_ arguments: ParsedArguments) throws {
    switch (arguments[perplexity], arguments[kl]) {
    case (.some, .some): throw InputFailure("--perplexity and --kl are two measurements; name one")
    case (nil, nil): throw InputFailure("--perplexity is missing; name a text file")
    case (let path?, nil): try measurePerplexity(of: text(path), arguments)
    case (nil, let path?):
      guard let other = arguments[reference] else {
        throw InputFailure("--reference is missing; name the model to compare with")
      }
      try measureDivergence(from: other, on: text(path), arguments)
    }
  }

  private static func text(_ path: String) throws -> String {
    let text = try TextFiles.text(path)
    guard !text.isEmpty else { throw InputFailure("\(path) is empty; there is nothing to predict") }
    return text
  }

  private static func measurePerplexity(of text: String, _ arguments: ParsedArguments) throws {
    let model = try ModelOptions.load(arguments)
    let result = try model.perplexity(of: text, window: arguments[window], maxTokens: arguments[maxTokens])
    if arguments[JSONOption.json] {
      let object: JSONObject = [
        "perplexity": .number(result.perplexity), "nll": .number(result.nll), "tokens": .integer(result.tokens),
      ]
      return try StandardOutput.write(JSONValue.object(object).serialized() + "\n")
    }
    try StandardOutput.write(
      """
      perplexity  \(Formatting.fixed(result.perplexity, 4))
      nll         \(Formatting.fixed(result.nll, 5)) per token
      tokens      \(Formatting.count(Double(result.tokens)))

      """)
  }

  private static func measureDivergence(
    from other: String, on text: String, _ arguments: ParsedArguments
  ) throws {
    let model = try ModelOptions.load(arguments)
    let reference = try ModelOptions.load(arguments, instead: other)
    Interruption.catchSignals()
    let result = try model.divergence(
      from: reference, on: text, window: arguments[window], maxTokens: arguments[maxTokens]
    ) { _ in !Interruption.isRequested }
    if Interruption.isRequested { throw Interruption.error }
    if arguments[JSONOption.json] {
      let object: JSONObject = [
        "mean_kl": .number(result.mean), "median_kl": .number(result.median), "p99_kl": .number(result.percentile99),
        "p999_kl": .number(result.percentile999), "max_kl": .number(result.maximum),
        "top1_agreement": .number(result.topAgreement), "perplexity_ratio": .number(result.perplexityRatio),
        "perplexity": .number(result.perplexity), "reference_perplexity": .number(result.referencePerplexity),
        "tokens": .integer(result.tokens),
      ]
      return try StandardOutput.write(JSONValue.object(object).serialized() + "\n")
    }
    try StandardOutput.write(
      """
      mean KL           \(Formatting.fixed(result.mean, 6))
      median KL         \(Formatting.fixed(result.median, 6))
      99% KL            \(Formatting.fixed(result.percentile99, 6))
      99.9% KL          \(Formatting.fixed(result.percentile999, 6))
      maximum KL        \(Formatting.fixed(result.maximum, 6))
      same top token    \(Formatting.fixed(100 * result.topAgreement, 3))%
      perplexity        \(Formatting.fixed(result.perplexity, 4)), \
      \(Formatting.fixed(result.perplexityRatio, 5)) of the reference's \(Formatting.fixed(result.referencePerplexity, 4))
      tokens            \(Formatting.count(Double(result.tokens)))

      """)
  }
}
