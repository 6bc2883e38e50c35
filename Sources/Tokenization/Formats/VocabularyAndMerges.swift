import JSONValues

/// Reads GPT-2's pair of files: `vocab.json`, tokens and their ids, and `merges.txt`, a merge a line.
enum VocabularyAndMerges {
  /// The parts of a tokenizer; how texts are cut follows from the kind of tokenizer or model that the folder names.
  static func parts(
    _ vocabularyPath: String, _ mergesPath: String, tokenizerClass: String?, modelType: String?, addsPrefixSpace: Bool
  ) throws(TokenizationError) -> TokenizerParts {
    guard let json = try TextFile.json(vocabularyPath) else {
      throw TokenizationError("\(vocabularyPath): no such file; merges.txt needs a vocab.json beside it")
    }
    guard let vocabulary = json.object else {
      throw TokenizationError("\(vocabularyPath): the file must be a JSON object of tokens and ids, not \(json.kind)")
    }
    var parts = TokenizerParts(place: mergesPath)
    parts.vocabulary.reserveCapacity(vocabulary.count)
    for (text, id) in vocabulary {
      guard let id = id.integer else {
        throw TokenizationError("\(vocabularyPath): the id of \"\(text)\" is \(id.kind), not an integer")
      }
      parts.vocabulary.append((text, id))
    }
    guard let merges = try TextFile.read(mergesPath) else {
      throw TokenizationError("\(mergesPath): no such file; vocab.json needs a merges.txt beside it")
    }
    parts.merges = .ranked(try readMerges(merges, mergesPath))
    let kind = (tokenizerClass ?? modelType ?? "").lowercased()
    if kind.hasPrefix("qwen") {
      parts.normalizer = .canonicalForm(.composed)
      let pattern = kind.hasPrefix("qwen3_5") ? KnownPatterns.qwen35 : KnownPatterns.cl100k(digits: "")
      parts.preTokenizer = try KnownPatterns.byteLevel([pattern], addsPrefixSpace: addsPrefixSpace)
    } else {
      parts.preTokenizer = try KnownPatterns.byteLevel([KnownPatterns.gpt2], addsPrefixSpace: addsPrefixSpace)
    }
    parts.decoder = .byteLevel
    readSpecialTokens(kind, &parts)
    return parts
  }

  private static func readMerges(
    _ bytes: [UInt8], _ path: String
  ) throws(TokenizationError) -> [(left: String, right: String)] {
    var merges: [(left: String, right: String)] = []
    let version = Array("#version".utf8)
    for (index, line) in bytes.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated() {
      let line = line.last == 0x0D ? line.dropLast() : line
      if line.isEmpty || line.starts(with: version) { continue }
      guard let text = String(validating: line, as: UTF8.self), let pair = TokenizerJSON.pair(text),
        !pair.left.isEmpty, !pair.right.isEmpty
      else { throw TokenizationError("\(path):\(index + 1): must be two tokens with a space between them") }
      merges.append(pair)
    }
    return merges
  }

  /// GPT-2 and its kin end texts with `<|endoftext|>`, which no file of theirs says.
  private static func readSpecialTokens(_ kind: String, _ parts: inout TokenizerParts) {
    let text = "<|endoftext|>"
    guard let id = parts.vocabulary.first(where: { $0.text == text })?.id, let id = Int32(exactly: id) else { return }
    parts.addedTokens.append(AddedToken(id: id, content: text, isSpecial: true))
    for name in kind.hasPrefix("qwen") ? ["eos_token", "pad_token"] : ["bos_token", "eos_token", "unk_token"] {
      parts.specialTokens.append((name, text))
      parts.specialTokenIDs[name] = id
    }
  }
}
