import JSONValues

/// Reads `tokenizer.json`, the file of Hugging Face's `tokenizers`.
enum TokenizerJSON {
  /// Reads a whole file; `path` is named in errors.
  static func read(_ json: JSONValue, _ path: String) throws(TokenizationError) -> TokenizerParts {
    guard json.object != nil else {
      throw TokenizationError("\(path): the file must be a JSON object, not \(json.kind)")
    }
    var parts = TokenizerParts(place: "\(path): model")
    try readModel(json["model"], path, &parts)
    parts.normalizer = try Normalizer.read(json["normalizer"], at: "\(path): normalizer")
    parts.preTokenizer = try PreTokenizer.read(json["pre_tokenizer"], at: "\(path): pre_tokenizer")
    if let decoder = json["decoder"], !decoder.isNull {
      parts.decoder = try TokenDecoder.readStep(decoder, at: "\(path): decoder")
    }
    for (index, token) in (json["added_tokens"]?.array ?? []).enumerated() {
      guard let id = token["id"]?.integer.flatMap(Int32.init(exactly:)) else {
        throw TokenizationError("\(path): added_tokens[\(index)]: \"id\" is missing or no integer")
      }
      parts.addedTokens.append(try addedToken(token, id: id, at: "\(path): added_tokens[\(index)]"))
    }
    try readPostProcessor(json["post_processor"], at: "\(path): post_processor", &parts)
    return parts
  }

  /// Reads an added token's description.
  static func addedToken(
    _ value: JSONValue, id: Int32, at place: String
  ) throws(TokenizationError) -> AddedToken {
    guard let content = value["content"]?.string else { throw TokenizationError("\(place): \"content\" is missing") }
    let isSpecial = value["special"]?.bool ?? false
    return AddedToken(
      id: id, content: content, takesSpaceOnLeft: value["lstrip"]?.bool ?? false,
      takesSpaceOnRight: value["rstrip"]?.bool ?? false, isSingleWord: value["single_word"]?.bool ?? false,
      isNormalized: value["normalized"]?.bool ?? !isSpecial, isSpecial: isSpecial)
  }

  private static func readModel(
    _ model: JSONValue?, _ path: String, _ parts: inout TokenizerParts
  ) throws(TokenizationError) {
    guard let model, model.object != nil else { throw TokenizationError("\(path): \"model\" is missing") }
    // Old files do not say which model they have.
    let guess = model["merges"] != nil ? "BPE" : model["unk_id"] != nil ? "Unigram" : ""
    let type = model["type"]?.string ?? guess
    switch type {
    case "BPE": try readBytePairs(model, path, &parts)
    case "Unigram": try readUnigram(model, path, &parts)
    default:
      throw TokenizationError("\(path): the model type \"\(type)\" is not known; known are BPE and Unigram")
    }
  }

  private static func readUnigram(
    _ model: JSONValue, _ path: String, _ parts: inout TokenizerParts
  ) throws(TokenizationError) {
    guard let list = model["vocab"]?.array else {
      throw TokenizationError("\(path): \"model.vocab\" is missing or no array")
    }
    var scores: [Double] = []
    scores.reserveCapacity(list.count)
    parts.vocabulary.reserveCapacity(list.count)
    for (id, entry) in list.enumerated() {
      guard let text = entry[0]?.string, let score = entry[1]?.double, !score.isNaN else {
        throw TokenizationError("\(path): model.vocab[\(id)] must be a token and its score")
      }
      parts.vocabulary.append((text, id))
      scores.append(score)
    }
    var unknown = -1
    if let value = model["unk_id"], !value.isNull {
      guard let id = value.integer, list.indices.contains(id) else {
        throw TokenizationError("\(path): model.unk_id must be the id of one of the \(list.count) tokens")
      }
      unknown = id
    }
    let (least, greatest) = (scores.min() ?? 0, scores.max() ?? 0)
    parts.merges = .unigram(
      TokenizerParts.Unigram(
        scores: scores, range: least...greatest,
        options: UnigramEncoder.Options(
          unknown: Int32(truncatingIfNeeded: unknown), usesByteFallback: model["byte_fallback"]?.bool ?? false)))
  }

  private static func readBytePairs(
    _ model: JSONValue, _ path: String, _ parts: inout TokenizerParts
  ) throws(TokenizationError) {
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
      if let text = model[key]?.string, !text.isEmpty {
        throw TokenizationError("\(path): model.\(key) \"\(text)\" is not known; it must be null or empty")
      }
    }
    guard let vocabulary = model["vocab"]?.object else {
      throw TokenizationError("\(path): \"model.vocab\" is missing or no object")
    }
    parts.vocabulary.reserveCapacity(vocabulary.count)
    for (text, id) in vocabulary {
      guard let id = id.integer else {
        throw TokenizationError("\(path): model.vocab: the id of \"\(text)\" is \(id.kind), not an integer")
      }
      parts.vocabulary.append((text, id))
    }
    guard let list = model["merges"]?.array else {
      throw TokenizationError("\(path): \"model.merges\" is missing or no array")
    }
    var merges: [(left: String, right: String)] = []
    merges.reserveCapacity(list.count)
    for (index, merge) in list.enumerated() {
      guard let pair = pair(merge) ?? merge.string.flatMap({ ambiguousPair($0, vocabulary) }) else {
        throw TokenizationError("\(path): model.merges[\(index)] must be two tokens")
      }
      merges.append(pair)
    }
    parts.merges = .ranked(merges)
    parts.ignoresMerges = model["ignore_merges"]?.bool ?? false
    parts.usesByteFallback = model["byte_fallback"]?.bool ?? false
    parts.fusesUnknown = model["fuse_unk"]?.bool ?? false
    parts.unknownToken = model["unk_token"]?.string
  }

  private static func pair(_ merge: JSONValue) -> (left: String, right: String)? {
    if let text = merge.string { return pair(text) }
    guard let two = merge.array, two.count == 2, let left = two[0].string, let right = two[1].string else { return nil }
    return (left, right)
  }

  /// The two tokens of a merge that is written with a space between them.
  static func pair(_ text: String) -> (left: String, right: String)? {
    let bytes = text.utf8
    guard let space = bytes.firstIndex(of: 0x20) else { return nil }
    let right = bytes[bytes.index(after: space)...]
    guard !right.contains(0x20), let left = String(bytes[..<space]), let right = String(right) else { return nil }
    return (left, right)
  }

  /// The two tokens of a merge whose tokens have spaces themselves: the first way to cut it that makes sense.
  private static func ambiguousPair(_ text: String, _ vocabulary: JSONObject) -> (left: String, right: String)? {
    let bytes = text.utf8
    for index in bytes.indices where bytes[index] == 0x20 {
      guard let left = String(bytes[..<index]), let right = String(bytes[bytes.index(after: index)...]),
        vocabulary[left] != nil, vocabulary[right] != nil, vocabulary[left + right] != nil
      else { continue }
      return (left, right)
    }
    return nil
  }

  private static func readPostProcessor(
    _ value: JSONValue?, at place: String, _ parts: inout TokenizerParts
  ) throws(TokenizationError) {
    guard let value, !value.isNull else { return }
    switch value["type"]?.string {
    case "ByteLevel": break
    case "Sequence":
      for (index, step) in (value["processors"]?.array ?? []).enumerated() {
        try readPostProcessor(step, at: "\(place).processors[\(index)]", &parts)
      }
    case "TemplateProcessing":
      var before: [Int32] = []
      var after: [Int32] = []
      var isAfter = false
      for item in value["single"]?.array ?? [] {
        if item["Sequence"] != nil {
          isAfter = true
          continue
        }
        guard let name = item["SpecialToken"]?["id"]?.string, let ids = value["special_tokens"]?[name]?["ids"]?.array
        else { throw TokenizationError("\(place): a special token of \"single\" is not among \"special_tokens\"") }
        let numbers = ids.compactMap { $0.integer.flatMap(Int32.init(exactly:)) }
        if isAfter { after += numbers } else { before += numbers }
      }
      parts.prefix = before + parts.prefix
      parts.suffix += after
    case "BertProcessing", "RobertaProcessing":
      func id(_ key: String) -> [Int32] {
        [value[key]?[1]?.integer.flatMap(Int32.init(exactly:))].compactMap { $0 }
      }
      parts.prefix = id("cls") + parts.prefix
      parts.suffix += id("sep")
    default:
      throw TokenizationError(
        "\(place): the post-processor \"\(value["type"]?.string ?? "")\" is not known; known are ByteLevel, "
          + "TemplateProcessing, BertProcessing, RobertaProcessing and Sequence")
    }
  }
}
