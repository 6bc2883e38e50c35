import CommandLineParsing
import JSONValues
import Swiftlet
import Tokenization

/// `swiftlet tokenize`: the token ids of a text, or of many.
enum TokenizeCommand: RunnableCommand {
  private static let model = Argument(
    "MODEL",
    "A Hugging Face folder, a .gguf file, OWNER/NAME on the hub, or a tokenizer's own file: tokenizer.json, a "
      + "SentencePiece .model, a .tiktoken list, tekken.json, vocab.json beside merges.txt.")
  private static let text = Option<String?>("text", "TEXT", "The text.")
  private static let file = Option<String?>("file", "FILE", "A file with the text; - reads standard input.")
  private static let batch = Option(
    flag: "batch", "The file holds many texts, a JSON string on each line; the ids of each are printed on a line.")
  private static let count = Option(flag: "count", "Print only how many tokens there are.")
  private static let noSpecialTokens = Option(
    flag: "no-special-tokens", "Add no beginning or end token.")
  private static let noParseSpecial = Option(
    flag: "no-parse-special", "Take special tokens that are written in the text for text.")
  private static let offsets = Option(
    flag: "offsets", "With --json or --batch: also where each token lies in the text's UTF-8 bytes.")
  private static let decoded = Option(
    flag: "decoded", "With --json or --batch: also the text that the ids stand for.")

  static let command = Command(
    name: "tokenize", summary: "Print the token ids of a text.",
    examples: [
      "model.gguf --text \"Hello world\"", "model/ --file book.txt --count",
      "tokenizer.model --file texts.jsonl --batch",
    ],
    arguments: [model.declaration],
    options: [
      text.declaration, file.declaration, batch.declaration, count.declaration, noSpecialTokens.declaration,
      noParseSpecial.declaration, offsets.declaration, decoded.declaration, JSONOption.json.declaration,
    ])

  static func run(_ arguments: ParsedArguments) throws {
    if arguments[batch] { return try runBatch(arguments) }
    let input =
      switch (arguments[text], arguments[file]) {
      case (.some(let text), nil): text
      case (nil, .some(let path)): try TextFiles.text(path)
      default: throw InputFailure("give either --text or --file")
      }
    let tokenizer = try ModelOptions.loadTokenizer(arguments)
    if arguments[JSONOption.json] {
      try StandardOutput.write(json(input, tokenizer, arguments) + "\n")
    } else {
      let ids = encode(input, tokenizer, arguments)
      try StandardOutput.write((arguments[count] ? "\(ids.count)" : list(ids, " ")) + "\n")
    }
  }

  /// Prints a line for each line of a file.
  private static func runBatch(_ arguments: ParsedArguments) throws {
    guard let path = arguments[file], arguments[text] == nil else {
      throw InputFailure("--batch needs --file, a file with a JSON string on each line")
    }
    let bytes = try TextFiles.bytes(path)
    let tokenizer = try ModelOptions.loadTokenizer(arguments)
    let asJSON = arguments[JSONOption.json] || arguments[offsets] || arguments[decoded]
    var output = ""
    for (index, line) in bytes.split(separator: 0x0A).enumerated() {
      let value: JSONValue
      do {
        value = try JSONValue.parse(Array(line))
      } catch {
        throw InputFailure("\(path): text \(index + 1): \(error.message)")
      }
      guard let text = value.string ?? value["text"]?.string else {
        throw InputFailure("\(path): text \(index + 1) must be a JSON string, or an object with one under \"text\"")
      }
      if asJSON {
        output += json(text, tokenizer, arguments)
      } else {
        let ids = encode(text, tokenizer, arguments)
        output += arguments[count] ? "\(ids.count)" : list(ids, " ")
      }
      output += "\n"
      if output.utf8.count > 1 << 16 {
        try StandardOutput.write(output)
        output = ""
      }
    }
    try StandardOutput.write(output)
  }

  private static func encode(_ text: String, _ tokenizer: Tokenizer, _ arguments: ParsedArguments) -> [Int32] {
    tokenizer.encode(
      text, addSpecialTokens: !arguments[noSpecialTokens], parseSpecialTokens: !arguments[noParseSpecial])
  }

  private static func json(_ text: String, _ tokenizer: Tokenizer, _ arguments: ParsedArguments) -> String {
    let ids: [Int32]
    var ranges: [Range<Int>] = []
    if arguments[offsets] {
      let encoding = tokenizer.encodeWithOffsets(
        text, addSpecialTokens: !arguments[noSpecialTokens], parseSpecialTokens: !arguments[noParseSpecial])
      (ids, ranges) = (encoding.ids, encoding.ranges)
    } else {
      ids = encode(text, tokenizer, arguments)
    }
    if arguments[count] { return "{\"count\": \(ids.count)}" }
    var result = "{\"ids\": [\(list(ids, ", "))]"
    if arguments[offsets] {
      let pairs = ranges.map { "[\($0.lowerBound), \($0.upperBound)]" }
      result += ", \"offsets\": [\(pairs.joined(separator: ", "))]"
    }
    if arguments[decoded] { result += ", \"text\": " + JSONValue.string(tokenizer.decode(ids)).serialized() }
    return result + "}"
  }

  private static func list(_ ids: [Int32], _ separator: String) -> String {
    ids.map(\.description).joined(separator: separator)
  }
}
