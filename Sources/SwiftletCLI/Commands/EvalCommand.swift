import CommandLineParsing
import JSONValues
import Swiftlet

/// `swiftlet eval`: how well a model predicts a text.
enum EvalCommand: RunnableCommand {
  private static let perplexity = Option<String?>("perplexity", "FILE", "Text whose perplexity is measured.")
  private static let window = Option(
    "window", "N", default: 512, in: 2...16_777_216, "Tokens per window; windows do not overlap.")
  private static let maxTokens = Option<Int?>(
    "max-tokens", "N", in: 2...1_000_000_000, "Tokens of the text to use at most; all when not given.")

  static let command = Command(
    name: "eval", summary: "Measure the perplexity of a text.",
    examples: [
      "model.gguf --perplexity wiki.txt", "model.gguf --adapter run --perplexity wiki.txt --window 1024 --json",
    ],
    arguments: [ModelOptions.model.declaration],
    options: [
      perplexity.declaration, window.declaration, maxTokens.declaration, ModelOptions.adapters.declaration,
      ModelOptions.strict.declaration,
      JSONOption.json.declaration,
    ] + ModelOptions.loading)

  static func run(_ arguments: ParsedArguments) throws {
    guard let path = arguments[perplexity] else { throw InputFailure("--perplexity is missing; name a text file") }
    let text = try TextFiles.text(path)
    guard !text.isEmpty else { throw InputFailure("\(path) is empty; there is nothing to predict") }
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
}
