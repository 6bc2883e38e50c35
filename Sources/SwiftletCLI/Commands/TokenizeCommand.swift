import CommandLineParsing
import JSONValues
import Swiftlet
import Tokenization

/// `swiftlet tokenize`: the token ids of a text.
enum TokenizeCommand: RunnableCommand {
  private static let text = Option<String?>("text", "TEXT", "The text.")
  private static let file = Option<String?>("file", "FILE", "A file with the text; - reads standard input.")
  private static let count = Option(flag: "count", "Print only how many tokens there are.")
  private static let noSpecialTokens = Option(
    flag: "no-special-tokens", "Add no beginning or end token.")

  static let command = Command(
    name: "tokenize", summary: "Print the token ids of a text.",
    examples: ["model.gguf --text \"Hello world\"", "model/ --file book.txt --count"],
    arguments: [ModelOptions.model.declaration],
    options: [
      text.declaration, file.declaration, count.declaration, noSpecialTokens.declaration, JSONOption.json.declaration,
    ])

  static func run(_ arguments: ParsedArguments) throws {
    let input =
      switch (arguments[text], arguments[file]) {
      case (.some(let text), nil): text
      case (nil, .some(let path)): try TextFiles.text(path)
      default: throw InputFailure("give either --text or --file")
      }
    let tokenizer = try ModelOptions.loadTokenizer(arguments)
    let ids = tokenizer.encode(input, addSpecialTokens: !arguments[noSpecialTokens])
    switch (arguments[count], arguments[JSONOption.json]) {
    case (true, true): try StandardOutput.write("{\"count\": \(ids.count)}\n")
    case (true, false): try StandardOutput.write("\(ids.count)\n")
    case (false, true):
      try StandardOutput.write("{\"ids\": [\(ids.map(\.description).joined(separator: ", "))]}\n")
    case (false, false): try StandardOutput.write(ids.map(\.description).joined(separator: " ") + "\n")
    }
  }
}
