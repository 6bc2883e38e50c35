import Glibc
import JSONValues

extension Tokenizer {
  /// Reads the tokenizer of a model folder.
  ///
  /// The vocabulary is in the first of these that is there: `tokenizer.json`, `tokenizer.model` (SentencePiece, or Llama
  /// 3's list of ranks), `tekken.json`, `vocab.json` with `merges.txt`, `*.tiktoken`, `*.model`.
  /// `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`, `generation_config.json`,
  /// `chat_template.jinja` and `additional_chat_templates` are read where they are. Throws a `TokenizationError` that
  /// names the file and the key.
  ///
  /// - Parameters:
  ///   - folder: The model's folder.
  ///   - chatTemplate: The template to use instead of the model's own, which are then not read.
  public convenience init(folder: String, chatTemplate: ChatTemplate? = nil) throws {
    try self.init(
      TokenizerFiles.read(
        TokenizerSource.find(in: folder), folder: folder, templates: chatTemplate.map { ChatTemplates($0) }))
  }

  /// Reads the tokenizer in one file: `tokenizer.json`, a SentencePiece model, a list of tokens by rank (tiktoken),
  /// `tekken.json`, or `vocab.json` with `merges.txt` beside it.
  ///
  /// Nothing else in its folder is read, so special tokens are what the file itself says. Throws a
  /// `TokenizationError` that names the file and the key.
  public convenience init(file: String, chatTemplate: ChatTemplate? = nil) throws {
    try self.init(
      TokenizerFiles.read(
        TokenizerSource.ofFile(file), folder: nil, templates: chatTemplate.map { ChatTemplates($0) }))
  }

  /// Reads the tokenizer of a model folder or in one file.
  public convenience init(path: String, chatTemplate: ChatTemplate? = nil) throws {
    var status = stat()
    let isFolder = stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    if isFolder {
      try self.init(folder: path, chatTemplate: chatTemplate)
    } else {
      try self.init(file: path, chatTemplate: chatTemplate)
    }
  }
}

/// Reads a tokenizer and the files beside it that say more about it.
enum TokenizerFiles {
  /// Reads a source, and what `folder` says beside it; `templates` stand for those of the folder.
  static func read(
    _ source: TokenizerSource, folder: String?, templates: ChatTemplates? = nil
  ) throws(TokenizationError) -> TokenizerParts {
    func neighbour(_ name: String) throws(TokenizationError) -> JSONValue? {
      guard let folder else { return nil }
      return try TextFile.json(folder + "/" + name)
    }
    let config = try neighbour("tokenizer_config.json")
    var parts = try readVocabulary(source, config, modelType: neighbour("config.json")?["model_type"]?.string)
    guard let folder else {
      parts.chatTemplates = templates ?? parts.chatTemplates
      return parts
    }
    let map = try neighbour("special_tokens_map.json")
    if case .json = source {} else { try addTokens(neighbour("added_tokens.json"), folder, &parts) }
    try addTokens(described: config, folder + "/tokenizer_config.json", &parts)
    try readSpecialTokens(config, map, folder, &parts)
    if case .json = source {} else { overridePostProcessor(config, &parts) }
    if let templates {
      parts.chatTemplates = templates
    } else {
      parts.chatTemplates = try ChatTemplates(folder: folder, configuration: config)
    }
    let ends = try neighbour("generation_config.json")?["eos_token_id"]
    for id in ends?.array ?? [ends].compactMap({ $0 }) {
      if let id = id.integer, let id = Int32(exactly: id), id >= 0 { parts.moreEndTokenIDs.append(id) }
    }
    return parts
  }

  private static func readVocabulary(
    _ source: TokenizerSource, _ config: JSONValue?, modelType: String?
  ) throws(TokenizationError) -> TokenizerParts {
    switch source {
    case .json(let path):
      guard let json = try TextFile.json(path) else { throw TokenizationError("\(path): no such file") }
      return try TokenizerJSON.read(json, path)
    case .sentencePiece(let path):
      let file = try SentencePieceFile(bytes(path), path: path)
      return try SentencePieceTokenizer.parts(file, path, isLegacy: config?["legacy"]?.bool ?? true)
    case .ranks(let path):
      return try RankedTokenizer.parts(
        TokenRanks(bytes(path), path: path), path, modelType: modelType ?? config?["tokenizer_class"]?.string)
    case .tekken(let path):
      guard let json = try TextFile.json(path) else { throw TokenizationError("\(path): no such file") }
      return try TekkenFile.parts(json, path)
    case .vocabularyAndMerges(let vocabulary, let merges):
      return try VocabularyAndMerges.parts(
        vocabulary, merges, tokenizerClass: config?["tokenizer_class"]?.string, modelType: modelType,
        addsPrefixSpace: config?["add_prefix_space"]?.bool ?? false)
    }
  }

  private static func bytes(_ path: String) throws(TokenizationError) -> [UInt8] {
    guard let bytes = try TextFile.read(path) else { throw TokenizationError("\(path): no such file") }
    return bytes
  }

  // MARK: Tokens

  /// Adds the tokens of `added_tokens.json`, texts and their ids.
  private static func addTokens(
    _ map: JSONValue?, _ folder: String, _ parts: inout TokenizerParts
  ) throws(TokenizationError) {
    guard let map = map?.object else { return }
    var known = Set(parts.addedTokens.map { Array($0.content.utf8) })
    for (text, id) in map {
      guard let id = id.integer.flatMap(Int32.init(exactly:)) else {
        throw TokenizationError("\(folder)/added_tokens.json: the id of \"\(text)\" is \(id.kind), not an integer")
      }
      guard !text.isEmpty, known.insert(Array(text.utf8)).inserted else { continue }
      parts.addedTokens.append(AddedToken(id: id, content: text, isNormalized: true))
    }
  }

  /// Takes in what tokenizer_config.json says of added tokens: of those that there are already, how they are found.
  private static func addTokens(
    described config: JSONValue?, _ path: String, _ parts: inout TokenizerParts
  ) throws(TokenizationError) {
    guard let tokens = config?["added_tokens_decoder"]?.object else { return }
    var places: [[UInt8]: Int] = [:]
    for (place, token) in parts.addedTokens.enumerated() { places[Array(token.content.utf8)] = place }
    for (key, value) in tokens {
      guard let id = Int32(key) else { throw TokenizationError("\(path): added_tokens_decoder: \"\(key)\" is no id") }
      let token = try TokenizerJSON.addedToken(value, id: id, at: "\(path): added_tokens_decoder.\(key)")
      if let place = places[Array(token.content.utf8)] {
        parts.addedTokens[place] = token.with(id: parts.addedTokens[place].id)
      } else {
        places[Array(token.content.utf8)] = parts.addedTokens.count
        parts.addedTokens.append(token)
      }
    }
  }

  private static let specialNames = [
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
  ]

  private static func readSpecialTokens(
    _ config: JSONValue?, _ map: JSONValue?, _ folder: String, _ parts: inout TokenizerParts
  ) throws(TokenizationError) {
    var described: [JSONValue] = []
    for name in specialNames {
      // A file that names a token, or says that there is none, is believed; one that does not is passed over.
      guard let value = config?[name] ?? map?[name] else { continue }
      parts.specialTokens.removeAll { $0.name == name }
      parts.specialTokenIDs[name] = nil
      guard let content = value.string ?? value["content"]?.string else { continue }
      parts.specialTokens.append((name, content))
      described.append(value)
    }
    for list in [config, map] {
      for key in ["additional_special_tokens", "extra_special_tokens"] {
        described += list?[key]?.array ?? list?[key]?.object?.map(\.value) ?? []
      }
    }
    let ids = ids(of: described.compactMap { $0.string ?? $0["content"]?.string }, parts)
    for (name, content) in parts.specialTokens where config?[name] ?? map?[name] != nil {
      parts.specialTokenIDs[name] = ids[Array(content.utf8)].flatMap(Int32.init(exactly:))
      if parts.specialTokenIDs[name] == nil {
        parts.remarks.append("\(folder): \(name) is \"\(content)\", which is not in the vocabulary")
      }
    }
    parts.specialTokens.sort { left, right in
      (specialNames.firstIndex(of: left.name) ?? 0) < (specialNames.firstIndex(of: right.name) ?? 0)
    }
    // A special token is found in texts even where no list of added tokens has it.
    var known = Set(parts.addedTokens.map { Array($0.content.utf8) })
    for value in described {
      guard let content = value.string ?? value["content"]?.string, !content.isEmpty,
        let id = ids[Array(content.utf8)].flatMap(Int32.init(exactly:)), known.insert(Array(content.utf8)).inserted
      else { continue }
      parts.addedTokens.append(
        AddedToken(
          id: id, content: content, takesSpaceOnLeft: value["lstrip"]?.bool ?? false,
          takesSpaceOnRight: value["rstrip"]?.bool ?? false, isSingleWord: value["single_word"]?.bool ?? false,
          isNormalized: value["normalized"]?.bool ?? false, isSpecial: true))
    }
  }

  /// The ids of some texts that are tokens.
  private static func ids(of texts: [String], _ parts: TokenizerParts) -> [[UInt8]: Int] {
    let wanted = texts.map { Array($0.utf8) }
    let lengths = Set(wanted.map(\.count))
    var ids: [[UInt8]: Int] = [:]
    func note(_ text: String, _ id: Int) {
      guard lengths.contains(text.utf8.count) else { return }
      for bytes in wanted where text.utf8.elementsEqual(bytes) { ids[bytes] = id }
    }
    for (text, id) in parts.vocabulary { note(text, id) }
    for token in parts.addedTokens { note(token.content, Int(token.id)) }
    return ids
  }

  /// Lets `add_bos_token` and `add_eos_token` have their way.
  ///
  /// A tokenizer.json says itself what goes around a text; beside it, transformers does not look at these keys.
  private static func overridePostProcessor(_ config: JSONValue?, _ parts: inout TokenizerParts) {
    func ids(_ name: String, _ isAdded: Bool) -> [Int32] {
      isAdded ? [parts.specialTokenIDs[name]].compactMap { $0 } : []
    }
    if let adds = config?["add_bos_token"]?.bool { parts.prefix = ids("bos_token", adds) }
    if let adds = config?["add_eos_token"]?.bool { parts.suffix = ids("eos_token", adds) }
  }
}
