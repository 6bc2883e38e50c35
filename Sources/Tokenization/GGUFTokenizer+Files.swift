import JSONValues

extension GGUFTokenizerMetadata {
  /// The same tokenizer as Hugging Face's `tokenizer.json` and `tokenizer_config.json`.
  ///
  /// Throws a `TokenizationError` that names the key.
  public func files(contextLength: Int) throws -> [(name: String, json: JSONValue)] {
    let parts = try GGUFTokenizer.parts(self)
    return [
      ("tokenizer.json", .object(try tokenizer(parts))),
      ("tokenizer_config.json", .object(configuration(parts, contextLength: contextLength))),
    ]
  }

  private func tokenizer(_ parts: TokenizerParts) throws(TokenizationError) -> JSONObject {
    let isByteLevel = model == "gpt2"
    return [
      "version": "1.0", "truncation": .null, "padding": .null,
      "added_tokens": .array(
        parts.addedTokens.sorted { $0.id < $1.id }.map { token in
          [
            "id": .integer(Int(token.id)), "content": .string(token.content), "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": .bool(token.isNormalized), "special": .bool(token.isSpecial),
          ]
        }),
      "normalizer": isByteLevel ? .null : model == "t5" ? unigramNormalizer : sentencePieceNormalizer,
      "pre_tokenizer": isByteLevel ? try byteLevelPreTokenizer() : .null, "post_processor": postProcessor(parts),
      "decoder": isByteLevel ? byteLevel : sentencePieceDecoder, "model": .object(try vocabulary(parts)),
    ]
  }

  private func vocabulary(_ parts: TokenizerParts) throws(TokenizationError) -> JSONObject {
    var ids = JSONObject()
    for (id, token) in tokens.enumerated() where ids[token] == nil { ids[token] = .integer(id) }
    var list: [JSONValue] = []
    switch parts.merges {
    case .ranked(let merges): list = merges.map { [.string($0.left), .string($0.right)] }
    case .scored: list = scoredMerges(ids)
    case .unigram:
      // `tokenizers` takes the least score of all for that of unknown characters: what is no plain piece, such as the
      // -10000 of rows that only fill a matrix, must not change it.
      let normal = scores.indices.filter { tokenTypes.isEmpty || tokenTypes[$0] == 1 }.map { scores[$0] }
      let least = normal.min() ?? 0
      let pieces: [JSONValue] = tokens.enumerated().map { id, token in
        [.string(token), .number(Double(id < scores.count ? max(scores[id], least) : least))]
      }
      return [
        "type": "Unigram", "unk_id": unkTokenID.map { .integer($0) } ?? .null, "vocab": .array(pieces),
        "byte_fallback": .bool(parts.usesByteFallback),
      ]
    }
    return [
      "type": "BPE", "dropout": .null, "unk_token": parts.unknownToken.map { .string($0) } ?? .null,
      "continuing_subword_prefix": .null, "end_of_word_suffix": .null, "fuse_unk": .bool(parts.fusesUnknown),
      "byte_fallback": .bool(parts.usesByteFallback), "ignore_merges": .bool(parts.ignoresMerges),
      "vocab": .object(ids), "merges": .array(list),
    ]
  }

  /// SentencePiece joins any two symbols whose text together is a token, the highest score first: every such pair, in
  /// that order.
  private func scoredMerges(_ ids: JSONObject) -> [JSONValue] {
    var merges: [(left: String, right: String, score: Float, ids: (Int, Int))] = []
    for (id, token) in tokens.enumerated() where id < scores.count && !scores[id].isNaN && token.utf8.count <= 1024 {
      if tokenTypes.indices.contains(id), tokenTypes[id] != 1 { continue }
      var cut = token.unicodeScalars.startIndex
      while true {
        token.unicodeScalars.formIndex(after: &cut)
        if cut >= token.unicodeScalars.endIndex { break }
        let (left, right) = (String(token.unicodeScalars[..<cut]), String(token.unicodeScalars[cut...]))
        guard let first = ids[left]?.integer, let second = ids[right]?.integer else { continue }
        merges.append((left, right, scores[id], (first, second)))
      }
    }
    merges.sort { ($1.score, $0.ids.0, $0.ids.1) < ($0.score, $1.ids.0, $1.ids.1) }
    return merges.map { [.string($0.left), .string($0.right)] }
  }

  private func byteLevelPreTokenizer() throws(TokenizationError) -> JSONValue {
    var steps: [JSONValue] = try GGUFPreTokenizer.named(pre).patterns.map { pattern in
      ["type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated", "invert": false]
    }
    steps.append([
      "type": "ByteLevel", "add_prefix_space": .bool(addSpacePrefix ?? false), "trim_offsets": true, "use_regex": false,
    ])
    return ["type": "Sequence", "pretokenizers": .array(steps)]
  }

  private var byteLevel: JSONValue {
    ["type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true]
  }

  private var sentencePieceNormalizer: JSONValue {
    let space: JSONValue = ["type": "Replace", "pattern": ["String": " "], "content": "\u{2581}"]
    let prefix: JSONValue = ["type": "Prepend", "prepend": "\u{2581}"]
    return ["type": "Sequence", "normalizers": .array((addSpacePrefix ?? true ? [prefix] : []) + [space])]
  }

  /// What SentencePiece does to a text before it cuts it, in the order in which it does: the rules, white space, the
  /// prefix, and signs for spaces.
  ///
  /// `tokenizers` applies the rules to one character as people see it at a time: those of several (`\r\n`, or a word of a
  /// model's own rules) come out otherwise.
  private var unigramNormalizer: JSONValue {
    func replace(_ pattern: String, _ content: String) -> JSONValue {
      ["type": "Replace", "pattern": ["Regex": .string(pattern)], "content": .string(content)]
    }
    var steps: [JSONValue] = []
    if !precompiledCharsmap.isEmpty {
      steps.append(["type": "Precompiled", "precompiled_charsmap": .string(Base64.encode(precompiledCharsmap))])
    }
    if removeExtraWhitespaces ?? false { steps += [replace("\\A +|[ \u{2581}]+\\z", ""), replace(" {2,}", " ")] }
    if addSpacePrefix ?? true { steps.append(["type": "Prepend", "prepend": "\u{2581}"]) }
    steps.append(["type": "Replace", "pattern": ["String": " "], "content": "\u{2581}"])
    return ["type": "Sequence", "normalizers": .array(steps)]
  }

  private var sentencePieceDecoder: JSONValue {
    var steps: [JSONValue] = [["type": "Replace", "pattern": ["String": "\u{2581}"], "content": " "]]
    if model == "llama" { steps.append(["type": "ByteFallback"]) }
    steps.append(["type": "Fuse"])
    if addSpacePrefix ?? true { steps.append(["type": "Strip", "content": " ", "start": 1, "stop": 0]) }
    return ["type": "Sequence", "decoders": .array(steps)]
  }

  /// What puts BOS before a text and EOS after it, where they belong there.
  private func postProcessor(_ parts: TokenizerParts) -> JSONValue {
    if parts.prefix.isEmpty && parts.suffix.isEmpty { return .null }
    var special = JSONObject()
    func tokens(_ ids: [Int32], _ type: Int) -> [JSONValue] {
      ids.map { id in
        let text = self.tokens[Int(id)]
        special[text] = ["id": .string(text), "ids": [.integer(Int(id))], "tokens": [.string(text)]]
        return ["SpecialToken": ["id": .string(text), "type_id": .integer(type)]]
      }
    }
    func sequence(_ name: JSONValue, _ type: Int) -> [JSONValue] {
      tokens(parts.prefix, type) + [["Sequence": ["id": name, "type_id": .integer(type)]]] + tokens(parts.suffix, type)
    }
    let single = sequence("A", 0)
    return [
      "type": "TemplateProcessing", "single": .array(single), "pair": .array(single + sequence("B", 1)),
      "special_tokens": .object(special),
    ]
  }

  private func configuration(_ parts: TokenizerParts, contextLength: Int) -> JSONObject {
    var object = JSONObject()
    for (name, content) in parts.specialTokens { object[name] = .string(content) }
    object["clean_up_tokenization_spaces"] = false
    object["model_max_length"] = .integer(contextLength)
    // The class that takes tokenizer.json as it stands; others build a tokenizer of their own from its parts.
    object["tokenizer_class"] = "PreTrainedTokenizerFast"
    let templates = chatTemplateSources
    if templates.count == 1, templates[0].name == ChatTemplates.standardName {
      object["chat_template"] = .string(templates[0].source)
    } else if !templates.isEmpty {
      object["chat_template"] = .array(templates.map { ["name": .string($0.name), "template": .string($0.source)] })
    }
    return object
  }
}
