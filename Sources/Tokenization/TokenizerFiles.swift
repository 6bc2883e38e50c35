import JSONValues

extension Tokenizer {
  /// Reads the tokenizer of a model folder in Hugging Face's layout.
  ///
  /// `tokenizer.json` must be there. `tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json` and
  /// `chat_template.jinja` are read where they are. Throws a `TokenizationError` that names the file and the key.
  public convenience init(folder: String) throws {
    try self.init(TokenizerFiles.read(folder))
  }
}

/// Reads the files of a model folder.
enum TokenizerFiles {
  static func read(_ folder: String) throws(TokenizationError) -> TokenizerParts {
    let path = folder + "/tokenizer.json"
    guard let json = try TextFile.json(path) else {
      throw TokenizationError("\(path): no such file; a model folder needs its tokenizer.json")
    }
    var parts = try readTokenizer(json, path)
    let config = try TextFile.json(folder + "/tokenizer_config.json")
    let map = try TextFile.json(folder + "/special_tokens_map.json")
    try addTokens(config, folder + "/tokenizer_config.json", &parts)
    try readSpecialTokens(config, map, folder, &parts)
    try readTemplates(config, folder, &parts)
    let generation = try TextFile.json(folder + "/generation_config.json")
    let ends = generation?["eos_token_id"]
    for id in ends?.array ?? [ends].compactMap({ $0 }) {
      if let id = id.integer, let id = Int32(exactly: id), id >= 0 { parts.moreEndTokenIDs.append(id) }
    }
    return parts
  }

  // MARK: tokenizer.json

  private static func readTokenizer(_ json: JSONValue, _ path: String) throws(TokenizationError) -> TokenizerParts {
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

  private static func addedToken(
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
    let type = model["type"]?.string ?? (model["merges"] == nil ? "" : "BPE")
    guard type == "BPE" else {
      throw TokenizationError("\(path): the model type \"\(type)\" is not known; known is BPE")
    }
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

  // MARK: tokenizer_config.json

  /// Adds the tokens that only tokenizer_config.json knows.
  private static func addTokens(
    _ config: JSONValue?, _ path: String, _ parts: inout TokenizerParts
  ) throws(TokenizationError) {
    guard let tokens = config?["added_tokens_decoder"]?.object else { return }
    let known = Set(parts.addedTokens.map { Array($0.content.utf8) })
    for (key, value) in tokens {
      guard let id = Int32(key) else { throw TokenizationError("\(path): added_tokens_decoder: \"\(key)\" is no id") }
      let token = try addedToken(value, id: id, at: "\(path): added_tokens_decoder.\(key)")
      if !known.contains(Array(token.content.utf8)) { parts.addedTokens.append(token) }
    }
  }

  private static let specialNames = [
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
  ]

  private static func readSpecialTokens(
    _ config: JSONValue?, _ map: JSONValue?, _ folder: String, _ parts: inout TokenizerParts
  ) throws(TokenizationError) {
    for name in specialNames {
      let value = config?[name] ?? map?[name]
      if let content = value?.string ?? value?["content"]?.string { parts.specialTokens.append((name, content)) }
    }
    var ids = [Int32?](repeating: nil, count: parts.specialTokens.count)
    func note(_ text: String, _ id: Int) {
      for (index, token) in parts.specialTokens.enumerated() where PythonText.isSame(token.content, text) {
        ids[index] = Int32(exactly: id)
      }
    }
    for (text, id) in parts.vocabulary { note(text, id) }
    for token in parts.addedTokens { note(token.content, Int(token.id)) }
    for (token, id) in zip(parts.specialTokens, ids) {
      parts.specialTokenIDs[token.name] = id
      if id == nil {
        parts.remarks.append("\(folder): \(token.name) is \"\(token.content)\", which is not in the vocabulary")
      }
    }
  }

  private static func readTemplates(
    _ config: JSONValue?, _ folder: String, _ parts: inout TokenizerParts
  ) throws(TokenizationError) {
    func template(_ source: String, _ place: String) throws(TokenizationError) -> ChatTemplate {
      do {
        return try ChatTemplate(source: source)
      } catch {
        throw TokenizationError("\(place): \(error)")
      }
    }
    let path = folder + "/tokenizer_config.json"
    if let bytes = try TextFile.read(folder + "/chat_template.jinja") {
      parts.chatTemplate = try template(String(decoding: bytes, as: UTF8.self), folder + "/chat_template.jinja")
    } else if let source = config?["chat_template"]?.string {
      parts.chatTemplate = try template(source, path)
    } else if let list = config?["chat_template"]?.array {
      for entry in list {
        guard let name = entry["name"]?.string, let source = entry["template"]?.string else {
          throw TokenizationError("\(path): chat_template: each entry needs \"name\" and \"template\"")
        }
        switch name {
        case "default": parts.chatTemplate = try template(source, path)
        case "tool_use": parts.toolChatTemplate = try template(source, path)
        default: break
        }
      }
    }
  }
}
