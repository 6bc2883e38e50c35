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

  private static let decode = Option(
    flag: "decode",
    "The other way: the text holds ids, and the text that they stand for is printed; --no-special-tokens leaves special "
      + "tokens out of it. With --batch a JSON array of ids on each line becomes a JSON string.")

  static let command = Command(
    name: "tokenize", summary: "Print the token ids of a text.",
    examples: [
      "model.gguf --text \"Hello world\"", "model/ --file book.txt --count",
      "tokenizer.model --file texts.jsonl --batch", "model/ --decode --text \"15339 1917\"",
    ],
    arguments: [model.declaration],
    options: [
      text.declaration, file.declaration, batch.declaration, count.declaration, noSpecialTokens.declaration,
      noParseSpecial.declaration, offsets.declaration, decoded.declaration, decode.declaration,
      JSONOption.json.declaration,
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
    if arguments[decode] {
      let text = tokenizer.decode(try ids(input), skipSpecialTokens: arguments[noSpecialTokens])
      let output = arguments[JSONOption.json] ? JSONValue.object(["text": .string(text)]).serialized() : text
      return try StandardOutput.write(output + "\n")
    }
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
    let lines = bytes.split(separator: 0x0A)
    // So many at a time that threads have enough to do, and few enough that the first lines come soon.
    for start in stride(from: 0, to: lines.count, by: 4096) {
      let results = try parallelMap(start..<min(start + 4096, lines.count), threads: CPUDevice.threadCount) { index in
        try result(of: lines[index], at: "\(path): text \(index + 1)", tokenizer, arguments, asJSON: asJSON)
      }
      try StandardOutput.write(results.joined())
    }
  }

  /// What is printed for a line of a batch.
  private static func result(
    of line: ArraySlice<UInt8>, at place: String, _ tokenizer: Tokenizer, _ arguments: ParsedArguments, asJSON: Bool
  ) throws -> String {
    let value: JSONValue
    do {
      value = try JSONValue.parse(Array(line))
    } catch {
      throw InputFailure("\(place): \(error.message)")
    }
    if arguments[decode] {
      guard let ids = value.array?.compactMap({ $0.integer.flatMap(Int32.init(exactly:)) }),
        ids.count == value.array?.count
      else { throw InputFailure("\(place) must be a JSON array of ids") }
      let text = tokenizer.decode(ids, skipSpecialTokens: arguments[noSpecialTokens])
      return JSONValue.string(text).serialized() + "\n"
    }
    guard let text = value.string ?? value["text"]?.string else {
      throw InputFailure("\(place) must be a JSON string, or an object with one under \"text\"")
    }
    if asJSON { return json(text, tokenizer, arguments) + "\n" }
    let ids = encode(text, tokenizer, arguments)
    return (arguments[count] ? "\(ids.count)" : list(ids, " ")) + "\n"
  }

  /// Ids that are separated by white space or commas, in brackets or not.
  private static func ids(_ text: String) throws -> [Int32] {
    try text.split { $0.isWhitespace || $0 == "," || $0 == "[" || $0 == "]" }.map { word in
      guard let id = Int32(word) else { throw InputFailure("\"\(word)\" is no id; --decode takes numbers") }
      return id
    }
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
